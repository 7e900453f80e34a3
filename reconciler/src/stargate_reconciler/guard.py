# SPDX-License-Identifier: Apache-2.0
"""A small process between the daemon and ansible-playbook, so that a stop is a stop.

It dies with its parent, adopts whatever the playbook leaves behind, and on SIGTERM ends all of it but local machines:
first asked, then killed. ansible-runner's own cancel leaves orphans with ansible-core 2.19.

Run as a script with the standard library only; nothing of the daemon is imported here.
Usage: guard.py PIDFILE COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 0.7
"""Seconds that the playbook has to end by itself after SIGTERM (0.3 s were measured)."""
STOPPED = 143
"""Exit code after a stop that was asked for: 128 + SIGTERM."""
UNSTARTED = 126
"""Exit code when the command did not even begin, which no playbook is to blame for. Shells use it alike."""

MACHINE = b"STARGATE_MACHINE="
"""What the environment of every process of a local machine has (plugins/module_utils/_process.py)."""

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: int) -> None:
    """Ask the kernel for `signum` when the thread that started this process ends. Source: prctl(2)."""
    _libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies. Source: prctl(2)."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the pid of every process that /proc shows, with what its stat says from the state on. Source: proc(5)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            yield int(entry.name), (entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue


def parents() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent's pid) of every process that lives."""
    return ((pid, int(fields[1])) for pid, fields in processes() if fields[0] not in (b"Z", b"X"))


def is_machine(pid: int) -> bool:
    """Whether a process is a local machine's, which is made to outlive the run that started it."""
    try:
        return any(entry.startswith(MACHINE) for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return False


def descendants(root: int) -> set[int]:
    """Return the pids of all living descendants of `root`, machines and what runs in them left out."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    unseen = list(children.get(root, ()))
    while unseen:
        pid = unseen.pop()
        if is_machine(pid):
            continue
        found.add(pid)
        unseen.extend(children.get(pid, ()))
    return found


def kill_descendants(root: int, *, seconds: float = 1.5) -> set[int]:
    """Kill all descendants of `root`, again and again until none is left or `seconds` passed; returns the survivors."""
    deadline = time.monotonic() + seconds
    while left := descendants(root):
        for pid in left:
            _kill(pid, signal.SIGKILL)
        _reap()
        if time.monotonic() > deadline:
            return descendants(root)
        time.sleep(0.01)
    return set()


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


class Stop(Exception):
    """Somebody asked for the end."""


def _stop(_signum: int, _frame: FrameType | None) -> None:
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)
    raise Stop


def main(arguments: list[str]) -> int:
    """Run a command as described above; returns its exit code, 143 after a stop, 126 when it could not be started."""
    pidfile, *command = arguments
    parent = os.getppid()
    child = None
    try:
        for signum in STOPS:
            signal.signal(signum, _stop)
        die_with_parent(signal.SIGTERM)
        adopt_orphans()
        if os.getppid() != parent:
            return STOPPED
        Path(pidfile).write_text(str(os.getpid()), encoding="ascii")
        child = subprocess.Popen(command, preexec_fn=_last_breath)  # noqa: PLW1509 - no other thread in this process
        code = child.wait()
    except OSError as error:
        print(f"Failed to start {command[0]}: {error}", file=sys.stderr)
        code = UNSTARTED
    except Stop:
        code = STOPPED
        if child is not None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=PATIENCE)
    kill_descendants(os.getpid())
    return 128 - code if code < 0 else code


def _last_breath() -> None:
    for signum in STOPS:
        signal.signal(signum, signal.SIG_DFL)
    die_with_parent(signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
