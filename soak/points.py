# SPDX-License-Identifier: Apache-2.0
"""Kill points, enumerated: the reconciler is killed at every write that it makes and every start of a process.

Each write of a scene has a number. The scene is played anew for each number, twice: the reconciler is killed before the
write reaches the API server, and after it was done but before the answer is back. Nothing may be lost or done twice.
Lanes are worlds of their own that share the points, because a scene is mostly waiting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from soak import enclosure, mutants, tally, verdict
from soak.cluster import Object, Refused
from soak.daemons import ROOT
from soak.history import History, Life
from soak.hosts import Host
from soak.shim import STARTS, Shim
from soak.tally import Point, Row
from soak.trap import MOMENTS, TAKEOVERS, Trap
from soak.world import World, custom, say

SCENES = {scene.name: scene for scene in tally.SCENES}
SECONDS = 300.0
"""Time without any news of an Operation after which it counts as lost."""
GONE_SECONDS = 10.0
"""Time after which a process of an Operation that has ended counts as left; how fast a stop is, is `cancels.py`'s."""
LATE_SECONDS = 3.0
"""Time after the end of an Operation in which the last of its writes come."""
TRIES = 3
"""How often a scene is played until its point is reached: two plays need not make the same writes."""
MOST_WRITES = 40
"""A scene with more writes than this is not one scene."""
PLAN = "plan.json"
"""In the directory that all lanes share: the writes of each scene, which the first lane has found."""


class Stage:
    """A world with two hosts and two reconcilers, on which scenes are played one after the other."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.trap = Trap()
        self.shim = Shim(world)
        self.history = History(world.cluster, self._evidence)
        for _ in range(2):
            self.trap.daemons.append(world.add_daemon(self.trap))
        self._count = number * 1000
        for daemon in world.daemons:
            daemon.start()
        self._until(lambda: world.leader() is not None)

    def _evidence(self, life: Life) -> str:
        host = next((host for host in self.world.hosts if host.name == life.server), None)
        return verdict.lack_of_evidence(host, life.uid, life.act)

    def writes(self, name: str) -> list[str]:
        """Play a scene without a kill; returns its writes, of a play in which no Lease was lost to a busy machine."""
        for _ in range(TRIES):
            self.trap.arm(None)
            row = self._play(Point(name, "no kill"))
            if row.violations:
                raise RuntimeError(f"{name} goes wrong without any fault: {row.violations}")
            if row.attempts == SCENES[name].attempts:
                break
        return list(self.trap.writes)[:MOST_WRITES]

    def row(self, point: Point) -> Row:
        """Play a scene with a kill at a point, again when the point was not reached."""
        for _ in range(TRIES):
            self.trap.arm(point if point.moment not in STARTS else None)
            if point.moment in STARTS:
                self.shim.arm(point.moment)
            row = self._play(point)
            if row.reached or row.violations:
                break
        return row

    def _play(self, point: Point) -> Row:
        self._count += 1
        host, scene = self.world.hosts[self._count % len(self.world.hosts)], SCENES[point.scene]
        name = scene.operation.format(self._count)
        spec = {"serverRef": {"name": host.name}, "operation": scene.act, "activeDeadlineSeconds": 900}
        uid = self.world.cluster.create("operations", custom("Operation", name, spec))["metadata"]["uid"]
        if scene.cancel:
            self._until(lambda: any(line[:2] == ["begin", uid] for line in host.witnessed()) or self._is_over(uid))
            self.world.cluster.merge("operations", name, {"spec": {"cancel": True}})
        self._until(lambda: self._is_over(uid) and self._is_free(host))
        self._until(lambda: self.trap.sprung or point.moment in STARTS, seconds=LATE_SECONDS)
        reached = self.trap.sprung or self.shim.sprung()
        self._until(lambda: all(daemon.pid for daemon in self.world.daemons))
        self._until(lambda: not verdict.marked([uid]), seconds=GONE_SECONDS)
        return self._judged(Row(point, reached=reached, request=self.trap.caught or point.request), host, uid)

    def _is_over(self, uid: str) -> bool:
        life = self.history.lives.get(uid)
        return life is not None and life.is_over

    def _is_free(self, host: Host) -> bool:
        server: Object = self.world.cluster.find("servers", host.name) or {}
        return not (server.get("status") or {}).get("activeOperation")

    def _judged(self, row: Row, host: Host, uid: str) -> Row:
        """Say what came of a scene and what is wrong with it."""
        life, scene = self.history.lives[uid], SCENES[row.point.scene]
        row.ended, row.attempts = f"{life.phase} {life.reason}".strip(), life.attempts
        row.steps = tally.steps(host, uid)
        row.lost = [] if life.is_over else [f"lost: {life.phase} {life.message}"]
        row.twice = [line for line in verdict.of_witness(host) + verdict.of_journal(host) if uid in line]
        row.twice += tally.repeated(host, uid)
        row.survivors = [f"process {line} is left" for line in verdict.marked([uid])]
        row.wrong = [line for line in self.history.violations if uid in line]
        if life.is_over and (life.phase, life.reason) != (scene.phase, scene.reason):
            row.wrong.append(f"{row.ended} instead of {scene.phase} {scene.reason}: {life.message}")
        if not self._is_free(host):
            row.wrong.append("the Server is still locked")
        return row

    def end(self) -> Row:
        """End the reconcilers; returns what is wrong with the stage as a whole."""
        row = Row(Point(tally.ALL, "at the end"), reached=True)
        for daemon in self.world.daemons:
            daemon.stop()
            by_shim = "code -9"  # which kills past those who keep account of kills
            row.wrong += daemon.bugs() + [line for line in daemon.complaints if not line.endswith(by_shim)]
        self._until(lambda: not verdict.marked(), seconds=GONE_SECONDS, is_over=True)
        row.survivors = [f"process {line} is left" for line in verdict.marked()]
        return row

    def _until(self, holds: Callable[[], bool], seconds: float = SECONDS, *, is_over: bool = False) -> None:
        began = time.monotonic()
        while not _answered(holds) and time.monotonic() - self.history.changed(began) < seconds:
            for daemon in self.world.daemons:
                if not is_over:
                    daemon.supervise()
            time.sleep(0.02)


def _answered(holds: Callable[[], bool]) -> bool:
    """Whether something holds; not yet, when the API server of a busy machine does not come to the answer."""
    try:
        return holds()
    except (Refused, OSError):
        return False


def points(scene: str, writes: list[str]) -> Iterator[Point]:
    """Yield every kill point of a scene that makes some writes."""
    for number, request in enumerate(writes, 1):
        for moment in MOMENTS:
            yield Point(scene, moment, number, request)
    for moment in STARTS:
        yield Point(scene, moment)
    if any("Running" in write for write in writes):
        number = next(n for n, write in enumerate(writes, 1) if "Running" in write)
        for moment in TAKEOVERS:
            yield Point(scene, moment, number)


def planned(stage: Stage, asked: argparse.Namespace, lane: int) -> list[Point]:
    """Return all points: the first lane finds the writes of each scene, the others wait for it."""
    plan = enclosure.outside() / PLAN
    names = asked.scenes or list(SCENES)
    if lane == 0:
        written = plan.with_suffix(".new")
        written.write_text(json.dumps({name: stage.writes(name) for name in names}), encoding="utf-8")
        written.rename(plan)
    deadline = time.monotonic() + SECONDS
    while not plan.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    writes = json.loads(plan.read_text(encoding="utf-8"))
    return [point for name in names for point in list(points(name, writes[name]))[: asked.most]]


def lane_played(asked: argparse.Namespace) -> int:
    """Play one lane's share of the points in the enclosure; returns 1 when something was lost or done twice."""
    lane, lanes = (int(word) for word in asked.lane.split("/"))
    scratch = enclosure.furnish()
    environ = {**Shim.environ(scratch), **mutants.copied(scratch / "played", commit=asked.commit)}
    world = World(scratch, environ=environ, lease_seconds=asked.lease_seconds)
    world.begin(2)
    stage = Stage(world, lane)
    rows: list[Row] = []
    for point in planned(stage, asked, lane)[lane::lanes]:
        began = time.monotonic()
        rows.append(stage.row(point))
        say(f"{point!s:44} {time.monotonic() - began:5.1f} s  {rows[-1]}")
        tally.write(enclosure.outside() / f"lane-{lane}.json", rows)
    rows.append(stage.end())
    tally.write(enclosure.outside() / f"lane-{lane}.json", rows)
    if asked.keep or any(row.violations for row in rows):
        for daemon in world.daemons:
            shutil.copy(daemon.log, enclosure.outside() / f"lane-{lane}-daemon-{daemon.number}.log")
    world.end()
    return 1 if any(row.violations for row in rows) else 0


