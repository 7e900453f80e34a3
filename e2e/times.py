# SPDX-License-Identifier: Apache-2.0
"""How long each stage of each Operation took, seen from outside: by watching its status.

What an Operation should have done is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO

from stargate_reconciler.demo.table import Screen
from stargate_reconciler.errors import WorldError
from stargate_reconciler.kube import connect
from stargate_reconciler.model import Operation
from stargate_reconciler.watch import Store, Watches


@dataclass
class Stages:
    """The stages of one Operation with their beginnings, seconds of the monotonic clock."""

    name: str
    seen: list[tuple[float, str]] = field(default_factory=list)

    def note(self, stage: str) -> None:
        """Take down the stage if it is a new one."""
        if stage and (not self.seen or self.seen[-1][1] != stage):
            self.seen.append((time.monotonic(), stage))

    def durations(self, ended: float) -> list[tuple[str, float]]:
        """Return each stage with its seconds; the last one lasts to the end."""
        ends = [*(began for began, _ in self.seen[1:]), ended][: len(self.seen)]
        return [(stage, end - began) for (began, stage), end in zip(self.seen, ends, strict=True)]


def follow(
    kubeconfig: str, wanted: set[tuple[str, str]], *, seconds: float, out: TextIO
) -> tuple[list[Operation], list[str]]:
    """Show Operations until all have ended; returns them and the lines of a table of their stages."""
    store = Store(lambda key: None)
    watches = Watches(connect(kubeconfig, None), sorted({namespace for namespace, _ in wanted}), lambda *_: None)
    watches.start(store)
    watches.wait(30)
    screen, deadline = Screen(out), time.monotonic() + seconds
    stages: dict[str, Stages] = {}
    ended: dict[str, float] = {}
    try:
        while time.monotonic() < deadline:
            found = sorted(store.named(wanted), key=lambda o: (o.namespace, o.name))
            screen.draw(found, datetime.now(UTC))
            _note(found, stages, ended)
            if len(found) == len(wanted) and all(operation.phase.is_final for operation in found):
                return found, _lines([(stages[o.uid], ended[o.uid]) for o in found])
            time.sleep(0.1)
    finally:
        watches.stop()
    raise WorldError(f"{', '.join(sorted(name for _, name in wanted))}: not ended within {seconds:.0f} s")


def _note(found: Sequence[Operation], stages: dict[str, Stages], ended: dict[str, float]) -> None:
    for operation in found:
        noted = stages.setdefault(operation.uid, Stages(operation.name))
        if operation.phase.is_final:
            ended.setdefault(operation.uid, time.monotonic())
        else:
            noted.note(str(operation.status.get("stage") or ""))


def _lines(noted: Sequence[tuple[Stages, float]]) -> list[str]:
    rows = []
    for stages, ended in noted:
        rows.append(f"{stages.name}")
        rows += [f"  {stage:<58.58} {seconds:6.1f} s" for stage, seconds in stages.durations(ended) if seconds >= 0.1]
    return rows
