# SPDX-License-Identifier: Apache-2.0
"""What kill points are and what came of them: a row for each, a table, and counts for machines.

How they are played is `points.py`'s.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from soak import verdict
from soak.hosts import Host
from soak.world import say


@dataclass(frozen=True)
class Scene:
    """What one Operation goes through: the name tells `witness.sh` what to do (see there)."""

    name: str
    act: str
    operation: str
    phase: str
    reason: str = ""
    cancel: bool = False
    attempts: int = 1


SCENES = (
    Scene("success", "soak-three", "three-{:05d}-60", "Succeeded"),
    Scene("failure", "soak-mistake", "mistake-{:05d}-0", "Failed", "Refused"),
    Scene("retry", "soak-two", "flaky-{:05d}-60-1", "Succeeded", attempts=2),
    Scene("cancel", "soak-two", "slow-{:05d}-120000", "Failed", "Cancelled", cancel=True),
)


ALL = "all"
"""In place of a scene: what is wrong with none of them alone."""


@dataclass(frozen=True)
class Point:
    """Where the reconciler is killed: at its nth write, or at the start of a process of its."""

    scene: str
    moment: str
    number: int = 0
    request: str = ""

    @property
    def place(self) -> str:
        """What it is killed at."""
        return f"write {self.number}" if self.number else "ansible-playbook"

    def __str__(self) -> str:
        """As a line of progress shows it."""
        return f"{self.scene}: {self.moment} {self.place} ({self.request})"


@dataclass
class Row:
    """What came of the kill at one point."""

    point: Point
    reached: bool
    request: str = ""
    ended: str = ""
    attempts: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_end(self) -> bool:
        """Whether it is no kill but what was found when a lane had been played."""
        return self.point.scene == ALL

    @property
    def violations(self) -> list[str]:
        """All that is wrong."""
        return self.lost + self.twice + self.survivors + self.wrong

    @property
    def order(self) -> tuple[int, bool, int, str]:
        """Where it stands in the table."""
        names = [scene.name for scene in SCENES]
        place = names.index(self.point.scene) if self.point.scene in names else len(names)
        is_write = self.point.moment in ("before", "after")
        return place, not is_write, self.point.number, self.point.moment.replace("before", "a")

    @property
    def done(self) -> str:
        """The steps that the host has seen the end of."""
        return " ".join(step + (f" x{count}" if count > 1 else "") for step, count in self.steps.items()) or "-"

    def __str__(self) -> str:
        """As a line of progress shows it."""
        said = "; ".join(self.violations) or "ok"
        return f"{'' if self.reached else '(not reached) '}{self.ended}, attempts {self.attempts}: {said}"


def steps(host: Host, uid: str) -> dict[str, int]:
    """Return how often a host has seen the end of each step of an Operation."""
    return dict(Counter(line[3] for line in host.witnessed() if line[:2] == ["end", uid]))


def repeated(host: Host, uid: str) -> list[str]:
    """Return the steps of an Operation that have begun again although the journal had them as done."""
    done: set[str] = set()
    found = []
    for entry in verdict.journal(host).get("history") or []:
        if entry["uid"] != uid:
            continue
        if entry["step"] in done:
            found.append(f"{host.name}: {entry['step']} of {uid} was done, and began again")
        if entry["state"] == "done":
            done.add(entry["step"])
    return found


def write(file: Path, rows: Sequence[Row]) -> None:
    """Write the rows of one lane."""
    file.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")


def read(files: Iterable[Path]) -> list[Row]:
    """Return the rows of some lanes."""
    said: list[dict[str, Any]] = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    return [Row(**{**row, "point": Point(**row["point"])}) for row in said]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return the counts that stand at the end."""
    points = [row for row in rows if not row.is_end]
    return {
        "points": len(points),
        "reached": sum(row.reached for row in points),
        "lost": sum(bool(row.lost) for row in rows),
        "twice": sum(bool(row.twice) for row in rows),
        "survivors": sum(len(row.survivors) for row in rows),
    }


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the table."""
    head = ("scene", "moment", "point", "request", "reached", "ended as", "attempts", "steps done")
    cells = [head]
    for row in (row for row in rows if not row.is_end):
        point, reached = row.point, "yes" if row.reached else "NO"
        cells.append(
            (point.scene, point.moment, point.place, row.request, reached, row.ended, str(row.attempts), row.done)
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def tell(rows: Sequence[Row], output: Path, seconds: float, unplayed: Sequence[str]) -> int:
    """Show the table and the counts, and write them down; returns 1 when something is wrong."""
    bad = [row for row in rows if row.violations]
    said = {**counts(rows), "violations": [line for row in bad for line in row.violations], "unplayed": list(unplayed)}
    said |= {"seconds": round(seconds), "rows": [asdict(row) for row in rows]}
    output.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines(rows)))
    for row in bad:
        say(f"{row.point}: {'; '.join(row.violations)}")
    for name in unplayed:
        say(f"{name} was not played to its end")
    total = ", ".join(f"{count} {name}" for name, count in counts(rows).items())
    say(f"{total}; {len(bad)} with a violation, {seconds:.0f} s")
    return 1 if bad or unplayed else 0
