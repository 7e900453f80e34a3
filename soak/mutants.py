# SPDX-License-Identifier: Apache-2.0
"""Is the harness strong enough? `python -m soak.mutants` takes one guard at a time out of a copy, and has to be told.

A mutant is a patched copy of the daemon and the collection, played with the faults that the guard is there for. One
that no invariant notices means that the harness is too weak.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soak.daemons import ROOT
from soak.world import say

DAEMON = "stargate_reconciler"
COLLECTION = "ansible_collections/stargate/core"
_COPIED = ("plugins", "playbooks", "roles", "meta", "galaxy.yml", "crds")


@dataclass(frozen=True)
class Play:
    """How a guard is put to the test: the faults that it is there for, and how many how fast."""

    faults: tuple[str, ...]
    count: int = 60
    operations: int = 60
    hosts: int = 12
    mean_gap: float = 0.5
    lease_seconds: float = 10.0
    work: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Return what tells `python -m soak` so."""
        sizes = f"--ops {self.operations} --faults {self.count} --hosts {self.hosts} --mean-gap {self.mean_gap}"
        sizes += f" --lease-seconds {self.lease_seconds} --patience 60 --cancels 0 --until-violation"
        chosen = [("--only", kind) for kind in self.faults] + [("--work", kind) for kind in self.work]
        return [*sizes.split(), *(word for pair in chosen for word in pair)]


@dataclass(frozen=True)
class Mutant:
    """A guard that is taken out: `old` stands exactly once in `file` and becomes `new`; `play` is to show it."""

    name: str
    guard: str
    file: str
    old: str
    new: str
    play: Play


