# SPDX-License-Identifier: Apache-2.0
"""Where secrets are looked for: leftover files, processes as root sees them, processes as another user sees them.

What is secret, and what was done with it, is told by the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACES = (
    *("/tmp", "/var/tmp", "/dev/shm", "/run/user", "/run/lock", "/var/lib/stargate", "/var/log"),  # noqa: S108 - where files are left
    *(str(Path.home() / name) for name in (".ansible", ".local/state", ".ssh")),
)
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] if os.geteuid() == 0 else []
"""What makes a command that of another user; without root there is none to be had."""
PYTHON = "/usr/bin/python3"
"""One that other users may run too."""


def kept_in_files(canary: str, *places: str, as_: Iterable[str] = ()) -> list[str]:
    """Return the files that have a canary, those of this test's own making left out."""
    found: list[str] = []
    for place in filter(lambda name: Path(name).is_dir(), places):
        command = [*as_, "grep", "-rlsF", "--exclude-dir=pytest-of-*", "-e", canary, place]
        found += subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return found


def left(canaries: Iterable[str], *places: str) -> dict[str, list[str]]:
    """Return the files in which canaries have been left, by the beginnings of these."""
    found = {canary[:12]: kept_in_files(canary, *places) for canary in canaries}
    return {canary: files for canary, files in found.items() if files}


def seen_in_processes(canaries: Iterable[str], *, besides: Iterable[int] = ()) -> list[str]:
    """Return command lines and environments with a canary, those of some processes left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                text = (entry / name).read_bytes()
            except OSError:
                continue
            if int(entry.name) not in besides:
                found += [f"{entry.name} {name}: {canary[:12]}" for canary in canaries if canary.encode() in text]
    return found


@dataclass
class Stranger:
    """Another user, who looks at all processes as long as a test goes on."""

    process: subprocess.Popen[str]

    def saw(self) -> dict[str, Any]:
        """Let it end; returns how often it has looked, and all command lines and environments that it has seen."""
        output, _ = self.process.communicate(timeout=30)
        return dict(json.loads(output))

    def saw_none(self, canaries: Iterable[str]) -> None:
        """Let it end; fail when it has seen a canary, or has not looked at what was going on."""
        said = self.saw()
        assert said["rounds"] > 10
        assert any("ansible-playbook" in line for line in said["lines"]), "it has not seen the run itself"
        text = "\n".join([*said["lines"], *said["environs"]])
        assert [canary[:12] for canary in canaries if canary in text] == []


@contextlib.contextmanager
def stranger() -> Iterator[Stranger]:
    """Give another user who looks at all processes until asked, ended afterwards. Without root it is ourselves."""
    program = (Path(__file__).parent / "stranger.py").read_text(encoding="utf-8")
    command = [*NOBODY, PYTHON, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={}, cwd="/"
    ) as process:
        try:
            yield Stranger(process)
        finally:
            process.kill()
