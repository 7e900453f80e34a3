# SPDX-License-Identifier: Apache-2.0
"""The order of steps for one Server: read what is known, let `plan.py` decide, act, report.

It decides nothing itself. All statuses of a Server and its Operations are written here, by one worker at a time.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from . import decision as to
from . import plan, status
from .batch import Batcher, forks
from .decision import Decision, Policy, World
from .errors import Conflict, Gone, ReconcilerError, WorldError
from .events import Recorder
from .inventory import tidy, write_run
from .kube import Kube
from .live import LiveRuns
from .metrics import Metrics
from .model import Job, Object, Operation, Outcome, Result, ServerKey, Term
from .queue import KeyQueue
from .report import Report
from .runner import Order, Run
from .runs import Runs
from .settings import Settings
from .watch import Store
from .witness import Witness

logger = logging.getLogger(__name__)


class Reconciler:
    """The daemon's middle: a store in, statuses and runs out."""

    def __init__(
        self, kube: Kube, settings: Settings, *, metrics: Metrics, playbooks: Callable[[], Mapping[str, str]]
    ) -> None:
        self.settings = settings
        self._policy = Policy(
            playbooks={},
            datacenters=settings.datacenters,
            default_deadline=settings.default_deadline,
            retry_base=settings.retry_base,
            retry_cap=settings.retry_cap,
        )
        self._playbooks = playbooks
        self.metrics = metrics
        self.queue: KeyQueue[ServerKey] = KeyQueue(backoff_cap=5.0)
        self.store = Store(self.queue.add)
        self.live = LiveRuns()
        self.runs = Runs(self.live)
        self.recorder = Recorder(kube)
        self.report = Report(self.recorder, metrics)
        self._kube = kube
        self._witness = Witness(kube, settings.datacenters)
        self._unclaimed_before: dict[str, int] = {}
        self._halted = threading.Event()
        self.term: Callable[[], Term | None] = Term  # in whose name it acts; None when that is over, or may be
        self.care: Callable[[ServerKey], None] = lambda key: None
        self._pool = ThreadPoolExecutor(max_workers=max(2, settings.workers), thread_name_prefix="claim")
        self._batcher = Batcher(settings, lambda: len(self.runs), self._launch)

    @property
    def policy(self) -> Policy:
        """The settings that decisions depend on, with the operations that there are at this moment."""
        return replace(self._policy, playbooks=self._playbooks())

    def start(self) -> None:
        """Start the workers. From here on this process acts: call it as the leader only."""
        self.recorder.start()
        self._batcher.start()
        for number in range(self.settings.workers):
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()
        for key in self.store.server_keys():
            self.queue.add(key)

    def halt(self) -> None:
        """Start no more runs."""
        self._halted.set()
        self._batcher.stop()

    # -- one look at one Server

    def _work(self) -> None:
        while (key := self.queue.get()) is not None:
            began = time.monotonic()
            outcome = "ok"
            try:
                self.look(key)
                self.queue.succeeded(key)
            except (Conflict, Gone) as error:  # the watch will tell what has changed meanwhile
                outcome = "conflict"
                logger.debug("%s", error)
                self.queue.failed(key)
            except Exception as error:
                outcome = "error"
                delay = self.queue.failed(key)
                known = isinstance(error, ReconcilerError)
                what = str(error).rstrip(".")
                logger.warning("Server %s/%s: %s. Again in %.1f s", *key, what, delay, exc_info=not known)
            finally:
                self.queue.done(key)
                self.metrics.reconciles.labels(outcome).inc()
                self.metrics.reconcile_seconds.observe(time.monotonic() - began)

    def look(self, key: ServerKey) -> None:
        """Decide for one Server and act."""
        self._require_term()
        world = self.world(key)
        for decision in plan.decisions(world, self.policy):
            self._act(world, decision)
        self.care(key)

    def world(self, key: ServerKey) -> World:
        """Return all that is known of one Server. Only a Secret that is about to be needed is read, and never kept."""
        server = self.store.server(key)
        operations = self.store.operations(key)
        profiles = self.store.profiles(key[0])
        live = {uid: self._witness.heard(item) for uid, item in self.live.of_server(key).items()}
        if server is not None and self._is_foreign(server.provider) and not live:
            server, operations = None, []  # its lock is another reconciler's too
        turn = plan.head(operations, server.active_operation if server else "", live)
        names = plan.secret_names(server, turn, profiles) if turn and turn.uid not in live else set()
        found = {name: self._kube.credentials(key[0], name) for name in names}
        return World(key, server, operations, profiles, found, live, datetime.now(UTC))

    def unfinished(self) -> list[Operation]:
        """Return the Operations that have not ended, as far as this process serves their Servers."""
        found = self.store.unfinished()
        servers = {operation.key: self.store.server(operation.key) for operation in found}
        return [o for o in found if (server := servers[o.key]) is None or not self._is_foreign(server.provider)]

    def _is_foreign(self, provider: str) -> bool:
        return bool(self.settings.providers) and provider not in self.settings.providers

    def _act(self, world: World, decision: Decision) -> None:
        match decision:
            case to.Start(job):
                self._begin(world, job)
            case to.Wait():
                self._wait(world, decision)
            case to.End():
                self._end(world, decision)
            case to.Retry():
                self._retry(world, decision)
            case to.Resume(operation):
                self.live.end(operation.uid)
                self.queue.add(world.key)
            case to.Stop(operation, reason):
                self._stop(operation, reason)
            case to.Stage():
                self._show(decision)
            case to.Unlock():
                self._unlock(world, decision)
            case to.Forget(operation):
                self._kube.delete_operation(operation.namespace, operation.name, operation.uid)
            case to.Recheck(after):
                self.queue.add(world.key, after=after)
            case to.NoteEdit(operation):
                self._note_edit(operation)

    # -- the acts

    def _begin(self, world: World, job: Job) -> None:
        if self._halted.is_set() or not self.live.begin(job.operation):
            return
        if len(self.runs) >= self.settings.max_runs and not job.operation.attempts:
            job = self._say_that_it_queues(world, job)
        self._batcher.add(job)

    def _say_that_it_queues(self, world: World, job: Job) -> Job:
        message = f"Waits for one of {self.settings.max_runs} runs to end (--max-runs)."
        try:
            patch = status.waiting(job.operation, "NoRunFree", message, world.now)
            return replace(job, operation=self._write_operation(job.operation, patch))
        except ReconcilerError:
            self.live.end(job.operation.uid)
            raise

    def _wait(self, world: World, wait: to.Wait) -> None:
        operation = wait.operation
        complete = operation.condition("Complete")
        if complete.get("reason") != wait.reason or operation.status.get("message") != wait.message:
            self._write_operation(operation, status.waiting(operation, wait.reason, wait.message, world.now))
            self.report.waits(operation, wait.reason, wait.message)
        if wait.recheck is not None:
            self.queue.add(world.key, after=wait.recheck)

    def _show(self, stage: to.Stage) -> None:
        uid = stage.operation.uid
        wait = self.live.to_show(uid)
        if wait > 0:
            self.queue.add(stage.operation.key, after=wait)
            return
        self.live.shown(uid)
        self._write_operation(stage.operation, status.staged(stage.stage, stage.job_id))

    def _end(self, world: World, end: to.End) -> None:
        """Write the Operation first: what a crash leaves of the Server is mended by Unlock, and nothing runs again."""
        operation, result, server = end.operation, end.result, world.server
        if server is not None and end.touched:
            result = self._witness.given_back(server, operation, result)
        if any(other.uid == operation.uid and not other.phase.is_final for other in world.operations):
            patch = status.ended(operation, result, world.now)
            self._write_operation(operation, patch)
            self.report.ended(operation, server, result=result, message=str(patch["message"]))
        holder = server.active_operation if server is not None else ""
        if server is not None and (holder == operation.name or (end.touched and not holder)):
            self._release(world, operation, result, touched=end.touched)
        self._unclaimed_before.pop(operation.uid, None)
        self.live.end(operation.uid)
        self.queue.add(world.key)

    def _release(self, world: World, operation: Operation, result: Result, *, touched: bool = True) -> None:
        if world.server is not None:
            patch = status.released(world.server, operation, result, world.now, touched=touched)
            self._write("Server", world.server.raw, patch)

    def _retry(self, world: World, retry: to.Retry) -> None:
        operation = retry.operation
        patch = status.retrying(operation, retry.result, retry.delay, world.now)
        self._write_operation(operation, patch)
        self.report.retried(operation, str(patch["message"]))
        self.live.end(operation.uid)
        self.queue.add(world.key, after=retry.delay)
        pinned = status.pinned(retry.result)
        if world.server is not None and pinned:
            self._write("Server", world.server.raw, pinned)

    def _stop(self, operation: Operation, reason: str) -> None:
        self.live.stop(operation.uid, reason)
        if self._batcher.remove(operation.uid):
            self.live.result(operation.uid, Result(Outcome.INTERRUPTED, "Interrupted", "It had not started."))
            self.queue.add(operation.key)
            return
        for run in self.runs.of(operation.uid):
            logger.info("Stopping run %s: Operation %s is %s", run.id, operation.name, reason)
            run.stop()

    def _unlock(self, world: World, unlock: to.Unlock) -> None:
        server, holder = unlock.server, unlock.holder
        if holder is not None:
            self._release(world, holder, status.remembered(holder))
            return
        item = self._kube.operation(server.namespace, server.active_operation)
        if item is not None:  # our watch had not told of it yet
            self.store.put("Operation", item)
            return
        gone = Operation.from_dict({"metadata": {"name": server.active_operation, "namespace": server.namespace}})
        message = "The Operation was deleted while it ran; the machine may be half done. Apply a new Operation."
        self._release(world, gone, Result(Outcome.FAILED, "Deleted", message, retryable=False))

    def _note_edit(self, operation: Operation) -> None:
        if operation.status.get("observedGeneration") == operation.generation:
            return
        self._write_operation(operation, {"observedGeneration": operation.generation})
        self.report.edit_ignored(operation)

    # -- writing

    def _write(self, kind: str, item: Object, patch: status.Patch) -> Object:
        meta = item["metadata"]
        version = meta.get("resourceVersion")
        if not status.is_news(item.get("status") or {}, patch):
            return item
        self._require_term()
        try:
            written = self._kube.patch_status(kind, meta["namespace"], meta["name"], patch, version=version)
        except Gone:
            self.store.drop(kind, item)  # our own late write may have put it back after its deletion was seen
            raise
        self.store.put(kind, written)
        return written

    def _require_term(self) -> None:
        """Refuse to act when another process may have taken over, be it unnoticed: a paused one wakes up anywhere."""
        if self.term() is None:
            raise WorldError("Failed to act: the Lease may be another's by now.")

    def _write_operation(self, operation: Operation, patch: status.Patch) -> Operation:
        return Operation.from_dict(self._write("Operation", operation.raw, patch))

    # -- runs

    def _launch(self, jobs: list[Job]) -> None:
        act, term = jobs[0].operation.act, self.term() or Term()
        run_id = f"{act}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        claimed = [job for job in self._pool.map(lambda job: self._claim(job, run_id), jobs) if job is not None]
        if not claimed:
            return
        try:
            files = write_run(self.settings, run_id, claimed, term=term)
        except (OSError, ValueError) as error:
            retryable = isinstance(error, OSError)
            reason = "RunNotPrepared" if retryable else "InvalidSpec"
            message = f"Failed to prepare the run in {self.settings.runs_dir}: {error}"
            for job in claimed:
                self.resulted(job, Result(Outcome.CRASHED, reason, message, retryable=retryable))
            return
        count = forks(claimed, self.settings, os.cpu_count() or 1)
        order = Order(run_id, claimed, files, count, self.settings)
        run = Run(order, self)
        self.runs.add(run)
        self.metrics.run_hosts.observe(len(claimed))
        logger.info("Run %s: %s on %d host(s), %d forks", run_id, act, len(claimed), order.forks)
        if self._halted.is_set() or any(self.live.is_stopping(job.operation.uid) for job in claimed):
            run.stop()
        run.start()

    def _claim(self, job: Job, run_id: str) -> Job | None:
        """Write the lock and phase Running; None when the objects have changed meanwhile or we are halted."""
        operation, now = job.operation, datetime.now(UTC)
        if self._halted.is_set():
            return None
        try:
            job = self._witness.met(job)
            lock, running = status.claimed(job.server, operation, now), status.running(operation, run_id, job, now)
            server = self._write("Server", job.server.raw, lock)
            item = self._write("Operation", operation.raw, running)
        except ReconcilerError as error:
            self._unclaimed(operation, error)
            return None
        self._unclaimed_before.pop(operation.uid, None)
        self.live.claimed(job, run_id)
        self.report.started(operation, item, server)
        return job

    def _unclaimed(self, operation: Operation, error: ReconcilerError) -> None:
        """Let an Operation that could not be claimed be decided anew, soon at first, then later and later."""
        times = self._unclaimed_before.get(operation.uid, 0)
        self._unclaimed_before[operation.uid] = times + 1
        level = logging.DEBUG if isinstance(error, Conflict) and times < 5 else logging.WARNING
        logger.log(level, "Failed to start Operation %s/%s: %s", operation.namespace, operation.name, error)
        self.live.end(operation.uid)
        self.queue.add(operation.key, after=min(30.0, 0.1 * 2.0 ** min(times, 20)))

    # -- what runs say (runner.Listener)

    def staged(self, job: Job, stage: str, facts: Mapping[str, str]) -> None:
        """Take note of a step and show it when its turn has come."""
        delay = self.live.stage(job.operation.uid, stage, facts)
        if delay is not None:
            self.queue.add(job.operation.key, after=delay)

    def resulted(self, job: Job, result: Result) -> None:
        """Take note of a host's end; the worker of its Server writes it."""
        self.live.result(job.operation.uid, result)
        self.queue.add(job.operation.key)

    def run_ended(self, run: Run) -> None:
        """Make room for the next batch and tidy up old run directories."""
        self.runs.remove(run)
        self.metrics.run_seconds.observe(time.monotonic() - run.started)
        self._batcher.wake()
        tidy(self.settings, self.runs.ids())
