# SPDX-License-Identifier: Apache-2.0
"""One soak from its first Operation to its verdict: the load, the faults, the waiting, the invariants.

What is done when is `script.py`'s; how, is `trouble.py`'s, `meddling.py`'s and `rules.py`'s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from soak import cancels, meddling, script, verdict
from soak.cancels import Stops
from soak.cluster import Object, Refused
from soak.daemons import Daemon
from soak.enclosure import run, written_to
from soak.history import History, Life
from soak.meddling import Meddling
from soak.rules import SmallFaults
from soak.script import Fault
from soak.trouble import Agenda, Trouble
from soak.world import World, say

TICK = 0.02
RARER = 40
"""How much rarer faults of who leads are than the others."""
ZOMBIES = 3
"""Children of a reconciler that may be dead and not waited for: those that have died just now."""
BURIED_SECONDS = 40.0
"""Seconds after which a reconciler has taken leave of every process that has died."""
GONE_SECONDS = 4.0
"""Seconds after which nothing may be left of a run that has ended (2 on a machine that is not this busy)."""


@dataclass(frozen=True)
class Plan:
    """How long a soak is and how rough."""

    seed: int
    operations: int
    faults: int
    hosts: int = 40
    crowd: int = 80
    mean_gap: float = 0.5
    only: tuple[str, ...] = ()
    work: tuple[str, ...] = ()
    patience: float = 180.0  # without any news of an Operation; their own deadline is 120
    until_violation: bool = False
    cancels: int = 0  # that are measured once the faults are over
    longest: float = float("inf")  # seconds after which no more faults come, however few there were
    again: str = ""  # the command that plays it again


@dataclass
class Outcome:
    """What came of a soak."""

    plan: Plan
    operations: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    survivors: int = 0
    seconds: float = 0.0
    stops: Stops | None = None
    ended: dict[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How many faults have hit."""
        return sum(self.injected.values())


