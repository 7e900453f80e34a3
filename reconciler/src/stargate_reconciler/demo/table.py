# SPDX-License-Identifier: Apache-2.0
"""A table of Operations for a terminal that is redrawn in place, or a line per change where there is no terminal.

Pure text: who reads the Operations is not known here.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from typing import TextIO

from ..model import Operation, Phase

COLUMNS = ("NAMESPACE", "NAME", "SERVER", "OPERATION", "PHASE", "STAGE", "ELAPSED")
_COLOURS = {Phase.SUCCEEDED: "\033[32m", Phase.FAILED: "\033[31m", Phase.RUNNING: "\033[36m"}


def row(operation: Operation, now: datetime) -> tuple[str, ...]:
    """Return the cells of one Operation; elapsed is from its start to its end, or to now."""
    status = operation.status
    begun, ended = operation.time("startTime"), operation.time("completionTime")
    elapsed = f"{((ended or now) - begun).total_seconds():.0f}s" if begun else ""
    stage = "" if operation.phase is Phase.SUCCEEDED else str(status.get("stage") or "")
    if operation.phase is Phase.PENDING and status.get("message"):
        stage = str(status["message"])
    return operation.namespace, operation.name, operation.server, operation.act, str(operation.phase), stage, elapsed


def lines(operations: Sequence[Operation], now: datetime, *, width: int, colour: bool) -> list[str]:
    """Return the table: a header and a line per Operation, none longer than `width`."""
    rows = [COLUMNS, *(row(operation, now) for operation in operations)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(COLUMNS))]
    spare = width - sum(w + 3 for i, w in enumerate(widths) if i != 5)
    widths[5] = max(8, min(widths[5], spare))
    found = []
    for index, cells in enumerate(rows):
        padded = [cell[: widths[i]].ljust(widths[i]) for i, cell in enumerate(cells)]
        if colour and index:
            padded[4] = f"{_COLOURS.get(operations[index - 1].phase, '')}{padded[4]}\033[0m"
        found.append("   ".join(padded).rstrip())
    return found


class Screen:
    """Draws the table over its last drawing; where output is no terminal, writes one line for each change of phase."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._drawn = 0
        self._phases: dict[str, tuple[Phase, str]] = {}

    def draw(self, operations: Sequence[Operation], now: datetime) -> None:
        """Show how things stand."""
        if not self._terminal:
            self._changes(operations, now)
            return
        width = shutil.get_terminal_size().columns
        table = lines(operations, now, width=width, colour=True)
        up = f"\033[{self._drawn}A" if self._drawn else ""
        self._out.write(up + "".join(f"\033[2K{line}\n" for line in table))
        self._out.flush()
        self._drawn = len(table)

    def _changes(self, operations: Sequence[Operation], now: datetime) -> None:
        for operation in operations:
            seen = operation.phase, str(operation.status.get("stage") or "")
            if self._phases.get(operation.uid) == seen:
                continue
            self._phases[operation.uid] = seen
            namespace, name, server, act, phase, stage, elapsed = row(operation, now)
            self._out.write(f"  {namespace}/{name}  {act} on {server}: {phase} {stage} {elapsed}".rstrip() + "\n")
        self._out.flush()
