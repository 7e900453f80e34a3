# SPDX-License-Identifier: Apache-2.0
"""The rule of proxies that numbers the writes of a scene, and kills the reconciler that makes the chosen one.

Starts of processes are `shim.py`'s.
"""

from __future__ import annotations

import json
import signal
import threading

from soak.cluster import NAMESPACE
from soak.daemons import Daemon
from soak.proxy import PASS, Deed, Request
from soak.tally import Point

MOMENTS = ("before", "after")
"""A write has not reached the API server yet; it was done, and the answer is not back."""
TAKEOVERS = ("before-takeover", "after-takeover")
"""The leader is killed after the chosen write, and the next one before or after it has taken the Lease."""


class Trap:
    """Numbers the writes of a scene, and kills the reconciler that makes the chosen one."""

    def __init__(self) -> None:
        self.daemons: list[Daemon] = []
        self.writes: list[str] = []
        self.sprung = False
        self.caught = ""
        self._point: Point | None = None
        self._is_led = True
        self._numbers: dict[int, int] = {}
        self._lock = threading.Lock()

    def arm(self, point: Point | None) -> None:
        """Begin to count anew; without a point only count."""
        with self._lock:
            self.writes, self.sprung, self.caught, self._point, self._is_led = [], False, "", point, True
            self._numbers.clear()

    def before(self, request: Request) -> Deed:
        """Number a write; kill, when it is the chosen one."""
        with self._lock:
            if _is_renewal(request):
                return self._spring(request, "before-takeover") if not self._is_led else PASS
            if not request.is_write:
                return PASS
            self.writes.append(described(request))
            self._numbers[id(request)] = len(self.writes)
            return self._spring(request, "before", len(self.writes))

    def after(self, request: Request, status: int) -> Deed:
        """Kill, when the chosen write has just been done."""
        with self._lock:
            if _is_renewal(request):
                return self._spring(request, "after-takeover") if not self._is_led and status < 300 else PASS
            number = self._numbers.pop(id(request), 0)
            return self._spring(request, "after", number) if number else PASS

    def _spring(self, request: Request, moment: str, number: int = 0) -> Deed:
        """Kill whoever asks when this is the chosen moment; a takeover needs the death of the leader first."""
        point = self._point
        if self.sprung or point is None:
            return PASS
        is_prelude = point.moment in TAKEOVERS and self._is_led and (moment, number) == ("after", point.number)
        is_it = point.moment == moment and (moment in TAKEOVERS or point.number == number)
        if not (is_prelude or is_it) or not self.daemons[request.daemon].send(signal.SIGKILL):
            return PASS
        self._is_led, self.sprung = False, is_it
        self.caught = "; then ".join(filter(None, (self.caught, described(request))))
        return Deed("refuse" if moment.startswith("before") else "lose")


def _is_renewal(request: Request) -> bool:
    """Whether a write is about the Lease that is there: renewals come when they come, and have no number."""
    return request.is_write and "/leases/" in request.path and request.method == "PUT"


def described(request: Request) -> str:
    """Return what a write says, in a few words."""
    kind, *names = request.path.partition("?")[0].rpartition(f"/{NAMESPACE}/")[2].split("/")
    try:
        body = json.loads(request.body or b"{}")
    except ValueError:
        body = {}
    if kind == "events":
        return f"Event {body.get('reason')} of the {(body.get('involvedObject') or {}).get('kind')}"
    if kind == "leases":
        return "Lease: taken"
    if not names or names[-1] != "status":
        return f"{request.method} {kind}"
    status = body.get("status") or {}
    if kind == "servers" and "activeOperation" in status:
        return "Server: lock" if status["activeOperation"] else "Server: unlock"
    if "phase" in status:
        return f"Operation: {status['phase']}"
    if "stage" in status:
        return f"Operation: at {status['stage']}"
    return f"{'Server' if kind == 'servers' else 'Operation'}: {', '.join(sorted(status))}"