class Scene:
    """One soak in a world that has begun."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.rules = [SmallFaults(plan.seed, number, plan.only) for number in range(2)]
        self.agenda = Agenda()
        self.trouble = Trouble(world, self.agenda, self._see_that_it_is_gone)
        self._created = self._accepted = 0
        self._orders = script.orders(plan.seed, plan.work)
        self._next = next(self._orders)
        self._due = 0.0
        large = script.large(plan.seed, mean_gap=plan.mean_gap)
        self._streams = [large, script.leadership(plan.seed, mean_gap=plan.mean_gap * (5 if plan.only else RARER))]
        self._said = 0.0
        self._is_calm = False
        self.gone_wrong: list[str] = []

    def play(self) -> Outcome:
        """Play it; returns what came of it."""
        began = time.monotonic()
        self.history = History(self.world.cluster, self._evidence)
        self.trouble.add_kinds(Meddling(self.trouble, self.history).kinds())
        for number, rule in enumerate(self.rules):
            runs = self.world.scratch / f"daemon-{number}" / "runs"
            runs.mkdir(parents=True)
            run("mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(runs))
            self.world.add_daemon(rule).start()
        for stream in self._streams:
            self._await(stream)
        while self._created < self.plan.operations or self._hits() < self.plan.faults:
            self._step()
            if time.monotonic() - began > self.plan.longest or (self.plan.until_violation and self._worst()):
                break
        self._calm()
        outcome = Outcome(self.plan, self._created, self._counted(), seconds=time.monotonic() - began)
        if self.plan.cancels:
            outcome.stops = cancels.measured(self.world, self.plan.cancels)
            self._settle()
        self._judge(outcome)
        return outcome

    def _step(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        for daemon in self.world.daemons:
            if daemon.supervise():
                runs = daemon.directory / "runs"
                self._see_that_it_is_gone({run for run in verdict.runs() if (runs / run).exists()})
        self.agenda.work()
        is_told = self._accepted <= len(self.history.lives)  # all that was created is known
        if now >= self._due and is_told and len(self.history.unfinished()) < self.plan.crowd:
            self._create(burst=self.plan.crowd)
        self._report(now)
        time.sleep(TICK)

    def _create(self, burst: int) -> None:
        for _ in range(burst):
            for item in meddling.objects(self._next, len(self.world.hosts)):
                self._accept(item)
            self._created += 1
            self._next = next(self._orders)
            if self._next.pause:
                self._due = time.monotonic() + self._next.pause
                return

    def _accept(self, item: Object) -> None:
        """Create an object; that the API server may refuse it is what a hostile one is for."""
        try:
            self.world.cluster.create(meddling.plural(item), item)
            self._accepted += item["kind"] == "Operation"
        except Refused as error:
            if error.code not in (400, 409, 422):
                raise

    def _await(self, stream: Iterator[Fault]) -> None:
        """Put the next fault of a stream on the agenda."""
        fault = next(stream)

        def hit() -> None:
            if not self._is_calm and (not self.plan.only or fault.kind in self.plan.only):
                self.trouble.inject(fault)
            if not self._is_calm:
                self._await(stream)

        self.agenda.add(fault.gap, hit)

    def _see_that_it_is_gone(self, runs: set[str]) -> None:
        """Runs have ended, with their reconciler or without it: what they have here must end with them."""

        def look() -> None:
            if any(daemon.frozen_until for daemon in self.world.daemons):  # it sees to nothing before it is thawed
                self.agenda.add(GONE_SECONDS, look)
                return
            left = verdict.marked(runs) if runs else []
            self.gone_wrong.extend(f"process {line} has outlived its run" for line in left)

        self.agenda.add(GONE_SECONDS, look)

    def _evidence(self, life: Life) -> str:
        host = next((host for host in self.world.hosts if host.name == life.server), None)
        return verdict.lack_of_evidence(host, life.uid, life.act)

    def _counted(self) -> Counter[str]:
        return sum((daemon.proxy.injected for daemon in self.world.daemons), Counter(self.trouble.injected))

    def _hits(self) -> int:
        """How many faults have hit; of those that were chosen when only some are."""
        return sum((self.trouble.injected if self.plan.only else self._counted()).values())

    def _report(self, now: float) -> None:
        if now - self._said < 10:
            return
        self._said = now
        phases = " ".join(f"{phase or 'new'} {count}" for phase, count in sorted(self.history.phases().items()))
        bad = len(self.history.violations)
        say(f"{self._created} Operations ({phases}), {self._hits()} faults, {bad} violations")

    def _zombies(self, daemon: Daemon) -> list[str]:
        """Return the dead children of a reconciler when it has had the time to take leave of them."""
        deadline = time.monotonic() + BURIED_SECONDS
        while daemon.pid and len(dead := verdict.zombies(daemon.pid)) > ZOMBIES and time.monotonic() < deadline:
            time.sleep(0.5)
        return dead if daemon.pid else []

    def _worst(self) -> list[str]:
        """Return the violations that can be seen before the end."""
        found = self.history.violations + self.gone_wrong
        for host in self.world.hosts:
            found += verdict.of_witness(host) + verdict.of_journal(host)
        return found

    # -- the end

    def _calm(self) -> None:
        """End the faults, and wait until every Operation has ended."""
        self._is_calm = True
        for rule in self.rules:
            rule.calm = True
        self.agenda.work(everything=True)
        self._settle()

    def _settle(self) -> None:
        """Wait until every Operation has ended."""
        calm = time.monotonic()
        while self.history.unfinished() and time.monotonic() - self.history.changed(calm) < self.plan.patience:
            if self.plan.until_violation and self._worst():
                break
            for daemon in self.world.daemons:
                daemon.supervise()
            self.agenda.work()
            self._report(time.monotonic())
            time.sleep(0.1)
        time.sleep(1.0)

    def _judge(self, outcome: Outcome) -> None:
        """Ask every witness; where the first violation was enough, what had no time to end is none."""
        found = outcome.violations
        found += self._worst()
        if not (self.plan.until_violation and found):
            found += self._unended(outcome)
        self.history.stop()
        for daemon in self.world.daemons:
            found += verdict.of_runs(daemon.directory / "runs")
            dead = self._zombies(daemon)
            found += [f"reconciler {daemon.number} has {len(dead)} zombies: {set(dead)}"] if len(dead) > ZOMBIES else []
            daemon.stop()
            found += daemon.complaints + daemon.bugs()
        found += self._secrets()
        if Path(meddling.CANARY).exists():
            found.append("what a hostile object wanted was executed")
        outcome.ended = {**self.history.phases(), **self.history.reasons()}

    def _unended(self, outcome: Outcome) -> list[str]:
        """Return what has not ended although everything has had its time."""
        found = [f"Operation {x.name} ({x.uid}) is lost: {x.phase} {x.message}" for x in self.history.unfinished()]
        for server in self.world.cluster.all("servers"):
            holder = (server.get("status") or {}).get("activeOperation")
            found += [f"Server {server['metadata']['name']} is still locked by {holder}"] if holder else []
        left = verdict.marked()
        found += [f"process {line} is left" for line in left]
        outcome.survivors = len(left) + (outcome.stops.survivors if outcome.stops else 0)
        if outcome.stops and outcome.stops.quantile(0.99) > cancels.ALLOWED:
            found.append(f"a stop takes {outcome.stops.quantile(0.99):.2f} s (p99), {cancels.ALLOWED} are allowed")
        return found

    def _secrets(self) -> list[str]:
        """Look for the SSH key everywhere but where it belongs."""
        canaries = [self.world.key.splitlines()[2]]
        places = [daemon.directory for daemon in self.world.daemons]
        places += [written_to(Path(place)) for place in ("/tmp", "/var/tmp")] + [Path("/dev/shm")]  # noqa: S108 - ours
        found = verdict.of_canaries([place for place in places if place.exists()], canaries)
        for kind in ("operations", "servers", "events"):
            text = str(self.world.cluster.all(kind))
            found += [f"a secret stands in {kind}" for canary in canaries if canary in text]
        return found