def all_played(asked: argparse.Namespace) -> int:
    """Play all lanes side by side, show what came of it and write it down; returns the exit code."""
    began = time.monotonic()
    shared = ROOT / "build" / "points"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    command = [sys.executable, "-m", "soak.points", *sys.argv[1:]]
    lanes = [subprocess.Popen([*command, "--lane", f"{lane}/{asked.lanes}"]) for lane in range(asked.lanes)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        codes = [lane.wait() for lane in lanes]
    except (KeyboardInterrupt, SystemExit):  # what was played until now is told all the same
        codes = []
    finally:
        for lane in lanes:
            lane.terminate()
    if 2 in codes:
        return 2
    files = [shared / f"lane-{lane}.json" for lane in range(asked.lanes)]
    played = {file.stem: tally.read([file]) for file in files if file.exists()}
    unplayed = [file.stem for file in files if not any(row.is_end for row in played.get(file.stem, []))]
    rows = sorted((row for found in played.values() for row in found), key=lambda row: row.order)
    return tally.tell(rows, ROOT / "build" / "points.json", time.monotonic() - began, unplayed)


def main() -> int:
    """Play all points; returns 1 when something was lost or done twice, 2 when they cannot be played here."""
    parser = argparse.ArgumentParser(prog="scripts/soak points", description="Kill the reconciler at every point.")
    parser.add_argument("scenes", nargs="*", help=f"of {', '.join(SCENES)} (all)")
    parser.add_argument("--most", type=int, default=1000, help="points of each scene, at most (%(default)s)")
    parser.add_argument("--lanes", type=int, default=4, help="worlds in which they are played at once (%(default)s)")
    parser.add_argument("--lane", default="", help=argparse.SUPPRESS)
    parser.add_argument("--lease-seconds", type=float, default=3.0, help="of the reconcilers (%(default)s)")
    parser.add_argument("--commit", default="", help="what is played (the working tree)")
    parser.add_argument("--keep", action="store_true", help="keep the reconcilers' logs even when all is well")
    asked = parser.parse_args()
    if enclosure.is_inside():
        return lane_played(asked)
    if not asked.lane:
        return all_played(asked)
    try:
        return enclosure.enclosed("soak.points", sys.argv[1:], ROOT / "build" / "points")
    except enclosure.CannotEnclose as error:
        say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
