# SPDX-License-Identifier: Apache-2.0
"""A small process between the daemon and ansible-playbook, so that a stop is a stop.

It dies with its parent, adopts whatever the playbook leaves behind, and on SIGTERM ends all of it: first asked, then
killed. ansible-runner's own cancel leaves orphans with ansible-core 2.19, whose workers make sessions of their own.

Run as a script with the standard library only; nothing of the daemon is imported here.
Usage: guard.py PIDFILE COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 0.7
"""Seconds that the playbook has to end by itself after SIGTERM (0.3 s were measured)."""
STOPPED = 143
"""Exit code after a stop that was asked for: 128 + SIGTERM."""

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: int) -> None:
    """Ask the kernel for `signum` when the thread that started this process ends. Source: prctl(2)."""
    _libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies. Source: prctl(2)."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent's pid) of every process that /proc shows, zombies left out."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            yield int(name), int(fields[1])


def descendants(root: int) -> set[int]:
    """Return the pids of all living descendants of `root`."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    unseen = list(children.get(root, ()))
    while unseen:
        pid = unseen.pop()
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


def main(arguments: list[str]) -> int:
    """Run a command as described above; returns its exit code, or 143 after a stop."""
    pidfile, *command = arguments
    parent = os.getppid()
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    die_with_parent(signal.SIGTERM)
    adopt_orphans()
    if os.getppid() != parent:
        return STOPPED
    with open(pidfile, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    child = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(signal.SIGKILL))
    code: int | None = None
    while code is None and not stopping:
        try:
            code = child.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    if code is None:
        child.terminate()
        try:
            child.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pass
    kill_descendants(os.getpid())
    if stopping:
        return STOPPED
    return 128 - code if code is not None and code < 0 else int(code or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
