# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remote work ends with its connection: a process above a module's watches whether anybody still reads what it says.

PRIVATE to the collection. sshd, like everybody else who starts a program for somebody, closes its end of the program's
standard output when the connection is gone. What systemd was asked to start is systemd's, and stays.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils import _operation as operations
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._journal import Journal, Turn
from ansible_collections.stargate.core.plugins.module_utils._operation import Operation

_SYSTEMD = Path("/run/systemd/system")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SCOPE_SECONDS = 1.0
_TIDYING = 0.4
"""Seconds for a module to remove files of secrets, of the 2 that all has to be gone in."""
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


@contextmanager
def turn(journal: Journal, patience: float, *, check_mode: bool) -> Iterator[Turn]:
    """Hold the host, on a leash, for the Operation that this process' environment names. In check mode do nothing."""
    if check_mode:
        yield journal.glance()
        return
    operation = operations.current()
    hold(operation, journal)
    with journal.turn(operation, patience) as held:
        yield held


def hold(operation: Operation | None, journal: Journal) -> None:
    """Go on in a child of this process, which ends with all its work when its connection or its parent does.

    Nothing happens without an Operation. The parent never returns: it ends as the child has ended.
    """
    if operation is None:
        return
    outlets = _outlets()
    if _cut(outlets, 0):
        raise SystemExit(1)
    _enter_scope(operation)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    signal.set_wakeup_fd(wake)
    parent, child = os.getpid(), os.fork()
    if child:
        status = _watch(child, outlets, woken)
        if status is None or os.WIFSIGNALED(status):
            _end(child, operation, journal)
        os._exit(1 if status is None else os.waitstatus_to_exitcode(status) & 0xFF)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, before)
    for descriptor in (woken, wake, *outlets[1:]):
        os.close(descriptor)


def _watch(child: int, outlets: list[int], woken: int) -> int | None:
    """Wait for the end of the child, or of the connection; returns the child's status, None when it was cut off."""
    for signum in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    while True:
        ended = _collected(child)
        if ended is not None:
            return ended
        if _cut(outlets, 1000, woken):
            return None
        with suppress(BlockingIOError):
            os.read(woken, 4096)


def _collected(child: int) -> int | None:
    """Take leave of whatever has ended below; returns the child's status when it is among it."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return status
            if pid == 0:
                break
    return None


def _cut(outlets: list[int], milliseconds: int, woken: int = -1) -> bool:
    """Whether nobody reads any more what is written here; waits until that is so, for the time given."""
    poll = select.poll()
    for descriptor in outlets:
        poll.register(descriptor, 0)
    if woken >= 0:
        poll.register(woken, select.POLLIN)
    return any(event & _GONE for descriptor, event in poll.poll(milliseconds) if descriptor != woken)


def _outlets() -> list[int]:
    """Return descriptors of standard output: our own, and those of what stands between us and the connection.

    sudo may copy what we say into its own standard output, and notices only then that nobody reads it.
    """
    found = {_identity(1): 1}
    for pid in operations.ancestors(os.getpid()):
        if _is_door(pid):
            break
        name = f"/proc/{pid}/fd/1"
        with suppress(OSError):
            known = Path(name).stat()
            key = (known.st_dev, known.st_ino)
            if stat.S_ISFIFO(known.st_mode) and key not in found:
                found[key] = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return list(found.values())


def _is_door(pid: int) -> bool:
    """Whether a process is the one that lets others in: what is above it is not ours."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith(("sshd", "ansible", "python"))
    except OSError:
        return True


def _identity(descriptor: int) -> tuple[int, int]:
    known = os.fstat(descriptor)
    return known.st_dev, known.st_ino


def _enter_scope(operation: Operation) -> None:
    """Move this process, and so all that it starts, into a systemd scope that has the Operation's name.

    Where there is no systemd, or a scope of this name is just being taken down, the marks have to do.
    """
    if os.geteuid() != 0 or not _SYSTEMD.is_dir():
        return
    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    properties = ["1", "PIDs", "au", "1", str(os.getpid())]
    command = ["busctl", "--quiet", "call", *manager, "StartTransientUnit", "ssa(sv)a(sa(sv))"]
    command += [operation.unit, "fail", *properties, "0"]
    until = time.monotonic() + _SCOPE_SECONDS
    with suppress(OSError, subprocess.SubprocessError):
        while time.monotonic() < until and not operations.is_in(os.getpid(), operation.unit):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=2)
            if done.returncode and b"already" not in done.stderr:
                return
            time.sleep(0.02)


def _end(child: int, operation: Operation, journal: Journal) -> None:
    """Kill all that works for this attempt, and write down that it was killed. The child may tidy up for a moment."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    until = time.monotonic() + _TIDYING
    while _collected(child) is None and operations.is_alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    spared = frozenset({1, *operations.ancestors(os.getpid())})
    operations.end(operation.__eq__, unit=operation.unit, sparing=spared)
    with suppress(StargateError):
        journal.note_killed()
