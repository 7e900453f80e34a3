# SPDX-License-Identifier: Apache-2.0
"""The runs that have a process now: which they are, whose they are, how all of them are stopped, what they leave dead.

How one run works is `runner.py`'s; why it is stopped is decided elsewhere.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from . import guard
from .live import LiveRuns
from .runner import Run

HANDED_OVER = 10.0
"""Seconds after which a dead child is one that nobody here waits for: whoever started it has asked by then."""


class Orphans:
    """Dead processes of runs, which their guard has left to this process by its own death.

    The daemon adopts what its guards leave behind, so that it can be ended; it has to be taken leave of too.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], float] = {}

    def bury(self, *, after: float = HANDED_OVER) -> int:
        """Take leave of the dead children that were seen for the first time some seconds ago; returns how many."""
        now = time.monotonic()
        self._seen = {child: self._seen.get(child, now) for child in _dead_children(os.getpid())}
        found = [pid for (pid, _), since in self._seen.items() if now - since >= after]
        for pid in found:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return len(found)


def _dead_children(parent: int) -> list[tuple[int, str]]:
    """Return pid and start time of a process's children that are dead and not waited for."""
    wanted = [b"Z", str(parent).encode()]
    return [(pid, fields[19].decode()) for pid, fields in guard.processes() if fields[:2] == wanted]


class Runs:
    """Runs by id. Safe to use from any thread."""

    def __init__(self, live: LiveRuns) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._orphans = Orphans()

    def add(self, run: Run) -> None:
        """Remember a run that is about to start."""
        with self._lock:
            self._runs[run.id] = run

    def remove(self, run: Run) -> None:
        """Forget a run that has ended."""
        with self._lock:
            self._runs.pop(run.id, None)

    def bury(self) -> None:
        """Take leave of what runs have left dead; to be called now and then."""
        self._orphans.bury()

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
