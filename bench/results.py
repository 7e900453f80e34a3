# SPDX-License-Identifier: Apache-2.0
"""What a row of the benchmark says: its figure, its bar, whether it holds; and rows as JSON and as a table.

How a figure was measured is known to the rows themselves.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGIN = "<!-- figures: written by scripts/bench --docs, not by hand -->"
END = "<!-- end of figures -->"


@dataclass(frozen=True)
class Row:
    """One figure. `value` is None when it could not be measured; `detail` is what it was made from."""

    row: str
    value: float | None
    bar: str
    holds: bool
    unit: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as build/bench.json has it."""
        value = None if self.value is None else round(self.value, 3)
        return {
            "row": self.row,
            "value": value,
            "bar": self.bar,
            "holds": self.holds,
            "unit": self.unit,
            "detail": {name: _rounded(item) for name, item in self.detail.items()},
        }

    def shown(self) -> str:
        """Return the figure with its unit."""
        return "not measured" if self.value is None else f"{self.value:.3g} {self.unit}".strip()


def failed(name: str, error: BaseException) -> Row:
    """Return the row of something that could not be measured."""
    return Row(name, None, "", holds=False, detail={"error": f"{type(error).__name__}: {error}"})


def median(figures: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(figures)


def _rounded(item: Any) -> Any:
    if isinstance(item, float):
        return round(item, 3)
    if isinstance(item, Sequence) and not isinstance(item, str):
        return [_rounded(part) for part in item]
    return item


def machine() -> dict[str, Any]:
    """Return what the figures were measured on and when."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": [round(figure, 2) for figure in os.getloadavg()],
    }


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a JSON list, in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def table(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Return the rows as a Markdown table with the machine above it."""
    head = (
        f"Machine: {about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, Linux {about['kernel']}, "
        f"Python {about['python']}, Kubernetes {about.get('kubernetes', '?')}, "
        f"ansible-core {about.get('ansible', '?')}; {about['date']}; "
        f"load average before: {', '.join(map(str, about['load_before']))}."
    )
    lines = [
        head,
        "",
        "| what | measured | goal | holds | made from |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        made = "; ".join(f"{name} {_text(item)}" for name, item in row.as_dict()["detail"].items())
        lines.append(f"| {row.row} | {row.shown()} | {row.bar} | {'yes' if row.holds else '**no**'} | {made} |")
    return "\n".join(lines) + "\n"


def _text(item: Any) -> str:
    if isinstance(item, list):
        return "[" + ", ".join(map(str, item)) + "]"
    return str(item)


def put_into(document: Path, text: str) -> None:
    """Replace what stands between the two marks of a document; raises ValueError when it has not got them."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for figures: put {BEGIN} and {END} into it.")
    document.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
