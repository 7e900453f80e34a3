# SPDX-License-Identifier: Apache-2.0
"""`python -m soak --seed N --faults N --ops N`: plays a soak, writes build/soak.json, says how to repeat it.

Exits with 1 on a violation.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

from soak import enclosure, mutants
from soak.daemons import ROOT
from soak.scene import Outcome, Plan, Scene
from soak.world import World, say


def arguments(words: list[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Throw faults at the real thing.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the script of faults (random)")
    parser.add_argument("--faults", type=int, default=10_000, help="how many have to hit, at least (%(default)s)")
    parser.add_argument("--ops", type=int, default=2_000, help="how many Operations, at least (%(default)s)")
    parser.add_argument("--hosts", type=int, default=40, help="how many machines (%(default)s)")
    parser.add_argument("--mean-gap", type=float, default=0.6, help="seconds between two large faults (%(default)s)")
    parser.add_argument("--lease-seconds", type=float, default=5.0, help="of the reconcilers (%(default)s)")
    parser.add_argument("--cancels", type=int, default=200, help="stops to measure at the end (%(default)s)")
    parser.add_argument("--patience", type=float, default=180, help="seconds for the last to end (%(default)s)")
    parser.add_argument("--mutant", metavar="NAME", help="play with a guard taken out (soak/mutants.py)")
    parser.add_argument("--commit", default="", help="what is played (the working tree)")
    parser.add_argument("--until-violation", action="store_true", help="end at the first violation")
    parser.add_argument("--only", action="append", default=[], help="only this kind of large fault; repeatable")
    parser.add_argument("--output", type=Path, default=ROOT / "build/soak.json", help="the results (%(default)s)")
    return parser.parse_args(words)


def main() -> int:
    """Play a soak; returns 1 on a violation, 2 when it cannot be played here."""
    words = sys.argv[1:]
    asked = arguments(words)
    if not enclosure.is_inside():
        given = words if any(w.startswith("--seed") for w in words) else [*words, "--seed", str(asked.seed)]
        try:
            return enclosure.enclosed("soak", given)
        except enclosure.CannotEnclose as error:
            say(str(error))
            return 2
    plan = Plan(
        asked.seed, asked.ops, asked.faults, hosts=asked.hosts, crowd=2 * asked.hosts, mean_gap=asked.mean_gap,
        only=tuple(asked.only), patience=asked.patience, until_violation=asked.until_violation,
        cancels=asked.cancels,
    )  # fmt: skip
    scratch = enclosure.furnish()
    world = World(scratch, lease_seconds=asked.lease_seconds)
    mutant = mutants.named(asked.mutant) if asked.mutant else None
    mutants.copied(scratch / "played", commit=asked.commit, mutant=mutant)
    world.environ = mutants.environ(scratch / "played")
    say(f"seed {plan.seed}: {plan.operations} Operations, {plan.faults} faults, {plan.hosts} hosts")
    world.begin(plan.hosts)
    outcome = Scene(world, plan).play()
    write(asked.output, outcome)
    if outcome.violations or os.environ.get("SOAK_KEEP"):
        keep(world)
    world.end()
    return tell(outcome)


def keep(world: World) -> None:
    """Keep the reconcilers' logs and the hosts' disks of a soak that went wrong."""
    target = ROOT / "build" / "soak-failed"
    enclosure.run("rm", "-rf", str(target))
    target.mkdir(parents=True)
    for daemon in world.daemons:
        enclosure.run("cp", str(daemon.log), str(target / f"daemon-{daemon.number}.log"))
    enclosure.run("cp", "-r", str(world.scratch / "hosts"), str(target))
    say(f"logs and hosts are kept in {target}")


def write(target: Path, outcome: Outcome) -> None:
    """Write the results for machines."""
    content = {
        "seed": outcome.plan.seed,
        "operations": outcome.operations,
        "faults": outcome.faults,
        "violations": outcome.violations,
        "stop_p99_s": round(outcome.stops.quantile(0.99), 3) if outcome.stops else None,
        "stop_p50_s": round(outcome.stops.quantile(0.5), 3) if outcome.stops else None,
        "survivors": outcome.survivors,
        "seconds": round(outcome.seconds),
        "injected": dict(sorted(outcome.injected.items())),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def tell(outcome: Outcome) -> int:
    """Print what came of it; returns the exit code."""
    for kind, count in sorted(outcome.injected.items()):
        say(f"  {kind:26} {count:6}")
    for line in outcome.violations[:40]:
        say(f"VIOLATION: {line}")
    plan = outcome.plan
    say(
        f"{outcome.operations} Operations, {outcome.faults} faults, {len(outcome.violations)} violations, "
        f"{outcome.survivors} survivors in {outcome.seconds:.0f} s"
    )
    say(f"again: make soak SEED={plan.seed} FAULTS={plan.faults} OPS={plan.operations}")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
