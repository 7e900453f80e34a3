# SPDX-License-Identifier: Apache-2.0
"""How long a stop takes: Operations are cancelled in the middle of their work, until their last process is gone.

Every process in the enclosure is looked at: those of the run here and those on its host, in whatever session.
`python -m soak.cancels` measures it by itself, for work on hosts and for work beside the reconciler.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from soak import enclosure, mutants, verdict
from soak.daemons import ROOT
from soak.hosts import Host
from soak.rules import SmallFaults
from soak.world import World, custom, say

WAVE = 4
"""Operations that are cancelled one after the other; each has a run of its own (`--max-runs` of the soak)."""
PATIENCE = 60.0
LONGEST = 10.0
"""Seconds after which what is left counts as a survivor."""
ALLOWED = 2.0
"""Seconds that a stop may take, at the 99th percentile."""
WAYS = {"over SSH": "soak-two", "local": "soak-local"}
"""Where the work is done that is cancelled, and the operation that does it."""


@dataclass
class Stops:
    """What was measured: seconds from the answer to the cancel until nothing was left."""

    seconds: list[float] = field(default_factory=list)
    survivors: int = 0

    def quantile(self, share: float) -> float:
        """Return the time that a share of the stops took at most."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def content(self) -> dict[str, float]:
        """Return the figures for programs."""
        times = {f"p{int(share * 100)}_s": round(self.quantile(share), 3) for share in (0.5, 0.9, 0.99)}
        return {
            "cancels": len(self.seconds),
            **times,
            "longest_s": round(max(self.seconds), 3),
            "survivors": self.survivors,
        }


def measured(world: World, count: int, act: str = "soak-two") -> Stops:
    """Cancel some Operations while nothing else is disturbed; the reconcilers run already."""
    stops = Stops()
    began = time.monotonic()
    while len(stops.seconds) < count:
        begun = [_begun(world, act) for _ in range(WAVE)]
        at_work = [(name, uid) for name, uid, host in begun if _until(world, lambda u=uid, h=host: _works(h, u, act))]
        if not at_work:
            raise TimeoutError("Failed to measure a stop: no Operation began to work.")
        for name, uid in at_work:
            _stopped(world, name, uid, stops)
        if time.monotonic() - began > 20:
            began = time.monotonic()
            say(f"{len(stops.seconds)} of {count} cancels")
    say(f"{len(stops.seconds)} cancels: p50 {stops.quantile(0.5):.2f} s, p99 {stops.quantile(0.99):.2f} s")
    return stops


_numbers = iter(range(90_000, 10**6))


def _begun(world: World, act: str) -> tuple[str, str, Host]:
    """Create an Operation that works for long, and wait until it has a run: the next one gets another."""
    number = next(_numbers)
    host = world.hosts[number % len(world.hosts)]
    name = f"slow-{number}-60000"
    spec = {"serverRef": {"name": host.name}, "operation": act, "ttlSecondsAfterFinished": 5}
    uid = str(world.cluster.create("operations", custom("Operation", name, spec))["metadata"]["uid"])
    _until(world, lambda: bool(_run(world, name)))
    return name, uid, host


def _works(host: Host, uid: str, act: str) -> bool:
    if act == "soak-two":
        return any((line[0], line[1], line[3]) == ("begin", uid, "wipe") for line in host.witnessed())
    return sum("sleep 60" in line for line in verdict.marked([uid])) >= 2


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


def main() -> int:
    """Measure stops over SSH and local ones; returns 1 when one takes too long or leaves something."""
    parser = argparse.ArgumentParser(prog="scripts/soak cancels", description="Measure how long a stop takes.")
    parser.add_argument("--count", type=int, default=200, help="of each kind (%(default)s)")
    parser.add_argument("--hosts", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--lease-seconds", type=float, default=15.0, help="of the reconcilers (%(default)s)")
    parser.add_argument("--commit", default="", help="what is played (the working tree)")
    asked = parser.parse_args()
    if not enclosure.is_inside():
        try:
            return enclosure.enclosed("soak.cancels", sys.argv[1:], ROOT / "build")
        except enclosure.CannotEnclose as error:
            say(str(error))
            return 2
    scratch = enclosure.furnish()
    played = mutants.copied(scratch / "played", commit=asked.commit)
    world = World(scratch, environ=played, lease_seconds=asked.lease_seconds)
    world.begin(asked.hosts)
    for number in range(2):
        nothing = SmallFaults(0, number)
        nothing.calm = True
        world.add_daemon(nothing).start()
    found = {}
    for way, act in WAYS.items():
        say(f"{asked.count} cancels of work {way}")
        found[way] = measured(world, asked.count, act)
    world.end()
    (enclosure.outside() / "cancels.json").write_text(
        json.dumps({way: stops.content() for way, stops in found.items()}, indent=1) + "\n", encoding="utf-8"
    )
    bad = [way for way, stops in found.items() if stops.survivors or stops.quantile(0.99) > ALLOWED]
    for way, stops in found.items():
        said = ", ".join(f"{name} {value}" for name, value in stops.content().items())
        say(f"{'FAILED' if way in bad else 'ok'}: {way}: {said}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
