# SPDX-License-Identifier: Apache-2.0
"""sshd hosts with processes and a journal of their own, on loopback: what is left on one of them can be counted.

What runs on them is the tests' own business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.integration.sshd import SshHost

APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
INSIDE = 'mount --make-rprivate / && mount --bind "$1" /var/lib/stargate && shift && exec "$@"'


@dataclass
class ApartHost(SshHost):
    """One sshd in namespaces of its own. Its journal is in `directory`/lib."""

    def start(self) -> ApartHost:
        """Start it and wait until it listens."""
        Path("/var/lib/stargate").mkdir(parents=True, exist_ok=True)
        (self.directory / "lib").mkdir(parents=True, exist_ok=True)
        super().start()
        return self

    def command(self, program: str, config: Path) -> list[str]:
        """Return what starts sshd: apart from everything else."""
        return [*APART, "sh", "-c", INSIDE, "sh", str(self.directory / "lib"), *super().command(program, config)]

    def stop(self) -> None:
        """Switch it off, with all that runs on it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)
            self.process = None

    def workers(self) -> dict[int, str]:
        """Return what runs on it besides sshd: numbers as seen from here, and command lines."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        namespace = Path(f"/proc/{children.split()[0]}/ns/pid").readlink()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if (entry / "ns/pid").readlink() == namespace and not is_over(entry):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
        return {pid: line for pid, line in found.items() if not line.startswith(("sshd", "/usr/sbin/sshd", "unshare"))}


def is_over(entry: Path) -> bool:
    """Whether a process is a zombie."""
    return (entry / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def carriers(mark: str) -> dict[int, str]:
    """Return the processes, here and on all hosts, that have a text in their environment."""
    found = {}
    for entry in (path for path in Path("/proc").iterdir() if path.name.isdigit() and int(path.name) != os.getpid()):
        try:
            if mark.encode() in (entry / "environ").read_bytes() and not is_over(entry):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found
