# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [ROW ...] [--small]`: measures rows one after another and reports them.

Rows that miss their bar are reported and are no failure; a row that could not be measured is.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import results, row_bootstrap, row_fleet, row_idle, row_inventory, row_latency, row_one
from bench.population import Population
from bench.results import Row
from bench.world import ROOT, World, ansible_version, say
from stargate_reconciler import guard

ROWS = ("bootstrap", "one", "fleet", "latency", "inventory", "idle")
"""In this order: the rows with many objects come last."""


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the rows of docs/benchmarks.md.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows to measure, of: {', '.join(ROWS)} (all)")
    parser.add_argument("--small", action="store_true", help="try everything in two minutes; the figures mean nothing")
    parser.add_argument("--docs", action="store_true", help="put the table of a whole run into docs/benchmarks.md")
    usual = ROOT / "build/bench.json"
    parser.add_argument("--output", type=Path, default=usual, help="where the results go (%(default)s)")
    parsed = parser.parse_args()
    if parsed.docs and (parsed.small or parsed.rows):
        parser.error("--docs is for a whole run: without rows and without --small")
    if unknown := set(parsed.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; the rows are {', '.join(ROWS)}")
    return parsed


def measured(world: World, wanted: list[str]) -> tuple[list[Row], list[str]]:
    """Return the rows, and the names of those that could not be measured."""
    population = Population(world, 300 if world.small else 10_000)
    measures: dict[str, Callable[[], list[Row]]] = {
        "bootstrap": lambda: row_bootstrap.measure(world),
        "one": lambda: row_one.measure(world),
        "fleet": lambda: row_fleet.measure(world),
        "latency": lambda: row_latency.measure(world),
        "inventory": lambda: row_inventory.measure(world, population),
        "idle": lambda: row_idle.measure(world, population),
    }
    rows: list[Row] = []
    broken: list[str] = []
    for name in (name for name in ROWS if not wanted or name in wanted):
        began = time.monotonic()
        try:
            rows += measures[name]()
        except Exception as error:  # noqa: BLE001 - whatever it was, the other rows can still be measured
            say(f"{name}: FAILED: {error}")
            rows.append(results.failed(name, error))
            broken.append(name)
        world.end_all()
        if not population.has_servers:
            world.api.clear()
        say(f"{name}: took {time.monotonic() - began:.0f} s")
    return rows, broken


def main() -> int:
    """Measure, report, clean up; returns 1 when something could not be measured."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    guard.adopt_orphans()
    began = time.monotonic()
    about = results.machine()
    try:
        with World(small=asked.small) as world:
            about |= {"kubernetes": world.version, "ansible": ansible_version()}
            rows, broken = measured(world, asked.rows)
    finally:
        survivors = guard.kill_descendants(os.getpid())
    results.write(asked.output, rows)
    table = results.table(rows, about)
    asked.output.with_suffix(".md").write_text(table, encoding="utf-8")
    if asked.docs and not broken:
        results.put_into(ROOT / "docs/benchmarks.md", table)
    print(table)
    say(f"{asked.output} has the same for machines")
    held = sum(row.holds for row in rows)
    if broken or survivors:
        say(f"FAILED: {', '.join(broken) or f'processes {survivors} are left'}")
        return 1
    note = ", but this was only a try (--small)" if asked.small else ""
    say(f"done in {time.monotonic() - began:.0f} s: {held} of {len(rows)} rows hold{note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
