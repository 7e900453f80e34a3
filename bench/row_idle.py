# SPDX-License-Identifier: Apache-2.0
"""What the daemon takes when nothing happens, with 10,000 Servers and 10,000 finished Operations.

Measured after it has read everything and come to rest.
"""

from __future__ import annotations

import time

from bench.population import Population
from bench.results import Row
from bench.trees import MemoryWatch, cpu_seconds, memory, tree
from bench.world import Daemon, World, say

MOST_MB, MOST_SHARE = 200.0, 1.0


def measure(world: World, population: Population) -> list[Row]:
    """Return a row for memory and one for processor time."""
    count = population.servers()
    population.operations()
    window = 5.0 if world.small else 60.0
    began = time.monotonic()
    with MemoryWatch(lambda: [process.pid for process in world.processes[-1:] if process.pid]) as watch:
        daemon = world.start_daemon()
        leads = time.monotonic() - began
        _settle(world, daemon, count)
    start_cpu = cpu_seconds(daemon.pid)
    say(f"the daemon leads after {leads:.1f} s and {start_cpu:.1f} CPU s; now {window:.0f} s of nothing")
    before, moment = cpu_seconds(daemon.pid), time.monotonic()
    time.sleep(window)
    share = 100 * (cpu_seconds(daemon.pid) - before) / (time.monotonic() - moment)
    pss, rss = memory(tree([daemon.pid]))
    world.end(daemon.process)
    name = f"idle with {count} Servers and {count} finished Operations"
    sizes = {"pss_mb": pss, "rss_mb": rss, "peak_rss_mb": watch.peak_rss, "start_s": leads, "start_cpu_s": start_cpu}
    say(f"idle: {rss:.0f} MB RSS, {pss:.0f} MB PSS, {share:.2f} % of a core")
    return [
        Row(f"{name}: memory", rss, "<= 200 MB RSS", holds=rss <= MOST_MB, unit="MB", detail=sizes),
        Row(f"{name}: CPU", share, "<= 1 %", holds=share <= MOST_SHARE, unit="% of a core", detail={"seconds": window}),
    ]


def _settle(world: World, daemon: Daemon, count: int) -> None:
    """Wait until every object is known and nothing is left to look at."""

    def rests() -> bool:
        known = daemon.metric("stargate_objects") >= 2 * count
        return known and not daemon.metric("stargate_queue_depth")

    world.until(rests, "the daemon does not come to rest", daemon.process, seconds=180)
    time.sleep(2)
