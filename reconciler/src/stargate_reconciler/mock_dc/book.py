# SPDX-License-Identifier: Apache-2.0
"""All jobs and servers of the mock datacenter: who may start, what happens when, who waits for what.

One lock, one timer thread. Bounded: ended jobs go, oldest first. HTTP does not belong here.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stargate_reconciler.mock_dc import state
from stargate_reconciler.mock_dc.job import STEPS, Job
from stargate_reconciler.mock_dc.settings import Faults, Settings


class Refused(Exception):
    """The book does not take the request; `status` is the HTTP status that says so, the text is a sentence."""

    def __init__(self, status: int, code: str, *, message: str, job_id: str = "") -> None:
        """Keep what the answer's body needs."""
        super().__init__(message)
        self.status, self.code, self.job_id = status, code, job_id


@dataclass(frozen=True)
class Wanted:
    """A request for a job, already validated."""

    type: str
    server_id: str
    request_id: str
    request: dict[str, Any]


class JobBook:
    """Takes jobs, lets time carry them out, answers questions about them."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None] = lambda line: None) -> None:
        """Load the state file when there is one; `say` gets a line for people per step."""
        self._settings = settings
        self.faults = settings.faults
        self._say = say
        self._cond = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._keys: dict[str, str] = {}
        self._active: dict[str, str] = {}
        self._servers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._agenda: list[tuple[float, str]] = []
        self._waiters: dict[str, list[threading.Event]] = defaultdict(list)
        self._last_id = 0
        self._accepted = 0
        self._closed = False
        self._load(state.load(settings.state_file))
        self._saver = state.Saver(settings.state_file, self._snapshot)
        self._timer = threading.Thread(target=self._run, name="timer", daemon=True)

    def start(self) -> JobBook:
        """Let time carry the jobs out from now on; those of the state file catch up."""
        self._timer.start()
        return self

    def submit(self, wanted: Wanted) -> tuple[dict[str, Any], bool]:
        """Return (job as shown, whether it is new); a known request id gives the job that it made.

        Raises Refused: 409 ServerBusy, 422 IdempotencyKeyReused, 503 Overloaded.
        """
        with self._cond:
            now = time.time()
            seen = self._seen(wanted)
            busy = self._active.get(wanted.server_id)
            if seen is None and busy:
                text = f'Server "{wanted.server_id}" is busy with {busy}'
                raise Refused(409, "ServerBusy", message=text, job_id=busy)
            job = seen or self._admit(wanted, now)
            view = job.view(now)
        if seen is None:
            self._saver.changed()
        self._saver.commit()
        return view, seen is None

    def get(self, job_id: str) -> dict[str, Any]:
        """Return the job as shown; Refused 404 when it is not known."""
        with self._cond:
            return self._job(job_id).view(time.time())

    def wait(self, job_id: str, seconds: float) -> dict[str, Any]:
        """Return the job as soon as it has ended, at the latest after `seconds`, or at once when the book closes."""
        ended = threading.Event()
        with self._cond:
            job = self._job(job_id)
            if job.ended or self._closed or seconds <= 0:
                return job.view(time.time())
            self._waiters[job_id].append(ended)
        ended.wait(seconds)
        with self._cond:
            waiting = self._waiters.get(job_id)
            if waiting and ended in waiting:
                waiting.remove(ended)
                if not waiting:
                    del self._waiters[job_id]
            return self._job(job_id).view(time.time())

    def jobs(self, *, server_id: str = "", phase: str = "", after: str = "") -> list[dict[str, Any]]:
        """Return the jobs as shown, oldest first, of one server or phase if named, after a job id if named."""
        with self._cond:
            now = time.time()
            return [
                job.view(now)
                for job in self._jobs.values()
                if (not server_id or job.server_id == server_id)
                and (not phase or job.phase == phase)
                and (not after or _number(job.id) > _number(after))
            ]

    def log(self, job_id: str) -> tuple[list[str], bool]:
        """Return the job's log lines so far and whether it has ended."""
        with self._cond:
            job = self._job(job_id)
            return list(job.log), job.ended

    def cancel(self, job_id: str) -> dict[str, Any]:
        """End the job as canceled and return it; Refused 404, or 409 JobFinished when it had ended."""
        with self._cond:
            job = self._job(job_id)
            if job.ended:
                raise Refused(409, "JobFinished", message=f"Job {job_id} has already {job.phase}", job_id=job_id)
            now = time.time()
            job.end(now, "canceled", message="Canceled on request")
            self._settle(job)
            view = job.view(now)
        self._say(f"{job.id} {job.type} of {job.server_id}: canceled")
        self._saver.changed()
        self._saver.commit()
        return view

    def forget(self, job_id: str) -> None:
        """Lose the job and its request id as if it had never been: a fault, not a service."""
        with self._cond:
            self._drop(self._job(job_id))
        self._saver.changed()
        self._saver.commit()

    def servers(self) -> list[dict[str, Any]]:
        """Return the servers as last known."""
        with self._cond:
            return [dict(server) for server in self._servers.values()]

    def set_faults(self, changes: dict[str, Any]) -> Faults:
        """Change the fault knobs that are named and return all of them."""
        with self._cond:
            self.faults = replace(self.faults, **changes)
            return self.faults

    def close(self) -> None:
        """Wake everybody who waits, stop the timer, save."""
        with self._cond:
            self._closed = True
            for waiting in self._waiters.values():
                for event in waiting:
                    event.set()
            self._cond.notify_all()
        if self._timer.is_alive():
            self._timer.join(timeout=10)
        self._saver.close()

    def _seen(self, wanted: Wanted) -> Job | None:
        known = self._keys.get(wanted.request_id) if wanted.request_id else None
        if known is None:
            return None
        job = self._jobs[known]
        if (job.type, job.server_id) != (wanted.type, wanted.server_id):
            text = f"The idempotency key belongs to {job.id}, a {job.type} of server {job.server_id}"
            raise Refused(422, "IdempotencyKeyReused", message=text, job_id=job.id)
        return job

    def _admit(self, wanted: Wanted, now: float) -> Job:
        while len(self._jobs) >= self._settings.max_jobs:
            oldest = next((job for job in self._jobs.values() if job.ended), None)
            if oldest is None:
                raise Refused(
                    503, "Overloaded", message=f"All {self._settings.max_jobs} jobs are active, try again later"
                )
            self._drop(oldest)
        self._last_id = max(self._last_id + 1, time.time_ns())
        self._accepted += 1
        job = self._planned(wanted, now)
        self._keep(job)
        server = self._server(wanted.server_id)
        server.update({name: wanted.request[name] for name in ("mac", "ipv4") if wanted.request.get(name)})
        server.update(state="provisioning" if wanted.type == "repave" else "rebooting", activeJob=job.id)
        self._servers.move_to_end(wanted.server_id)
        while len(self._servers) > 2 * self._settings.max_jobs:
            self._servers.popitem(last=False)
        self._cond.notify_all()
        return job

    def _planned(self, wanted: Wanted, now: float) -> Job:
        """Decide at the start how the job ends. The same seed and request id decide the same."""
        faults = self.faults
        dice = random.Random(f"{faults.seed}/{wanted.request_id or self._accepted}")  # noqa: S311  # a simulation
        stages = [step.stage for step in STEPS[wanted.type]]
        fails = dice.random() < faults.failure_rate
        stage = faults.fail_stage if faults.fail_stage in stages else dice.choice(stages)
        configured = self._settings.repave_duration if wanted.type == "repave" else self._settings.reboot_duration
        return Job(
            id=f"job-{self._last_id}",
            type=wanted.type,
            server_id=wanted.server_id,
            request=wanted.request,
            request_id=wanted.request_id,
            created_at=now,
            duration=(faults.duration_seconds or configured) / self._settings.speed,
            fail_stage=stage if fails else "",
            hangs=dice.random() < faults.hang_rate,
        )

    def _keep(self, job: Job) -> None:
        self._jobs[job.id] = job
        if job.request_id:
            self._keys[job.request_id] = job.id
        if not job.ended:
            self._active[job.server_id] = job.id
        due = job.due()
        if due is not None:
            heapq.heappush(self._agenda, (due, job.id))

    def _drop(self, job: Job) -> None:
        del self._jobs[job.id]
        if self._keys.get(job.request_id) == job.id:
            del self._keys[job.request_id]
        if self._active.get(job.server_id) == job.id:
            del self._active[job.server_id]
            self._server(job.server_id).update(state="unknown", activeJob=None)
        for event in self._waiters.pop(job.id, ()):
            event.set()

    def _settle(self, job: Job) -> None:
        """Free the server of a job that has ended, and wake whoever waits for it."""
        self._active.pop(job.server_id, None)
        server = self._server(job.server_id)
        server.update(activeJob=None, state="ready" if job.phase == "succeeded" else "error")
        if job.phase == "succeeded" and job.type == "repave" and job.os:
            server["currentOS"] = job.os
        for event in self._waiters.pop(job.id, ()):
            event.set()

    def _run(self) -> None:
        while True:
            with self._cond:
                if self._closed:
                    return
                now = time.time()
                if not self._agenda or self._agenda[0][0] > now:
                    self._cond.wait(self._agenda[0][0] - now if self._agenda else None)
                    continue
                job = self._jobs.get(heapq.heappop(self._agenda)[1])
                if job is None or job.ended:
                    continue
                job.advance(now)
                if job.ended:
                    self._settle(job)
                due = job.due()
                if due is not None:
                    heapq.heappush(self._agenda, (due, job.id))
                line = f"{job.id} {job.type} of {job.server_id}: {job.message}"
            self._say(line)
            self._saver.changed()

    def _job(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise Refused(404, "JobNotFound", message=f'There is no job "{job_id[:64]}"')
        return job

    def _server(self, server_id: str) -> dict[str, Any]:
        nothing = {"mac": "", "ipv4": "", "state": "unknown", "currentOS": "", "activeJob": None}
        return self._servers.setdefault(server_id, {"serverId": server_id, **nothing})

    def _snapshot(self) -> dict[str, Any]:
        with self._cond:
            return {
                "jobs": [job.saved() for job in self._jobs.values()],
                "servers": [dict(server) for server in self._servers.values()],
            }

    def _load(self, saved: dict[str, Any]) -> None:
        for server in saved.get("servers", []):
            self._servers[server["serverId"]] = server
        for fields in saved.get("jobs", []):
            self._keep(Job(**fields))
        self._last_id = max((_number(job_id) for job_id in self._jobs), default=0)


def _number(job_id: str) -> int:
    digits = job_id.removeprefix("job-")
    return int(digits) if digits.isdecimal() and len(digits) < 30 else 0
