# SPDX-License-Identifier: Apache-2.0
"""A queue of keys: each key at most once in it, and never at two workers at the same time.

It knows nothing of what a key means. Shape: client-go's rate-limited work queue.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class KeyQueue(Generic[Key]):
    """Keys to look at, now or at a later time, with back-off per key."""

    def __init__(self, *, backoff_base: float = 0.2, backoff_cap: float = 30.0) -> None:
        self._backoff = (backoff_base, backoff_cap)
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._processing: set[Key] = set()
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._count = 0
        self._stopped = False

    def add(self, key: Key, *, after: float = 0.0) -> None:
        """Ask for `key` to be looked at `after` seconds from now; the earliest request wins."""
        with self._changed:
            self._add(key, time.monotonic() + after)

    def _add(self, key: Key, due: float) -> None:
        if key in self._processing:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        self._changed.notify()

    def failed(self, key: Key) -> float:
        """Ask for `key` again after a back-off that doubles with each failure in a row; returns it in seconds."""
        with self._changed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            delay = min(self._backoff[1], self._backoff[0] * 2.0 ** min(failures, 60))
            self._add(key, time.monotonic() + delay)
            return delay

    def succeeded(self, key: Key) -> None:
        """Forget the failures of `key`."""
        with self._changed:
            self._failures.pop(key, None)

    def get(self) -> Key | None:
        """Wait for a key that is due and take it; None once the queue is stopped. `done` must follow."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
                    heapq.heappop(self._heap)
                if self._heap and self._heap[0][0] <= now:
                    key = heapq.heappop(self._heap)[2]
                    del self._due[key]
                    self._processing.add(key)
                    return key
                self._changed.wait(self._heap[0][0] - now if self._heap else None)
            return None

    def done(self, key: Key) -> None:
        """Say that the work on `key` has ended; requests that came meanwhile now count."""
        with self._changed:
            self._processing.discard(key)
            if key in self._again:
                self._add(key, self._again.pop(key))

    def stop(self) -> None:
        """Wake all waiting workers with None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def depth(self, *, within: float = 0.0) -> int:
        """Return how many keys are at work or due within `within` seconds."""
        with self._changed:
            limit = time.monotonic() + within
            waiting = sum(1 for due in self._due.values() if due <= limit)
            return waiting + len(self._processing)
