# SPDX-License-Identifier: Apache-2.0
"""Kill points, enumerated: the reconciler is killed at every write that it makes and every start of a process.

Each write of a scene has a number. The scene is played anew for each number, twice: the reconciler is killed before the
write reaches the API server, and after it was done but before the answer is back. Nothing may be lost or done twice.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from soak import enclosure, mutants, verdict
from soak.cluster import Object
from soak.daemons import Daemon
from soak.history import History, Life
from soak.hosts import Host
from soak.proxy import Deed, Request
from soak.shim import STARTS, Shim
from soak.world import World, custom, say

PASS = Deed()
SECONDS = 120.0
"""Time without any news of an Operation after which it counts as lost."""
MOST_WRITES = 40
"""A scene with more writes than this is not one scene."""


@dataclass(frozen=True)
class Scene:
    """What one Operation goes through: the name tells `witness.sh` what to do (see there)."""

    name: str
    act: str
    operation: str
    phase: str
    reason: str = ""
    cancel: bool = False


SCENES = (
    Scene("success", "soak-three", "three-{:05d}-60", "Succeeded"),
    Scene("failure", "soak-mistake", "mistake-{:05d}-0", "Failed", "Refused"),
    Scene("retry", "soak-two", "flaky-{:05d}-60-1", "Succeeded"),
    Scene("cancel", "soak-two", "slow-{:05d}-20000", "Failed", "Cancelled", cancel=True),
)


@dataclass(frozen=True)
class Point:
    """Where the reconciler is killed: at its nth write, before or after; or at the start of a process of its."""

    scene: Scene
    number: int
    moment: str

    def __str__(self) -> str:
        """As the table shows it."""
        place = f"write {self.number}" if self.moment in ("before", "after") else "ansible-playbook"
        return f"{self.scene.name}: {self.moment} {place}"


class Trap:
    """The rule of every proxy: numbers the writes of a scene, and kills the reconciler that makes the chosen one."""

    def __init__(self) -> None:
        self.daemons: list[Daemon] = []
        self.writes: list[str] = []
        self.sprung = False
        self._point: Point | None = None
        self._counted: dict[tuple[int, bytes, str], int] = {}

    def arm(self, point: Point | None) -> None:
        """Begin to count anew; without a point only count."""
        self.writes, self.sprung, self._point = [], False, point

    def before(self, request: Request) -> Deed:
        """Number a write; kill, when it is the chosen one."""
        if not _counts(request):
            return PASS
        self.writes.append(f"{request.method} {request.path.rpartition('/soak/')[2]}")
        return self._spring(request, "before", len(self.writes))

    def after(self, request: Request, status: int) -> Deed:  # noqa: ARG002 - the rule's signature
        """Kill, when the chosen write has just been done."""
        return self._spring(request, "after", len(self.writes)) if _counts(request) else PASS

    def _spring(self, request: Request, moment: str, number: int) -> Deed:
        point = self._point
        if self.sprung or point is None or (point.moment, point.number) != (moment, number):
            return PASS
        self.sprung = True
        self.daemons[request.daemon].send(signal.SIGKILL)
        return Deed("refuse" if moment == "before" else "lose")


def _counts(request: Request) -> bool:
    """Whether a request is a write with a number: renewals of the Lease come when they come."""
    return request.is_write and not ("/leases/" in request.path and request.method == "PUT")


@dataclass
class Row:
    """What came of the kill at one point."""

    point: Point
    reached: bool
    violations: list[str] = field(default_factory=list)
    attempts: int = 0


class Stage:
    """A world with two hosts and two reconcilers, on which scenes are played one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.trap = Trap()
        self.shim = Shim(world)
        self.history = History(world.cluster, self._evidence)
        for _ in range(2):
            self.trap.daemons.append(world.add_daemon(self.trap))
        self._count = 0
        for daemon in world.daemons:
            daemon.start()
        self._until(lambda: world.leader() is not None)

    def _evidence(self, life: Life) -> str:
        host = next((host for host in self.world.hosts if host.name == life.server), None)
        return verdict.lack_of_evidence(host, life.uid, life.act)

    def writes(self, scene: Scene) -> list[str]:
        """Play a scene without a kill; returns its writes."""
        self.trap.arm(None)
        row = self._play(Point(scene, 0, "no"))
        if row.violations:
            raise RuntimeError(f"{scene.name} goes wrong without any fault: {row.violations}")
        return list(self.trap.writes)

    def row(self, point: Point) -> Row:
        """Play a scene with a kill at a point."""
        self.trap.arm(point if point.moment not in STARTS else None)
        if point.moment in STARTS:
            self.shim.arm(point.moment)
        return self._play(point)

    def _play(self, point: Point) -> Row:
        self._count += 1
        host = self.world.hosts[self._count % len(self.world.hosts)]
        name = point.scene.operation.format(self._count)
        spec = {"serverRef": {"name": host.name}, "operation": point.scene.act, "activeDeadlineSeconds": 90}
        uid = self.world.cluster.create("operations", custom("Operation", name, spec))["metadata"]["uid"]
        if point.scene.cancel:
            self._until(lambda: any(line[:2] == ["begin", uid] for line in host.witnessed()) or self._is_over(uid))
            self.world.cluster.merge("operations", name, {"spec": {"cancel": True}})
        self._until(lambda: self._is_over(uid) and self._is_free(host))
        reached = self.trap.sprung or self.shim.sprung()
        self._until(lambda: all(daemon.pid for daemon in self.world.daemons))
        self._until(lambda: not verdict.marked([uid]), seconds=3)
        return Row(point, reached, self._wrong(point, host, uid), self.history.lives[uid].attempts)

    def _is_over(self, uid: str) -> bool:
        life = self.history.lives.get(uid)
        return life is not None and life.is_over

    def _is_free(self, host: Host) -> bool:
        server: Object = self.world.cluster.find("servers", host.name) or {}
        return not (server.get("status") or {}).get("activeOperation")

    def _wrong(self, point: Point, host: Host, uid: str) -> list[str]:
        """Return what is wrong after a scene."""
        life, scene = self.history.lives[uid], point.scene
        found = [line for line in self.history.violations if uid in line]
        if not life.is_over:
            found.append(f"lost: {life.phase} {life.message}")
        elif (life.phase, life.reason) != (scene.phase, scene.reason):
            found.append(f"{life.phase} {life.reason} instead of {scene.phase} {scene.reason}: {life.message}")
        if not self._is_free(host):
            found.append("the Server is still locked")
        found += [line for line in verdict.of_witness(host) + verdict.of_journal(host) if uid in line]
        found += [f"process {line} is left" for line in verdict.marked([uid])]
        return found

    def _until(self, holds: object, seconds: float = SECONDS) -> None:
        began = time.monotonic()
        while not holds() and time.monotonic() - self.history.changed(began) < seconds:  # type: ignore[operator]  # a function without arguments
            for daemon in self.world.daemons:
                daemon.supervise()
            time.sleep(0.02)


