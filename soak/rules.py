# SPDX-License-Identifier: Apache-2.0
"""What is done to the requests of the daemons in a soak: the small faults of the script.

A fault waits for the first request that it can be done to, and those after it do not wait with it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from soak import script
from soak.proxy import PASS, Deed, Request
from soak.script import Fault

NARROW = ("touch", "stale")
"""Faults that need a request of a certain kind."""
OF_ANSWERS = ("lose", "late")
"""Faults that are done once the API server has answered."""


class SmallFaults:
    """The rule of one daemon's proxy. Of `only`, what begins with `watch-` says which faults watches have."""

    def __init__(self, seed: int, daemon: int, only: Collection[str] = ()) -> None:
        self.calm = False
        self._lock = threading.Lock()
        self._small = script.small(seed, daemon)
        of_watches = [kind.removeprefix("watch-") for kind in only if kind.startswith("watch-")]
        self._watch = script.watch(seed, daemon, of_watches)
        self._next, self._next_of_watch = next(self._small), next(self._watch)
        self._waiting: list[Fault] = []  # for a request of their own kind: the others need not wait with them
        self._requests = self._events = 0.0

    def before(self, request: Request) -> Deed:
        """Say what is done to a request before it is passed on."""
        if self.calm:
            return PASS
        with self._lock:
            if request.is_watch:
                return self._of_opening()
            self._requests += 1
            if self._next.kind in NARROW and self._requests >= self._next.gap:
                self._put_by(self._drawn())
            fitting = next((fault for fault in self._waiting if _fits(fault.kind, request)), None)
            if fitting is not None:
                self._waiting.remove(fitting)
                return _deed(fitting, request)
            if self._requests < self._next.gap or self._next.kind in (*NARROW, *OF_ANSWERS):
                return PASS
            return _deed(self._drawn(), request)

    def after(self, request: Request, status: int) -> Deed:
        """Say what is done to an answer, or to an event of a watch."""
        if self.calm:
            return PASS
        with self._lock:
            if request.is_watch:
                return self._of_event()
            if self._requests < self._next.gap or self._next.kind not in OF_ANSWERS or status >= 300:
                return PASS
            return _deed(self._drawn(), request)

    def _put_by(self, fault: Fault) -> None:
        """Let a narrow fault wait, one of each kind at most."""
        if all(fault.kind != other.kind for other in self._waiting):
            self._waiting.append(fault)

    def _drawn(self) -> Fault:
        fault, self._next, self._requests = self._next, next(self._small), 0.0
        return fault

    def _of_opening(self) -> Deed:
        if self._events < self._next_of_watch.gap or self._next_of_watch.kind != "gone":
            return PASS
        return self._taken_of_watch("gone", 0.0)

    def _of_event(self) -> Deed:
        self._events += 1
        fault = self._next_of_watch
        if self._events < fault.gap or fault.kind == "gone":
            return PASS
        if fault.kind == "silent":
            return self._taken_of_watch("close", fault.seconds)
        return self._taken_of_watch(fault.kind, 0.0)

    def _taken_of_watch(self, deed: str, seconds: float) -> Deed:
        name = f"watch-{self._next_of_watch.kind}"
        self._next_of_watch, self._events = next(self._watch), 0.0
        return Deed(deed, seconds, name)


def _deed(fault: Fault, request: Request) -> Deed:
    name = "lost-answer-of-write" if fault.kind == "lose" and request.is_write else f"api-{fault.kind}"
    most = 1.0 if "lease" in request.path else 2.0
    return Deed(fault.kind, min(most, fault.seconds) if fault.kind in ("wait", "late") else 0.0, name)


def _fits(kind: str, request: Request) -> bool:
    """Whether a narrow fault can be done to a request."""
    if kind == "touch":
        return request.method == "PATCH" and request.path.endswith("/status")
    return request.method == "GET" and "/stargate.io/" in request.path and "limit=500" in request.path
