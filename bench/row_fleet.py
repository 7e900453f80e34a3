# SPDX-License-Identifier: Apache-2.0
"""200 Operations at once: against one ansible-playbook over the same hosts, and against one process for each.

All sides act on hosts of the same mock datacenter, so that the waiting is the same and the rest is overhead.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import objects, playbook, plays
from bench.api import Phases
from bench.playbook import Playbook, Running
from bench.results import Row, median
from bench.trees import MemoryWatch, cpu_seconds
from bench.world import ROOT, Daemon, World, say

NAMESPACE = "fleet"
WAITING_FORKS = 25
"""Forks per core that the daemon gives to a run whose hosts only wait; the other side gets the same number."""


@dataclass
class Side:
    """What was measured of one side, a figure for each round; memory is PSS in MB over all its processes."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    processes: int = 0

    def note(self, seconds: float, watch: MemoryWatch, cpu: float) -> None:
        """Add a round."""
        self.seconds.append(seconds)
        self.memory.append(watch.peak_pss)
        self.cpu.append(cpu)
        self.processes = max(self.processes, watch.most_processes)

    def said(self) -> str:
        """Return the last round as a text."""
        return f"{self.seconds[-1]:.1f} s, {self.cpu[-1]:.0f} CPU s, {self.memory[-1]:.0f} MB"


class Fleet:
    """Some Servers of a mock datacenter and the ways to repave all of them."""

    def __init__(self, world: World, count: int) -> None:
        self.world, self.count = world, count
        self.cores = len(os.sched_getaffinity(0))
        self.forks = min(count, WAITING_FORKS * self.cores)
        self.url = world.start_datacenter(speed=10)
        self.servers = [objects.server(number) for number in range(count)]
        world.api.make_namespace(NAMESPACE)
        world.api.create(NAMESPACE, "provisioningprofiles", [objects.profile()])
        world.api.create(NAMESPACE, "servers", self.servers)
        self._round = 0

    def playbook(self, servers: Sequence[objects.Object], name: str, forks: int) -> Playbook:
        """Return the built-in repave of some Servers for bare ansible-playbook."""
        path: Path = self.world.directory / f"{name}.json"
        known = {"datacenters": {"*": {"url": self.url}}}
        plays.write_inventory(path, servers, variables=known, profile=objects.profile())
        return Playbook(ROOT / "playbooks/operations/repave.yml", path, self.world.directory, forks)

    def by_operations(self, daemon: Daemon, phases: Phases, side: Side) -> None:
        """Apply an Operation for each Server at once and wait for all to succeed."""
        self._round += 1
        operations = [objects.operation(f"repave-{self._round}-{n}", n) for n in range(self.count)]
        before = cpu_seconds(daemon.pid)
        with MemoryWatch(lambda: [daemon.pid]) as watch:
            applied = phases.apply(operations, "Succeeded", seconds=240)
        self.world.until(lambda: not daemon.metric("stargate_runs"), "a run does not end", daemon.process)
        side.note(applied.seconds, watch, cpu_seconds(daemon.pid) - before)

    def by_playbooks(self, books: Sequence[Playbook], side: Side, *, at_once: int) -> None:
        """Run ansible-playbooks, `at_once` at a time."""
        running = Running()
        before = os.times().children_user + os.times().children_system
        with MemoryWatch(running.now) as watch:
            seconds = playbook.run_each(books, at_once=at_once, running=running)
        cpu = os.times().children_user + os.times().children_system - before
        side.note(seconds, watch, cpu)


def measure(world: World) -> list[Row]:
    """Return the rows about many Operations at once."""
    fleet = Fleet(world, 12 if world.small else 200)
    rounds = 1 if world.small else 3
    daemon = world.start_daemon("--dc-api-url", fleet.url)
    ours, one, pool = Side(), Side(), Side()
    together = [fleet.playbook(fleet.servers, "fleet", fleet.forks)]
    at_once = 2 * fleet.cores
    with Phases(world.api, NAMESPACE) as phases:
        for _ in range(rounds):
            fleet.by_operations(daemon, phases, ours)
            say(f"{fleet.count} Operations: {ours.said()}")
            fleet.by_playbooks(together, one, at_once=1)
            say(f"one ansible-playbook: {one.said()}")
    alone = [fleet.playbook([s], f"alone-{n}", 1) for n, s in enumerate(fleet.servers)]
    fleet.by_playbooks(alone, pool, at_once=at_once)
    say(f"a process for each, {at_once} at once: {pool.said()}")
    wide = Side()
    few = min(fleet.count, fleet.forks)
    fleet.by_playbooks(alone[:few], wide, at_once=few)
    say(f"a process for each of {few}, all at once: {wide.said()}")
    world.end(daemon.process)
    return [_against_one(fleet, ours, one), *_against_each(fleet, ours, pool, wide)]


def _against_one(fleet: Fleet, ours: Side, one: Side) -> Row:
    ratio = median(ours.seconds) / median(one.seconds)
    detail = {
        "operations_s": median(ours.seconds),
        "playbook_s": median(one.seconds),
        "operations_cpu_s": median(ours.cpu),
        "playbook_cpu_s": median(one.cpu),
        "operations_peak_mb": median(ours.memory),
        "playbook_peak_mb": median(one.memory),
        "forks": fleet.forks,
        "rounds": len(ours.seconds),
    }
    name = f"{fleet.count} Operations applied at once, against one `ansible-playbook` over the same hosts"
    return Row(name, ratio, "<= 1.2 x", holds=ratio <= 1.2, unit="x", detail=detail)


def _against_each(fleet: Fleet, ours: Side, pool: Side, wide: Side) -> list[Row]:
    """Return time and memory against one process per Operation.

    Time is against a pool as ansible-operator and AWX keep one. Memory is against as many processes as serve as many
    hosts at once as the daemon's forks do: that is what the same concurrency costs without sharing a process.
    """
    at_once = 2 * fleet.cores
    faster = median(pool.seconds) / median(ours.seconds)
    times = {
        "operations_s": median(ours.seconds),
        "pool_s": median(pool.seconds),
        "pool_size": at_once,
        "operations_cpu_s": median(ours.cpu),
        "pool_cpu_s": median(pool.cpu),
        "pool_peak_mb": median(pool.memory),
    }
    share = median(ours.memory) / median(wide.memory)
    sizes = {
        "operations_peak_mb": median(ours.memory),
        "processes_peak_mb": median(wide.memory),
        "at_once": min(fleet.count, fleet.forks),
    }
    same = f"the same {fleet.count}, against one process per Operation"
    return [
        Row(f"{same}: time", faster, ">= 5 x faster", holds=faster >= 5, unit="x faster", detail=times),
        Row(f"{same}: peak memory", share, "<= 0.1 x", holds=share <= 0.1, unit="x", detail=sizes),
    ]
