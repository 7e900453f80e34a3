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
        cores = len(os.sched_getaffinity(0))
        self.forks = min(count, WAITING_FORKS * cores)
        self.pool, self.pooled = 2 * cores, min(count, 100)
        self.wide = min(count, 50)
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


@dataclass
class Sides:
    """The ways that are compared."""

    operations: Side = field(default_factory=Side)
    playbook: Side = field(default_factory=Side)
    pool: Side = field(default_factory=Side)
    """A process for each Operation, some at a time."""
    wide: Side = field(default_factory=Side)
    """A process for each of fewer Operations, all at once."""


def measure(world: World) -> list[Row]:
    """Return the rows about many Operations at once."""
    fleet, sides = Fleet(world, 12 if world.small else 200), Sides()
    daemon = world.start_daemon("--dc-api-url", fleet.url)
    together = [fleet.playbook(fleet.servers, "fleet", fleet.forks)]
    with Phases(world.api, NAMESPACE) as phases:
        for _ in range(1 if world.small else 3):
            fleet.by_operations(daemon, phases, sides.operations)
            say(f"{fleet.count} Operations: {sides.operations.said()}")
            fleet.by_playbooks(together, sides.playbook, at_once=1)
            say(f"one ansible-playbook: {sides.playbook.said()}")
    world.end(daemon.process)
    alone = [fleet.playbook([server], f"alone-{n}", 1) for n, server in enumerate(fleet.servers)]
    fleet.by_playbooks(alone[: fleet.pooled], sides.pool, at_once=fleet.pool)
    say(f"a process for each of {fleet.pooled}, {fleet.pool} at a time: {sides.pool.said()}")
    fleet.by_playbooks(alone[: fleet.wide], sides.wide, at_once=fleet.wide)
    say(f"a process for each of {fleet.wide}, all at once: {sides.wide.said()}")
    return [_against_one(fleet, sides), _faster_than_each(fleet, sides), _smaller_than_each(fleet, sides)]


def _against_one(fleet: Fleet, sides: Sides) -> Row:
    ours, one = sides.operations, sides.playbook
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


def _faster_than_each(fleet: Fleet, sides: Sides) -> Row:
    """Return the row about time, against a pool of processes as ansible-operator and AWX keep one.

    Its slots do one after another, so the time of all is scaled up from that of as many as were measured.
    """
    all_pooled = median(sides.pool.seconds) * fleet.count / fleet.pooled
    faster = all_pooled / median(sides.operations.seconds)
    detail = {
        "operations_s": median(sides.operations.seconds),
        "pool_s": all_pooled,
        "scaled_from": fleet.pooled,
        "scaled_from_s": median(sides.pool.seconds),
        "operations_cpu_s": median(sides.operations.cpu),
        "pool_cpu_s": median(sides.pool.cpu) * fleet.count / fleet.pooled,
        "pool_peak_mb": median(sides.pool.memory),
    }
    name = f"the same {fleet.count}, against one process per Operation, {fleet.pool} at a time: time"
    return Row(name, faster, ">= 5 x faster", holds=faster >= 5, unit="x faster", detail=detail)


def _smaller_than_each(fleet: Fleet, sides: Sides) -> Row:
    """Return the row about memory, against all processes at once, as far as measured and scaled up from there."""
    ours, wide = median(sides.operations.memory), median(sides.wide.memory)
    everything = wide * fleet.count / fleet.wide
    share = ours / everything
    detail = {
        "operations_peak_mb": ours,
        "processes_peak_mb": everything,
        "scaled_from": fleet.wide,
        "scaled_from_mb": wide,
        "most_processes_of_operations": sides.operations.processes,
    }
    name = f"the same {fleet.count}, against one process per Operation, all at once: peak memory"
    return Row(name, share, "<= 0.1 x", holds=share <= 0.1, unit="x", detail=detail)
