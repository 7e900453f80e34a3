# SPDX-License-Identifier: Apache-2.0
"""From apply to Running while 1,000 other Operations wait for Servers that are missing.

Operations of the shortest play there is, one after another: what is measured is how soon the daemon acts.
"""

from __future__ import annotations

import statistics

from bench import objects, plays
from bench.api import Phases
from bench.results import Row, median
from bench.trees import cpu_seconds
from bench.world import World, say

NAMESPACE = "latency"
MISSING = 50_000
"""Number of the first Server that an Operation names though it is not there."""


def measure(world: World) -> list[Row]:
    """Return the row of the start latency."""
    pending, count = (50, 5) if world.small else (1000, 100)
    operations = plays.write_playbooks(world.directory / "latency-operations")
    world.api.make_namespace(NAMESPACE)
    world.api.create(NAMESPACE, "provisioningprofiles", [objects.profile()])
    world.api.create(NAMESPACE, "servers", [objects.server(1)])
    daemon = world.start_daemon("--operations-dir", str(operations))
    waiting = [objects.operation(f"waits-{n}", MISSING + n, act="nothing") for n in range(pending)]
    figures = []
    with Phases(world.api, NAMESPACE) as phases:
        taken = phases.apply(waiting, "Pending", seconds=180).seconds
        say(f"{pending} Operations wait; all were looked at after {taken:.1f} s, {cpu_seconds(daemon.pid):.1f} CPU s")
        for number in range(count):
            operation = objects.operation(f"runs-{number}", 1, act="nothing")
            figures.append(phases.apply([operation], "Running", seconds=60).seconds)
            phases.wait([operation["metadata"]["name"]], "Succeeded", seconds=60)
    world.end(daemon.process)
    p99 = statistics.quantiles(figures, n=100, method="inclusive")[98]
    say(f"apply to Running: median {median(figures):.3f} s, p99 {p99:.3f} s, longest {max(figures):.3f} s")
    detail = {
        "median_s": median(figures),
        "longest_s": max(figures),
        "Operations": count,
        "pending": pending,
        "pending_noticed_s": taken,
    }
    name = f"apply to Running with {pending} Operations pending, 99th percentile"
    return [Row(name, p99, "<= 1 s", holds=p99 <= 1, unit="s", detail=detail)]
