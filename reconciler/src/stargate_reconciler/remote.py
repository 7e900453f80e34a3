# SPDX-License-Identifier: Apache-2.0
"""A small process on a host between sshd and a command: it ends the command when its connection ends.

Its text is sent along by `tether.py` and run with the standard library only; nothing of the daemon is known there.
Usage: python3 -c THIS COMMAND
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time

try:
    import _signal as signal  # type: ignore[import-not-found]  # half as much to load as what gives its numbers names
except ImportError:
    import signal

PR_SET_CHILD_SUBREAPER = 36
GRACE = 0.4  # seconds for modules that watch their connection themselves, to write down what has become of them
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
MACHINE = b"STARGATE_MACHINE="  # in the environment of local machines, which are made to stay


def below(root: int) -> list[int]:
    """Return the living descendants of a process, machines and what is below them left out."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib takes too long to load
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    unseen = children.get(root, [])
    while unseen:
        pid = unseen.pop()
        if not is_machine(pid):
            found.append(pid)
            unseen.extend(children.get(pid, ()))
    return found


def is_machine(pid: int) -> bool:
    """Whether a process is a local machine's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            return any(entry.startswith(MACHINE) for entry in file.read().split(b"\0"))
    except OSError:
        return False


def end_all() -> None:
    """Kill all descendants until none is left; those of another user with the help of sudo, where it needs no word."""
    calm = time.monotonic() + GRACE
    while below(os.getpid()) and time.monotonic() < calm:
        time.sleep(0.02)
    until = time.monotonic() + 5.0
    while (left := below(os.getpid())) and time.monotonic() < until:
        foreign = []
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:
                foreign.append(str(pid))
        if foreign:
            end_foreign(foreign)
        time.sleep(0.02)


def end_foreign(pids: list[str]) -> None:
    """Kill processes of another user, when sudo lets us."""
    import subprocess

    command = ["sudo", "-n", "kill", "-KILL", *pids]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=2)
    except (OSError, subprocess.SubprocessError):
        return


def collected(child: int) -> int | None:
    """Take leave of whatever has ended below; returns the child's status when it is among it."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                return ended[1]
    except ChildProcessError:
        return None
    return None


def watch(child: int, woken: int) -> int | None:
    """Wait for the end of the child, or of whoever reads what it says; returns its status, None when it was cut off."""
    poll = select.poll()
    poll.register(1, 0)
    poll.register(woken, select.POLLIN)
    while True:
        ended = collected(child)
        if ended is not None:
            return ended
        if any(descriptor == 1 and event & GONE for descriptor, event in poll.poll(5000)):
            return None
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            continue


def main(command: str) -> int:
    """Run a command for a shell; returns its exit code, 128 and the signal's number when it was killed by one."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    signal.set_wakeup_fd(wake)
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python has them ignored
            signal.signal(signum, signal.SIG_DFL)
        os.execv("/bin/sh", ["sh", "-c", command])  # noqa: S606 - the shell is the program here
    os.close(0)
    for signum in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    status = watch(child, woken)
    if status is None:
        end_all()
        return 1
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
