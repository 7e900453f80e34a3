# SPDX-License-Identifier: Apache-2.0
"""Which Operations have a run, or a place in the next batch, right now.

Only this process' own knowledge: what outlives it stands in the objects' statuses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from .decision import Live
from .model import Job, Operation, Result, ServerKey

STAGE_INTERVAL = 1.0
"""Shortest time in seconds between two writes of one Operation's stage (DESIGN 4)."""
STAGE_PAUSE = 0.25
"""Seconds that a step waits before it is shown, as it may turn out to be skipped. A job's id does not wait."""
STAGE_RATE = 5.0
"""Stage writes per second of all Operations together: progress must not cost more than the work."""


class LiveRuns:
    """Operations by uid with what their run has said so far. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, Live] = {}
        self._shown: dict[str, float] = {}
        self._next_slot = 0.0

    def of_server(self, key: ServerKey) -> dict[str, Live]:
        """Return what is live on one Server, by Operation uid."""
        with self._lock:
            return {uid: live for uid, live in self._live.items() if live.operation.key == key}

    def begin(self, operation: Operation) -> bool:
        """Reserve an Operation; False when it is live already."""
        with self._lock:
            if operation.uid in self._live:
                return False
            self._live[operation.uid] = Live(operation)
            return True

    def claimed(self, job: Job, run_id: str) -> None:
        """Note the run of an Operation, and what it was given."""
        with self._lock:
            if job.operation.uid in self._live:
                self._live[job.operation.uid] = replace(self._live[job.operation.uid], run_id=run_id, job=job)

    def stop(self, uid: str, reason: str) -> None:
        """Note the reason of a stop; the first one stays."""
        with self._lock:
            if uid in self._live:
                self._live[uid] = replace(self._live[uid], stopping=self._live[uid].stopping or reason)

    def stage(self, uid: str, stage: str, facts: Mapping[str, str]) -> float | None:
        """Note a step; returns in how many seconds it may be shown, None when it is not live or nothing is new."""
        now = time.monotonic()
        with self._lock:
            live = self._live.get(uid)
            if live is None or live.result is not None:
                return None
            changed = replace(live, stage=stage or live.stage, job_id=facts.get("dcJobID", live.job_id))
            if changed == live:
                return None
            self._live[uid] = changed
            if uid in self._shown and self._shown[uid] > now:
                return self._shown[uid] - now
            pause = STAGE_PAUSE if changed.job_id == live.job_id else 0.0
            self._next_slot = max(self._next_slot + 1.0 / STAGE_RATE, now + pause)
            due = max(self._next_slot, self._shown.get(uid, now - STAGE_INTERVAL) + STAGE_INTERVAL)
            self._shown[uid] = due
            return due - now

    def is_stopping(self, uid: str) -> bool:
        """Whether the run of an Operation has been asked to stop."""
        with self._lock:
            live = self._live.get(uid)
            return live is not None and bool(live.stopping)

    def to_show(self, uid: str) -> float:
        """Return in how many seconds the step of an Operation may be shown, 0 for now."""
        with self._lock:
            return max(0.0, self._shown.get(uid, 0.0) - time.monotonic())

    def shown(self, uid: str) -> None:
        """Note that the step has just been shown: the next one waits for its interval from now on."""
        with self._lock:
            if uid in self._live:
                self._shown[uid] = time.monotonic()

    def result(self, uid: str, result: Result) -> None:
        """Note how a run ended on a host."""
        with self._lock:
            if uid in self._live:
                self._live[uid] = replace(self._live[uid], result=result)

    def end(self, uid: str) -> None:
        """Forget an Operation: its statuses have been written."""
        with self._lock:
            self._live.pop(uid, None)
            self._shown.pop(uid, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._live)
