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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soak.daemons import ROOT
from soak.world import say

DAEMON = "stargate_reconciler"
COLLECTION = "ansible_collections/stargate/core"
_COPIED = ("plugins", "playbooks", "roles", "meta", "galaxy.yml", "crds")


@dataclass(frozen=True)
class Mutant:
    """A guard that is taken out: `old` stands exactly once in `file` and becomes `new`; `faults` are to show it."""

    name: str
    guard: str
    file: str
    old: str
    new: str
    faults: tuple[str, ...]


MUTANTS = (
    Mutant(
        "no-claim",
        "statuses are written only over the version that was read",
        f"{DAEMON}/reconcile.py",
        'patch_status(kind, meta["namespace"], meta["name"], patch, version=version)',
        'patch_status(kind, meta["namespace"], meta["name"], patch, version=None)',
        ("freeze-leader", "cut-off-reconciler", "recreate-operation"),
    ),
    Mutant(
        "no-journal",
        "the host refuses older attempts and fences, and a second begin of a destructive step",
        f"{COLLECTION}/plugins/module_utils/_operation.py",
        '    return parsed((os.environ if environ is None else environ).get(VARIABLE, ""))',
        "    return None",
        ("kill-reconciler", "kill-ssh", "restart-sshd-sessions", "link-down-in-wipe"),
    ),
    Mutant(
        "any-end-is-success",
        "success needs the host's own ok in the run's statistics",
        f"{DAEMON}/runner.py",
        '        if host in (self._stats.get("failures") or {}) or host in (self._stats.get("dark") or {}):',
        '        if host in (self._stats.get("failures") or {}):',
        ("power-cut", "link-down", "link-down-in-wipe"),
    ),
    Mutant(
        "no-sweep",
        "what a guard that was killed could not end is ended by its mark",
        f"{DAEMON}/runner.py",
        "            self._sweep()\n",
        "",
        ("kill-guard",),
    ),
    Mutant(
        "interrupted-is-forgotten",
        "an interrupted Operation goes on",
        f"{DAEMON}/plan.py",
        "    if result.outcome is Outcome.INTERRUPTED:\n        return Resume(operation)",
        "    if result.outcome is Outcome.INTERRUPTED:\n        return Recheck(3600)",
        ("kill-guard", "drain-reconciler"),
    ),
    Mutant(
        "crash-is-the-end",
        "an Operation that was Running when its reconciler died is taken up again",
        f"{DAEMON}/plan.py",
        '    again = operation.time("retryAfter")\n',
        "    if operation.phase is Phase.RUNNING:\n"
        '        return [End(operation, _refusal("Interrupted", "It was interrupted."), touched=True)]\n'
        '    again = operation.time("retryAfter")\n',
        ("kill-reconciler",),
    ),
    Mutant(
        "crash-is-users-fault",
        "a process that died is the world's failure, and is said to be one",
        f"{DAEMON}/verdict.py",
        "    if code is not None and 0 <= code < 128:",
        "    if code is not None:",
        ("kill-ansible",),
    ),
    Mutant(
        "stale-store",
        "what reads the store sees an Operation that was recreated under the same name",
        f"{DAEMON}/watch.py",
        "            if old is not None and same and _version(old) >= _version(item):",
        "            if old is not None and _version(old) >= 0:",
        ("recreate-operation", "cancel-operation"),
    ),
)


def copied(target: Path, *, commit: str = "", mutant: Mutant | None = None) -> None:
    """Copy the daemon and the collection below a directory: what is played must not change while it is played.

    They are as the working tree has them, or as a commit has. Raises ValueError when the guard is not where it was.
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


def _patch(file: Path, mutant: Mutant) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its guard stands {text.count(mutant.old)} times in {mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def environ(copy: Path) -> Mapping[str, str]:
    """Return what makes a reconciler and its plays be the copy."""
    return {"PYTHONPATH": str(copy), "ANSIBLE_COLLECTIONS_PATH": str(copy)}


def played(mutant: Mutant, asked: argparse.Namespace) -> tuple[list[str], int]:
    """Play a soak with a mutant; returns the violations and how many faults hit."""
    output = ROOT / "build" / "mutants" / f"{mutant.name}.json"
    output.unlink(missing_ok=True)
    words = (
        f"--seed {asked.seed} --ops {asked.ops} --faults {asked.faults} --hosts {asked.hosts} --mutant {mutant.name}"
    )
    words += f" --lease-seconds {asked.lease_seconds} --mean-gap {asked.mean_gap}"
    words += " --patience 45 --cancels 0 --until-violation"
    command = [sys.executable, "-m", "soak", *words.split()]
    command += ["--commit", asked.commit] if asked.commit else []
    command += [word for kind in mutant.faults for word in ("--only", kind)]
    log = output.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        subprocess.run(
            [*command, "--output", str(output)], stdout=file, stderr=file, check=False, timeout=asked.seconds
        )
    if not output.exists():
        raise RuntimeError(f"{mutant.name} could not be played: see {log}")
    said = json.loads(output.read_text(encoding="utf-8"))
    return list(said["violations"]), int(said["faults"])


def main() -> int:
    """Play every mutant; returns 1 when one was not noticed."""
    parser = argparse.ArgumentParser(prog="scripts/soak mutants", description="Take guards out, one at a time.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(m.name for m in MUTANTS)} (all)")
    parser.add_argument("--commit", default="", help="of which a guard is taken out (the working tree)")
    parser.add_argument("--seed", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--ops", type=int, default=60, help="Operations of each (%(default)s)")
    parser.add_argument("--faults", type=int, default=60, help="faults of each (%(default)s)")
    parser.add_argument("--mean-gap", type=float, default=1.0, help="more on a busy machine (%(default)s)")
    parser.add_argument("--hosts", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--lease-seconds", type=float, default=5.0, help="more on a busy machine (%(default)s)")
    parser.add_argument("--seconds", type=int, default=900, help="time for each (%(default)s)")
    asked = parser.parse_args()
    unnoticed = []
    for mutant in (m for m in MUTANTS if not asked.names or m.name in asked.names):
        violations, faults = played(mutant, asked)
        told = (
            f"{len(violations)} violations in {faults} faults, as: {violations[0][:160]}"
            if violations
            else "NOT NOTICED"
        )
        say(f"{mutant.name:26} {told}")
        unnoticed += [] if violations else [mutant.name]
    say(f"not noticed: {', '.join(unnoticed)}" if unnoticed else "every guard that was taken out was missed")
    return 1 if unnoticed else 0


def named(name: str) -> Mutant:
    """Return a mutant by its name."""
    return next(mutant for mutant in MUTANTS if mutant.name == name)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
