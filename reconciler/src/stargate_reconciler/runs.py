# SPDX-License-Identifier: Apache-2.0
"""The runs that have a process now: which they are, whose they are, and how all of them are stopped.

How one run works is `runner.py`'s; why it is stopped is decided elsewhere.
"""

from __future__ import annotations

import threading

from .live import LiveRuns
from .runner import Run


class Runs:
    """Runs by id. Safe to use from any thread."""

    def __init__(self, live: LiveRuns) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}

    def add(self, run: Run) -> None:
        """Remember a run that is about to start."""
        with self._lock:
            self._runs[run.id] = run

    def remove(self, run: Run) -> None:
        """Forget a run that has ended."""
        with self._lock:
            self._runs.pop(run.id, None)

    def of(self, uid: str) -> list[Run]:
        """Return the runs that an Operation has."""
        with self._lock:
            return [run for run in self._runs.values() if uid in run.uids]

    def ids(self) -> list[str]:
        """Return the ids of all runs."""
        with self._lock:
            return list(self._runs)

    def stop_all(self, reason: str) -> list[Run]:
        """Stop every run; their Operations stay Running and are taken up again by whoever leads next."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            for job in run.order.jobs:
                self._live.stop(job.operation.uid, reason)
            run.stop()
        return runs

    def __len__(self) -> int:
        return len(self._runs)
