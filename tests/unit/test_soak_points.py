# SPDX-License-Identifier: Apache-2.0
"""Kill points: writes are numbered, the reconciler is killed at the chosen one only, and rows are counted.

What they find needs hosts: tests/integration/test_soak.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from soak import points, tally
from soak.proxy import Request
from soak.tally import Point, Row
from soak.trap import Trap, described

API = "/apis/stargate.io/v1alpha1/namespaces/soak"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/soak/leases/stargate-reconciler"


class Prey:
    """A reconciler that notes that it was killed."""

    def __init__(self) -> None:
        self.kills = 0

    def send(self, _signum: int) -> bool:
        """Take the signal."""
        self.kills += 1
        return True


def write(**status: object) -> Request:
    """Return a write of an Operation's status."""
    return Request(0, "PATCH", f"{API}/operations/x/status", json.dumps({"status": status}).encode())


def trapped(point: Point) -> tuple[Trap, Prey]:
    """Return a trap that waits for a point, and who is in it."""
    trap, prey = Trap(), Prey()
    trap.daemons = [prey, prey]  # type: ignore[list-item]  # all that a trap needs of them
    trap.arm(point)
    return trap, prey


@pytest.mark.parametrize("moment", ["before", "after"])
def test_only_the_chosen_write_kills(moment: str) -> None:
    """Answers that come in another order than the writes do not change which write has which number."""
    trap, prey = trapped(Point("success", moment, 1))
    first, second = write(phase="Running"), write(phase="Succeeded")
    deeds = [trap.before(first), trap.before(second), trap.after(second, 200), trap.after(first, 200)]
    wanted = ["refuse", "pass", "pass", "pass"] if moment == "before" else ["pass", "pass", "pass", "lose"]
    assert [deed.kind for deed in deeds] == wanted
    assert (prey.kills, trap.caught, trap.sprung) == (1, "Operation: Running", True)


def test_a_takeover_kills_twice() -> None:
    """A renewal is no takeover: first the leader dies after its write, then whoever takes the Lease next."""
    trap, prey = trapped(Point("success", "after-takeover", 1))
    lease, claim = Request(1, "PUT", LEASE, b"{}"), write(phase="Running")
    assert [trap.before(lease).kind, trap.after(lease, 200).kind] == ["pass", "pass"]
    assert [trap.before(claim).kind, trap.after(claim, 200).kind, trap.sprung] == ["pass", "lose", False]
    assert [trap.before(lease).kind, trap.after(lease, 409).kind, trap.after(lease, 200).kind] == [
        "pass",
        "pass",
        "lose",
    ]
    assert (prey.kills, trap.sprung) == (2, True)


def test_writes_have_names() -> None:
    """A write is told in words: which object, and what it says of it."""
    lock = Request(0, "PATCH", f"{API}/servers/h/status", b'{"status": {"activeOperation": "x"}}')
    unlock = Request(0, "PATCH", f"{API}/servers/h/status", b'{"status": {"activeOperation": null}}')
    event = b'{"reason": "Started", "involvedObject": {"kind": "Server"}}'
    noted = Request(0, "POST", "/api/v1/namespaces/soak/events", event)
    assert [described(r) for r in (lock, unlock, noted, write(stage="Wipe"))] == [
        "Server: lock",
        "Server: unlock",
        "Event Started of the Server",
        "Operation: at Wipe",
    ]


def test_every_write_and_every_start_is_a_point() -> None:
    """A scene with two writes has four points at them, three at the start of the playbook and two at a takeover."""
    found = list(points.points("success", ["Server: lock", "Operation: Running"]))
    assert len(found) == 4 + 3 + 2
    assert {point.number for point in found if "takeover" in point.moment} == {2}


def test_rows_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A violation ends in exit code 1, and the file says the same as the table."""
    good = Row(Point("success", "before", 1), reached=True, ended="Succeeded", attempts=1)
    bad = Row(Point("retry", "after", 2), reached=False, lost=["lost: Running"], survivors=["process 7 is left"])
    tally.write(tmp_path / "lane.json", [good, bad])
    rows = tally.read([tmp_path / "lane.json"])
    assert (tally.tell(rows[:1], tmp_path / "out", 1.0, []), tally.tell(rows, tmp_path / "out", 1.0, [])) == (0, 1)
    said = json.loads((tmp_path / "out").read_text(encoding="utf-8"))
    assert {key: said[key] for key in ("points", "reached", "lost", "twice", "survivors")} == {
        "points": 2, "reached": 1, "lost": 1, "twice": 0, "survivors": 1
    }  # fmt: skip
    assert "2 points, 1 reached, 1 lost, 0 twice, 1 survivors; 1 with a violation" in capsys.readouterr().out
