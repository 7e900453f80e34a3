# SPDX-License-Identifier: Apache-2.0
"""Whether something answers at an address: TCP connections that are opened, closed and remembered.

Nothing is sent, and nobody is probed who was not asked for. Who is asked for, and what it means, is decided elsewhere.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Collection

from .machines import Answer, Target

TIMEOUT = 3.0
"""Seconds that a machine has to take a connection."""
AT_ONCE = 16


class Prober:
    """Probes on threads of its own, each target at most once at a time. Safe to use from any thread."""

    def __init__(self, changed: Callable[[Target], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._answers: dict[Target, Answer] = {}
        self._asked: set[Target] = set()
        self._waiting: queue.SimpleQueue[Target | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin to probe."""
        for number in range(AT_ONCE):
            threading.Thread(target=self._work, name=f"probe-{number}", daemon=True).start()

    def stop(self) -> None:
        """Probe nothing more."""
        for _ in range(AT_ONCE):
            self._waiting.put(None)

    def ask(self, target: Target) -> None:
        """Have a target probed, unless it is about to be."""
        with self._lock:
            if target in self._asked:
                return
            self._asked.add(target)
        self._waiting.put(target)

    def last(self, target: Target | None) -> Answer | None:
        """Return the last answer of a target, None when there is none."""
        with self._lock:
            return self._answers.get(target) if target else None

    def keep(self, targets: Collection[Target]) -> None:
        """Forget the answers of all other targets."""
        with self._lock:
            self._answers = {target: answer for target, answer in self._answers.items() if target in targets}

    def _work(self) -> None:
        while (target := self._waiting.get()) is not None:
            answer = probe(target)
            with self._lock:
                before = self._answers.get(target)
                self._answers[target] = answer
                self._asked.discard(target)
            if before is None or before.good != answer.good:
                self._changed(target)


def probe(target: Target) -> Answer:
    """Return whether a target takes a TCP connection, and what is in the way."""
    began = time.monotonic()
    try:
        with socket.create_connection((target.host, target.port), TIMEOUT):
            return Answer(True, at=began)
    except TimeoutError:
        return Answer(False, f"nothing came back in {TIMEOUT:.0f} s", began)
    except (OSError, UnicodeError) as error:
        return Answer(False, getattr(error, "strerror", None) or "its name is none", began)
