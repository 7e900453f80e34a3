# SPDX-License-Identifier: Apache-2.0
"""`python -m e2e [--provider …] [--network …] [--only-join]`: the story, its timing table, and the same for machines.

Arguments, order and exit code; the steps are in story.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.story import Story
from e2e.world import ROOT, WORKERS, World, say
from stargate_reconciler import guard
from stargate_reconciler.errors import ReconcilerError


@dataclass(frozen=True)
class Step:
    """One step that was taken."""

    step: str
    seconds: float
    ok: bool


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/e2e", description=__doc__)
    parser.add_argument("--provider", choices=["qemu", "nspawn"], default="qemu", help="the machines (%(default)s)")
    text = "how QEMU machines are connected; bridge makes stargate-br0 and needs root (%(default)s)"
    parser.add_argument("--network", choices=["user", "bridge"], default="user", help=text)
    parser.add_argument("--only-join", action="store_true", help="one worker, and no further than its Ready Node")
    parser.add_argument("--keep", action="store_true", help="leave everything running, also after a failure")
    parser.add_argument("--output", type=Path, default=ROOT / "build/e2e.json", help="for machines (%(default)s)")
    return parser.parse_args()


def told(story: Story, *, only_join: bool) -> list[Step]:
    """Take the steps until one fails; returns those taken."""
    steps = story.join_steps() if only_join else story.steps()
    taken: list[Step] = []
    for title, act in steps:
        say(f"[{len(taken) + 1}/{len(steps)}] {title}")
        began = time.monotonic()
        try:
            act()
        except ReconcilerError as error:
            say(f"FAILED: {title}: {error}")
            _show_log(story)
            return [*taken, Step(title, round(time.monotonic() - began, 1), ok=False)]
        taken.append(Step(title, round(time.monotonic() - began, 1), ok=True))
        say(f"[{len(taken)}/{len(steps)}] {title}: ok after {taken[-1].seconds:.1f} s")
    return taken


def _show_log(story: Story) -> None:
    if story.world.daemon.log.is_file():
        say(f"the daemon's last words:\n{story.world.daemon.tail()}")


def report(story: Story, steps: list[Step], output: Path) -> None:
    """Print the tables and write the file for machines."""
    print("\nStages of the Operations, as their statuses showed them")
    print("\n".join(story.stages))
    print(f"\n{'step':<60} {'seconds':>8}")
    for step in steps:
        print(f"{step.step:<60} {step.seconds:8.1f}{'' if step.ok else '  FAILED'}")
    print(f"{'all':<60} {sum(step.seconds for step in steps):8.1f}", flush=True)
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps([asdict(step) for step in steps], indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Tell the story; returns 1 when a step failed or something is left running."""
    asked = arguments()
    if asked.provider == "nspawn" and os.geteuid() != 0:
        say("machines in namespaces need root; --provider qemu does not")
        return 2
    if asked.network == "bridge" and (os.geteuid() != 0 or asked.provider != "qemu"):
        say("a bridge is for QEMU machines and needs root; --network user does not")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    guard.adopt_orphans()
    world = World(asked.provider, WORKERS[:1] if asked.only_join else WORKERS, asked.keep, asked.network)
    story, steps = Story(world), list[Step]()
    survivors: set[int] = set()
    try:
        with world:
            steps = told(story, only_join=asked.only_join)
    finally:
        if not asked.keep:
            survivors = guard.kill_descendants(os.getpid())
            shutil.rmtree(world.directory, ignore_errors=True)
    report(story, steps, asked.output)
    if survivors or not steps or not steps[-1].ok:
        say(f"FAILED{f': processes {survivors} were left' if survivors else ''}")
        return 1
    say(f"passed, {sum(step.seconds for step in steps):.0f} s; {asked.output} has the same for machines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