MUTANTS = (
    Mutant(
        "no-claim",
        "statuses are written only over the version that was read",
        f"{DAEMON}/reconcile.py",
        'patch_status(kind, meta["namespace"], meta["name"], patch, version=version)',
        'patch_status(kind, meta["namespace"], meta["name"], patch, version=None)',
        Play(("recreate-operation", "watch-silent"), count=80, operations=80, mean_gap=0.05),
    ),
    Mutant(
        "no-journal",
        "the host refuses older attempts and fences, and a second begin of a destructive step",
        f"{COLLECTION}/plugins/module_utils/_operation.py",
        '    return parsed((os.environ if environ is None else environ).get(VARIABLE, ""))',
        "    return None",
        Play(("freeze-leader",), count=10, operations=60, lease_seconds=3.0, work=("slow",)),
    ),
    Mutant(
        "any-end-is-success",
        "success needs the host's own ok in the run's statistics",
        f"{DAEMON}/runner.py",
        '        if host in (self._stats.get("failures") or {}) or host in (self._stats.get("dark") or {}):',
        '        if host in (self._stats.get("failures") or {}):',
        Play(("power-cut", "link-down", "link-down-in-wipe")),
    ),
    Mutant(
        "no-sweep",
        "what a guard that was killed could not end is ended by its mark",
        f"{DAEMON}/runner.py",
        "            self._sweep()\n",
        "",
        Play(("kill-guard",), count=40, operations=60, mean_gap=0.1, work=("slow",)),
    ),
    Mutant(
        "interrupted-is-the-end",
        "an Operation whose run was stopped with its reconciler goes on in the next one",
        f"{DAEMON}/plan.py",
        "    if result.outcome is Outcome.INTERRUPTED:\n        return Resume(operation)",
        "    if result.outcome is Outcome.INTERRUPTED:\n        return End(operation, result, touched=True)",
        Play(("drain-reconciler",), count=20, mean_gap=0.5),
    ),
    Mutant(
        "crash-is-the-end",
        "an Operation that was Running when its reconciler died is taken up again",
        f"{DAEMON}/plan.py",
        '    again = operation.time("retryAfter")\n',
        "    if operation.phase is Phase.RUNNING:\n"
        '        return [End(operation, _refusal("Interrupted", "It was interrupted."), touched=True)]\n'
        '    again = operation.time("retryAfter")\n',
        Play(("kill-reconciler",)),
    ),
    Mutant(
        "crash-is-users-fault",
        "a process that died is the world's failure, and is said to be one",
        f"{DAEMON}/verdict.py",
        "    if code is not None and 0 <= code < 128 and not any(cause in said for cause in EXHAUSTED):",
        "    if code is not None:",
        Play(("kill-ansible",)),
    ),
    Mutant(
        "stale-store",
        "what a watch tells of an object takes the place of what was known of it",
        f"{DAEMON}/watch.py",
        "            if old is not None and same and _version(old) >= _version(item):",
        "            if old is not None and _version(old) >= 0:",
        Play(("recreate-operation", "cancel-operation"), count=10, operations=30),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a play."""

    violations: list[str]
    faults: int
    seconds: float

    def __str__(self) -> str:
        """As a line says it."""
        size = f"{self.faults} faults, {self.seconds:.0f} s"
        if not self.violations:
            return f"nothing noticed in {size}"
        return f"{len(self.violations)} violations in {size}, as: {self.violations[0][:200]}"


def copied(target: Path, *, commit: str = "", mutant: Mutant | None = None) -> Mapping[str, str]:
    """Copy the daemon and the collection below a directory: what is played must not change while it is played.

    They are as the working tree has them, or as a commit has. Returns the environment that makes a reconciler and its
    plays be the copy. Raises ValueError when the guard is not where it was.
    """
    source = ROOT
    if commit:
        source = target / "commit"
        source.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True, timeout=60)
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True, timeout=60)
    shutil.copytree(source / "reconciler/src" / DAEMON, target / DAEMON)
    (target / COLLECTION).mkdir(parents=True)
    for name in _COPIED:
        place = target / COLLECTION / name
        (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, place)
    if mutant is not None:
        _patch(target / mutant.file, mutant)
    return {"PYTHONPATH": str(target), "ANSIBLE_COLLECTIONS_PATH": str(target)}


def _patch(file: Path, mutant: Mutant) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its guard stands {text.count(mutant.old)} times in {mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def played(play: Play, asked: argparse.Namespace, mutant: Mutant | None = None) -> Outcome:
    """Play a soak with a mutant, or without one; raises RuntimeError when it cannot be played."""
    name = mutant.name if mutant else f"control-{play.faults[0]}"
    output = ROOT / "build" / "mutants" / f"{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "soak", "--seed", str(asked.seed), *play.words(), "--output", str(output)]
    command += ["--commit", asked.commit] if asked.commit else []
    command += ["--mutant", mutant.name] if mutant else []
    log = output.with_suffix(".log")
    began = time.monotonic()
    with log.open("wb") as file:
        subprocess.run(command, stdout=file, stderr=file, check=False, timeout=asked.seconds)
    if not output.exists():
        raise RuntimeError(f"{name} could not be played: see {log}")
    said = json.loads(output.read_text(encoding="utf-8"))
    return Outcome(list(said["violations"]), int(said["faults"]), time.monotonic() - began)


def main() -> int:
    """Play every mutant; returns 1 when one was not noticed, or when there was a violation without one."""
    parser = argparse.ArgumentParser(prog="scripts/soak mutants", description="Take guards out, one at a time.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(m.name for m in MUTANTS)} (all)")
    parser.add_argument("--control", action="store_true", help="leave every guard where it is: nothing may be found")
    parser.add_argument("--commit", default="", help="of which a guard is taken out (the working tree)")
    parser.add_argument("--seed", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--seconds", type=int, default=1200, help="time for each (%(default)s)")
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if not asked.names or m.name in asked.names]
    wrong = []
    for mutant in chosen:
        try:
            outcome = played(mutant.play, asked, None if asked.control else mutant)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            say(f"{mutant.name:26} not played: {error}")
            wrong.append(mutant.name)
            continue
        say(f"{mutant.name:26} {outcome}")
        wrong += [mutant.name] if bool(outcome.violations) is asked.control else []
    good = (
        "nothing was found where no guard was missing" if asked.control else "every guard that was taken out was missed"
    )
    bad = "found something without any mutant" if asked.control else "not noticed"
    say(f"{bad}: {', '.join(wrong)}" if wrong else good)
    return 1 if wrong else 0


def named(name: str) -> Mutant:
    """Return a mutant by its name."""
    return next(mutant for mutant in MUTANTS if mutant.name == name)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
