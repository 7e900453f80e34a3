# SPDX-License-Identifier: Apache-2.0
"""How long a stop takes: Operations are cancelled in the middle of their work, until their last process is gone.

Every process in the enclosure is looked at: those of the run here and those on its host, in whatever session.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from soak import verdict
from soak.hosts import Host
from soak.world import World, custom, say

WAVE = 4
"""Operations that are cancelled one after the other; each has a run of its own."""
PATIENCE = 60.0
LONGEST = 10.0
"""Seconds after which what is left counts as a survivor."""


@dataclass
class Stops:
    """What was measured: seconds from the answer to the cancel until nothing was left."""

    seconds: list[float] = field(default_factory=list)
    survivors: int = 0

    def quantile(self, share: float) -> float:
        """Return the time that a share of the stops took at most."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def measured(world: World, count: int) -> Stops:
    """Cancel some Operations while nothing else is disturbed; the reconcilers run already."""
    stops = Stops()
    wave = 0
    while len(stops.seconds) < count:
        wave += 1
        begun = [_begun(world, wave * WAVE + number) for number in range(WAVE)]
        at_work = [(name, uid) for name, uid, host in begun if _until(world, lambda u=uid, h=host: _wipes(h, u))]
        if not at_work:
            raise TimeoutError("Failed to measure a stop: no Operation began to work.")
        for name, uid in at_work:
            _stopped(world, name, uid, stops)
    say(f"{len(stops.seconds)} cancels: p50 {stops.quantile(0.5):.2f} s, p99 {stops.quantile(0.99):.2f} s")
    return stops


def _begun(world: World, number: int) -> tuple[str, str, Host]:
    """Create an Operation that works for long, and wait until it has a run: the next one gets another."""
    host = world.hosts[number % len(world.hosts)]
    name = f"slow-{90_000 + number}-60000"
    spec = {"serverRef": {"name": host.name}, "operation": "soak-two", "ttlSecondsAfterFinished": 5}
    uid = str(world.cluster.create("operations", custom("Operation", name, spec))["metadata"]["uid"])
    _until(world, lambda: bool(_run(world, name)))
    return name, uid, host


def _wipes(host: Host, uid: str) -> bool:
    return any((line[0], line[1], line[3]) == ("begin", uid, "wipe") for line in host.witnessed())


def _run(world: World, name: str) -> str:
    operation = world.cluster.find("operations", name) or {}
    return str((operation.get("status") or {}).get("runID") or "")


def _stopped(world: World, name: str, uid: str, stops: Stops) -> None:
    """Cancel an Operation and wait until nothing of it is left."""
    run = _run(world, name) or uid
    world.cluster.merge("operations", name, {"spec": {"cancel": True}})
    began = time.monotonic()
    left = verdict.marked([uid, run])
    while left and time.monotonic() - began < LONGEST:
        left = verdict.marked([uid, run])
    stops.seconds.append(time.monotonic() - began)
    stops.survivors += len(left)


def _until(world: World, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if holds():
            return True
        for daemon in world.daemons:
            daemon.supervise()
        time.sleep(0.05)
    return False