def points(scene: Scene, writes: int) -> Iterator[Point]:
    """Yield every kill point of a scene that makes some writes."""
    for number in range(1, writes + 1):
        for moment in ("before", "after"):
            yield Point(scene, number, moment)
    for moment in STARTS:
        yield Point(scene, 0, moment)


def played(world: World, names: list[str], most: int) -> list[Row]:
    """Play every point of the scenes with some names, `most` per scene."""
    stage = Stage(world)
    rows: list[Row] = []
    for scene in (scene for scene in SCENES if not names or scene.name in names):
        writes = stage.writes(scene)
        say(f"{scene.name}: {len(writes)} writes: {', '.join(writes)}")
        for point in list(points(scene, min(len(writes), MOST_WRITES)))[:most]:
            row = stage.row(point)
            rows.append(row)
            said = "; ".join(row.violations) or "ok"
            say(f"  {point!s:42} {'' if row.reached else '(not reached) '}attempts {row.attempts}  {said}")
    for daemon in world.daemons:
        daemon.stop()
        bugs = daemon.bugs() + daemon.complaints
        rows += [Row(Point(SCENES[0], 0, "no"), reached=True, violations=[bug]) for bug in bugs]
    return rows


def main() -> int:
    """Play all points; returns 1 when something was lost or done twice."""
    parser = argparse.ArgumentParser(prog="scripts/soak points", description="Kill the reconciler at every point.")
    parser.add_argument("scenes", nargs="*", help=f"of {', '.join(s.name for s in SCENES)} (all)")
    parser.add_argument("--most", type=int, default=1000, help="points of each scene, at most (%(default)s)")
    parser.add_argument("--lease-seconds", type=float, default=3.0, help="of the reconcilers (%(default)s)")
    parser.add_argument("--commit", default="", help="what is played (the working tree)")
    asked = parser.parse_args()
    if not enclosure.is_inside():
        try:
            return enclosure.enclosed("soak.points", sys.argv[1:])
        except enclosure.CannotEnclose as error:
            say(str(error))
            return 2
    scratch = enclosure.furnish()
    mutants.copied(scratch / "played", commit=asked.commit)
    environ = {**Shim.environ(scratch), **mutants.environ(scratch / "played")}
    world = World(scratch, environ=environ, lease_seconds=asked.lease_seconds)
    world.begin(2)
    rows = played(world, asked.scenes, asked.most)
    world.end()
    bad = [row for row in rows if row.violations]
    reached = Counter(row.point.scene.name for row in rows if row.reached)
    say(f"{sum(reached.values())} kills at {len(rows)} points ({dict(reached)}), {len(bad)} with a violation")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
