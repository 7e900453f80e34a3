# SPDX-License-Identifier: Apache-2.0
"""The daemon put together: client, watches, election, workers, sockets; how it starts, and how it ends.

Flags are `cli.py`'s, decisions `plan.py`'s.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from . import guard, plan
from .caretaker import Caretaker, Ties
from .catalogue import Catalogue, built_in
from .decision import described
from .errors import Busy
from .http import answer, serve
from .inventory import sweep_private
from .kube import Kube, connect
from .leader import Elector
from .metrics import CONTENT_TYPE, Metrics
from .model import Phase
from .reconcile import Reconciler
from .settings import Settings
from .watch import Watches

logger = logging.getLogger(__name__)

OK, FAILED, WAITING = 0, 1, 3
"""Exit codes: all done; something failed (or the Lease was lost); --once left something waiting."""
STOP_SECONDS = 5.0
REACH_SECONDS = 60.0
"""How long an API server may be busy at the start."""
BURY_SECONDS = 5.0
"""How often dead processes that runs have left to this one are taken leave of."""


class Daemon:
    """One process: built from Settings, run once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._kube: Kube = connect(settings.kubeconfig, settings.context, connections=settings.workers * 2 + 16)
        self._catalogue = Catalogue([built_in(), *settings.operations_dirs])
        self.reconciler = Reconciler(self._kube, settings, metrics=self.metrics, playbooks=self._catalogue.current)
        self._watches = Watches(self._kube, settings.namespaces, self._watch_failed)
        self._caretaker = self._caretaker_of(self.reconciler)
        self._elector = Elector(self._kube.api_client, settings)
        if settings.leader_elect:
            self.reconciler.term = lambda: self._elector.term
        self._stop = threading.Event()
        self._signals = 0
        self._lost = ""

    def _caretaker_of(self, of: Reconciler) -> Caretaker:
        ties = Ties(self._kube, of.store, of.live, queue=of.queue, recorder=of.recorder, metrics=self.metrics)
        caretaker = Caretaker(ties, self.settings)
        of.care = caretaker.look
        return caretaker

    def run(self) -> int:
        """Run until a signal, a lost Lease, or the end of --once; returns the exit code.

        Raises UserError when the cluster, the rights or an address to listen on are wrong.
        """
        self._reach()
        self._listen()
        guard.adopt_orphans()
        removed = sweep_private()
        if removed:
            logger.info("Removed %d private run directories that a killed process had left", removed)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        threading.excepthook = self._on_bug
        self._watches.start(self.reconciler.store)
        if not (self.settings.once or self.settings.dry_run):
            self._caretaker.nodes.start(self._kube)
        while not self._watches.wait(0.2):
            if self._stop.is_set():
                return OK
        if self.settings.dry_run:
            return self._show_plan()
        election = threading.Thread(target=self._elect, name="election", daemon=True)
        election.start()
        self._wait()
        return self._shut_down(election)

    def _reach(self) -> None:
        """Check the cluster. One that is busy is asked again for a while, one that is not there is not."""
        deadline, pause = time.monotonic() + REACH_SECONDS, 0.5
        while True:
            try:
                return self._kube.check()
            except Busy as error:
                if time.monotonic() + pause > deadline:
                    raise
                logger.warning("%s; asking again in %.1f s", error, pause)
            time.sleep(pause)
            pause = min(5.0, pause * 2)

    def _elect(self) -> None:
        if not self.settings.leader_elect:
            self._elector.is_leader = True
            self._lead()
            return
        self._elector.run(self._lead, self._lose)

    def _lead(self) -> None:
        count = len(self.reconciler.unfinished())
        logger.info("Leading as %s; %d unfinished Operation(s)", self.settings.identity, count)
        self.reconciler.start()
        if not self.settings.once:
            self._caretaker.start()

    def _lose(self, why: str) -> None:
        logger.error("No longer the leader: %s. Stopping all runs", why)
        self._lost = why
        self._caretaker.stop()
        self.reconciler.halt()
        self.reconciler.runs.stop_all("LeaseLost")
        self._stop.set()

    def _on_bug(self, args: threading.ExceptHookArgs) -> None:
        """End the process on what nobody expected: what is running is stopped, and goes on in the next one."""
        if args.exc_value is None:
            return
        logger.critical("A bug: the process ends", exc_info=args.exc_value)
        self._lost = "a bug"
        self._caretaker.stop()
        self.reconciler.halt()
        self.reconciler.runs.stop_all("Bug")
        self._stop.set()

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._stop.set()

    def _wait(self) -> None:
        buried = time.monotonic()
        while not self._stop.wait(0.2):
            if time.monotonic() - buried > BURY_SECONDS:
                self.reconciler.runs.bury()
                buried = time.monotonic()
            if self.settings.once and self._is_drained():
                return

    def _is_drained(self) -> bool:
        reconciler = self.reconciler
        if not self._elector.is_leader or reconciler.queue.depth(within=1.0) or len(reconciler.live):
            return False
        return all(_waits_for_somebody(o.condition("Complete").get("reason")) for o in reconciler.unfinished())

    def _shut_down(self, election: threading.Thread) -> int:
        reconciler = self.reconciler
        self._caretaker.stop()
        reconciler.halt()
        if len(reconciler.runs) and not self._lost:
            logger.info("Waiting up to %.0f s for %d run(s)", self.settings.drain_seconds, len(reconciler.runs))
            self._until(lambda: not len(reconciler.runs) or self._signals > 1, self.settings.drain_seconds)
        runs = reconciler.runs.stop_all("Shutdown")
        for run in runs:
            run.wait(STOP_SECONDS)
        if not self._lost:
            self._until(lambda: not reconciler.queue.depth(within=0.1), STOP_SECONDS)
        reconciler.queue.stop()
        reconciler.recorder.stop()
        self._elector.stop()
        election.join(STOP_SECONDS)
        self._watches.stop()
        self._caretaker.nodes.stop()
        return self._exit_code()

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _exit_code(self) -> int:
        if self._lost:
            return FAILED
        if not self.settings.once:
            return OK
        ended = self.reconciler.report.ended_in
        waiting = self.reconciler.unfinished()
        succeeded, failed = ended[Phase.SUCCEEDED], ended[Phase.FAILED]
        logger.info("Done: %d Succeeded, %d Failed, %d still waiting", succeeded, failed, len(waiting))
        for operation in waiting:
            logger.warning("%s/%s waits: %s", operation.namespace, operation.name, operation.status.get("message"))
        return FAILED if failed else WAITING if waiting else OK

    def _show_plan(self) -> int:
        """Print what would be done now, a line each; writes and starts nothing."""
        for key in sorted(self.reconciler.store.server_keys()):
            world = self.reconciler.world(key)
            for decision in plan.decisions(world, self.reconciler.policy):
                print(described(decision))
        self._watches.stop()
        return OK

    # -- sockets

    def _listen(self) -> None:
        metrics, store = self.metrics, self.reconciler.store
        metrics.observe("runs", self.reconciler.runs.__len__)
        metrics.observe("queue_depth", self.reconciler.queue.depth)
        metrics.observe("leader", lambda: float(self._elector.is_leader))
        for kind in ("Server", "ProvisioningProfile", "Operation"):
            metrics.observe("objects", partial(store.count, kind), kind=kind)
        page = {"/metrics": lambda: (200, CONTENT_TYPE, metrics.text())}
        serve(self.settings.metrics_address, page, "--metrics-bind-address")
        checks = {"/healthz": answer(self._ill), "/readyz": answer(self._unready)}
        serve(self.settings.health_address, checks, "--health-probe-bind-address")

    def _ill(self) -> str:
        names = {thread.name for thread in threading.enumerate()}
        if self._elector.is_leader and not self._stop.is_set() and not {"worker-0", "batcher"} <= names:
            return "the workers or the batcher have died"
        return ""

    def _unready(self) -> str:
        return "" if self._watches.synced else "the first lists have not been read yet"

    def _watch_failed(self, kind: str, error: Exception) -> None:
        self.metrics.watch_errors.labels(kind).inc()
        logger.warning("Watch of %s: %s", kind, str(error).split("\n", maxsplit=1)[0][:200])


def _waits_for_somebody(reason: object) -> bool:
    return reason in ("ServerNotFound", "ProfileNotFound", "SecretNotFound", "DatacenterUnknown", "ServerBusy")
