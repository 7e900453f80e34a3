# SPDX-License-Identifier: Apache-2.0
"""The room that a soak happens in: own network, mounts and processes, so that whatever is left behind goes with it.

Directories that are written to are covered by an overlay: the machine's own files are seen, never changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSIDE = "SOAK_INSIDE"
"""Environment variable of those in the room: the directory of the world outside that they may write to."""
PROGRAMS = ("setpriv", "unshare", "ip", "sshd", "ssh", "ssh-keygen", "flock", "mount")
LAYERS = Path("/run/soak-layers")


class CannotEnclose(RuntimeError):
    """The machine lacks something that the room needs."""


def enclosed(module: str, arguments: Sequence[str], output: Path | None = None) -> int:
    """Run `python -m module` with arguments in a room of its own; returns its exit code.

    Of the world outside only the directory `output` can be written to, as `outside()`. Raises CannotEnclose when it
    needs rights or programs that are not there.
    """
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if missing:
        raise CannotEnclose(f"Failed to start: {', '.join(missing)} is missing. Run scripts/packages.")
    if os.geteuid() != 0:
        raise CannotEnclose("Failed to start: namespaces with hosts in them need root. Run it with sudo.")
    room = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "--",
    ]
    reaper = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]  # the first process takes in orphans; Python would not
    program = [sys.executable, "-m", module, *arguments]
    doors = []
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        doors.append(os.open(output, os.O_RDONLY | os.O_DIRECTORY))
    environ = {**os.environ, INSIDE: "".join(f"/proc/self/fd/{door}" for door in doors)}
    process = subprocess.Popen([*room, *reaper, *program], env=environ, pass_fds=doors)
    previous = signal.signal(signal.SIGTERM, lambda *_: process.kill())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has told those inside too, and they report
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            return 130
    finally:
        process.kill()
        signal.signal(signal.SIGTERM, previous)


def outside() -> Path:
    """Return the directory of the world outside that may be written to."""
    return Path(os.environ[INSIDE])


def is_inside() -> bool:
    """Whether this process is in the room."""
    return INSIDE in os.environ


def furnish() -> Path:
    """Cover what is written to, bring loopback up and return a scratch directory in memory."""
    run("ip", "link", "set", "lo", "up")
    run("mount", "--make-rprivate", "/")
    for place in ("/run", "/dev/shm"):  # noqa: S108 - a fresh file system is put over it
        run("mount", "-t", "tmpfs", "-o", "mode=755,size=8g", "tmpfs", place)
    for place in ("/tmp", "/var/tmp", "/var/lib", str(Path.home())):  # noqa: S108 - covered, and seen by nobody else
        _cover(Path(place))
    Path("/var/lib/stargate").mkdir(exist_ok=True)
    Path("/run/sshd").mkdir()
    scratch = Path("/run/soak")
    scratch.mkdir(mode=0o700)
    return scratch


def _cover(place: Path) -> None:
    upper, work = written_to(place), LAYERS / f"{place.name}-{len(place.parts)}" / "work"
    for layer in (upper, work):
        layer.mkdir(parents=True)
    upper.chmod(place.stat().st_mode & 0o7777)
    options = f"lowerdir={place},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "overlay", str(place))


def written_to(place: Path) -> Path:
    """Return the directory with exactly what was written to a covered place."""
    return LAYERS / f"{place.name}-{len(place.parts)}" / "upper"


def run(*command: str) -> None:
    """Run a short program; raises CannotEnclose with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise CannotEnclose(f"Failed to run {' '.join(command)}: {done.stderr.strip()}")
