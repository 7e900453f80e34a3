# SPDX-License-Identifier: Apache-2.0
"""`python -m soak --seed N --faults N --ops N`: plays a soak, writes build/soak.json, says how to repeat it.

Exits with 1 on a violation.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from soak import enclosure, mutants, report
from soak.daemons import ROOT
from soak.scene import Plan, Scene
from soak.world import World, say


def arguments(words: list[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Throw faults at the real thing.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the script of faults (random)")
    parser.add_argument("--faults", type=int, default=10_000, help="how many have to hit, at least (%(default)s)")
    parser.add_argument("--ops", type=int, default=2_000, help="how many Operations, at least (%(default)s)")
    parser.add_argument("--hosts", type=int, default=40, help="how many machines (%(default)s)")
    parser.add_argument("--mean-gap", type=float, default=1.0, help="seconds between two large faults (%(default)s)")
    parser.add_argument("--lease-seconds", type=float, default=10.0, help="of the reconcilers (%(default)s)")
    parser.add_argument("--cancels", type=int, default=40, help="stops to measure at the end (%(default)s)")
    parser.add_argument(
        "--patience", type=float, default=180, help="seconds without news until Operations count as lost (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no more faults after these (no limit)")
    parser.add_argument("--mutant", metavar="NAME", help="play with a guard taken out (soak/mutants.py)")
    parser.add_argument("--keep", action="store_true", help="keep logs and hosts' disks even when all is well")
    parser.add_argument("--docs", action="store_true", help="put the record into docs/reliability.md")
    parser.add_argument("--commit", default="", help="what is played (the working tree)")
    parser.add_argument("--until-violation", action="store_true", help="end at the first violation")
    few = "only this kind of large fault, or of those that watches have; repeatable"
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help=few)
    parser.add_argument("--work", action="append", default=[], metavar="KIND", help="only these Operations; repeatable")
    parser.add_argument("--output", type=Path, default=ROOT / "build/soak.json", help="the results (%(default)s)")
    return parser.parse_args(words)


def again(words: list[str], asked: argparse.Namespace) -> str:
    """Return the command that plays the same script again, from the words of the command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--seed", "--faults", "--ops", "--output"):
        parser.add_argument(flag)
    parser.add_argument("--docs", action="store_true")
    rest = shlex.join(parser.parse_known_args(words)[1])
    command = f"make soak SEED={asked.seed} FAULTS={asked.faults} OPS={asked.ops}"
    return f'{command} ARGS="{rest}"' if rest else command


def main() -> int:
    """Play a soak; returns 1 on a violation, 2 when it cannot be played here."""
    words = sys.argv[1:]
    asked = arguments(words)
    if enclosure.is_inside():
        return play(asked, again(words, asked))
    output: Path = asked.output.resolve()
    output.unlink(missing_ok=True)
    given, played = [*words, "--seed", str(asked.seed)], played_on(asked.commit)
    try:
        code = enclosure.enclosed("soak", given, output.parent)
    except enclosure.CannotEnclose as error:
        say(str(error))
        return 2
    if asked.docs and code == 0:
        said = json.loads(output.read_text(encoding="utf-8"))
        report.put_into(ROOT / "docs/reliability.md", report.table(said, played))
    return code


def play(asked: argparse.Namespace, command: str) -> int:
    """Play a soak in the enclosure, and say with which command it is played again; returns the exit code."""
    plan = Plan(
        asked.seed, asked.ops, asked.faults, hosts=asked.hosts, crowd=2 * asked.hosts, mean_gap=asked.mean_gap,
        only=tuple(asked.only), work=tuple(asked.work), patience=asked.patience, until_violation=asked.until_violation,
        cancels=asked.cancels, longest=asked.minutes * 60, again=command,
    )  # fmt: skip
    scratch = enclosure.furnish()
    world = World(scratch, lease_seconds=asked.lease_seconds)
    mutant = mutants.named(asked.mutant) if asked.mutant else None
    world.environ = mutants.copied(scratch / "played", commit=asked.commit, mutant=mutant)
    say(f"seed {plan.seed}: {plan.operations} Operations, {plan.faults} faults, {plan.hosts} hosts")
    world.begin(plan.hosts)
    outcome = Scene(world, plan).play()
    report.write(enclosure.outside() / asked.output.name, outcome)
    if outcome.violations or asked.keep:
        keep(world, enclosure.outside() / f"{asked.output.stem}-kept")
    world.end()
    return report.tell(outcome)


def played_on(commit: str) -> str:
    """Return which commit was played, and when."""
    command = ["git", "describe", "--always", commit or "--dirty"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30).stdout.strip()
    return f"commit {said or 'unknown'}, {time.strftime('%Y-%m-%d', time.gmtime())}"


def keep(world: World, target: Path) -> None:
    """Keep the reconcilers' logs and the hosts' disks of a soak that went wrong."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for daemon in world.daemons:
        shutil.copy(daemon.log, target / f"daemon-{daemon.number}.log")
    shutil.copytree(world.scratch / "hosts", target / "hosts", ignore=shutil.ignore_patterns("*_key"))
    say("the reconcilers' logs and the hosts' disks are kept beside the results")


if __name__ == "__main__":
    sys.exit(main())
