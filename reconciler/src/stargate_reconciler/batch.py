# SPDX-License-Identifier: Apache-2.0
"""Which jobs share one run, and when it starts.

Jobs of one namespace, playbook and Profile become one ansible process. A job that is alone starts at once; the busier
it is, the longer a batch is filled. Nothing is started here: `launch` is the caller's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ansible_collections.stargate.core.plugins.module_utils import _server

from .model import Job
from .plan import NEEDS_DATACENTER
from .settings import Settings

logger = logging.getLogger(__name__)

LONGEST_FILL = 2.0
"""Seconds after which a batch starts even though jobs still come in."""


@dataclass
class Batch:
    """Jobs that wait to share a run; times by the monotonic clock."""

    first: float
    last: float
    jobs: dict[str, Job] = field(default_factory=dict)


def due_at(batch: Batch, running: int, window: float) -> float:
    """Return when a batch should start: after a pause of one window, or when it has been filled for long enough."""
    longest = min(LONGEST_FILL, window * 2.0 ** (running + 1))
    return min(batch.last + window, batch.first + longest)


def forks(jobs: Sequence[Job], settings: Settings, cores: int) -> int:
    """Return how many hosts of a run are served at once.

    Forks follow the cores, and the share of waiting: hosts that only wait for a datacenter's job cost next to nothing.
    """
    if settings.forks:
        return min(len(jobs), settings.forks)
    waits = all(_waits(job, settings) for job in jobs)
    return max(1, min(len(jobs), cores * (25 if waits else 5)))


def _waits(job: Job, settings: Settings) -> bool:
    if job.operation.act not in NEEDS_DATACENTER:
        return False
    profile = job.profile.raw if job.profile else None
    return _server.strategy(job.server.raw, profile, settings.datacenters) == "dcApi"


class Batcher:
    """Collects jobs and hands each full batch to `launch`, on a thread of its own."""

    def __init__(self, settings: Settings, running: Callable[[], int], launch: Callable[[list[Job]], None]) -> None:
        self._settings = settings
        self._running = running
        self._launch = launch
        self._changed = threading.Condition()
        self._batches: dict[tuple[str, str, str], Batch] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        """Begin to launch."""
        self._thread.start()

    def stop(self) -> None:
        """Launch nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def add(self, job: Job) -> None:
        """Put a job into the batch of its group."""
        now = time.monotonic()
        with self._changed:
            batch = self._batches.setdefault(job.group, Batch(now, now))
            batch.jobs[job.operation.uid] = job
            batch.last = now
            self._changed.notify_all()

    def remove(self, uid: str) -> bool:
        """Take a job out again; False when it is not waiting here (any more)."""
        with self._changed:
            return any(batch.jobs.pop(uid, None) for batch in self._batches.values())

    def wake(self) -> None:
        """Say that a run has ended, so that a batch that waited for room can start."""
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            self._launch(jobs)

    def _next(self) -> list[Job] | None:
        with self._changed:
            while not self._stopped:
                now, running = time.monotonic(), self._running()
                self._batches = {key: batch for key, batch in self._batches.items() if batch.jobs}
                group, due = self._earliest(running)
                if group is not None and due <= now and running < self._settings.max_runs:
                    return self._take(group)
                self._changed.wait(None if group is None or due <= now else due - now)
            return None

    def _earliest(self, running: int) -> tuple[tuple[str, str, str] | None, float]:
        window, most = self._settings.batch_window, self._settings.max_hosts_per_run
        times = {
            group: batch.first if len(batch.jobs) >= most else due_at(batch, running, window)
            for group, batch in self._batches.items()
        }
        group = min(times, key=lambda g: times[g], default=None)
        return group, times[group] if group is not None else 0.0

    def _take(self, group: tuple[str, str, str]) -> list[Job]:
        batch = self._batches[group]
        uids = list(batch.jobs)[: self._settings.max_hosts_per_run]
        taken = [batch.jobs.pop(uid) for uid in uids]
        if not batch.jobs:  # the next job begins a batch of its own, with a window of its own
            del self._batches[group]
        return taken
