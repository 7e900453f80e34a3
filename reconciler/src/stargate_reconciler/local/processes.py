# SPDX-License-Identifier: Apache-2.0
"""Programs that run apart from us: started in a session of their own, known by a pidfile, stopped by it.

A pidfile holds pid, start time and boot, so that one left behind never points at somebody else's process.
What the programs are and when they are ready is not known here.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stargate_reconciler.errors import UserError, WorldError

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# The kernel tells of a parent's death only from when it was asked on; a parent that was dead before is noticed here.
_BOUND = '[ "$PPID" = "$1" ] || exit 1; shift; exec "$@"'
_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)


class Identity(NamedTuple):
    """What makes a process itself: pids come again, but not with the same start time in the same boot."""

    pid: int
    started: int  # clock ticks since boot, field 22 of /proc/PID/stat
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return who runs under a pid now; None when nobody does, or only a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        if fields[0] in ("Z", "X"):
            return None
        return cls(pid, int(fields[19]), _BOOT.read_text(encoding="ascii").strip())

    @classmethod
    def read(cls, pidfile: Path) -> Identity | None:
        """Return what a pidfile says; None when it is missing or not one of ours."""
        try:
            pid, started, boot = pidfile.read_text(encoding="ascii").split()
            return cls(int(pid), int(started), boot)
        except (FileNotFoundError, ValueError):
            return None


class Process:
    """One program with the files `<directory>/<name>.pid` and `<directory>/<name>.log`.

    Any number of Process objects, also in different programs, may speak of the same pair of files.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.pidfile = directory / f"{name}.pid"
        self.log = directory / f"{name}.log"

    @property
    def pid(self) -> int | None:
        """The pid while the program runs, else None; a stale pidfile counts as not running."""
        known = Identity.read(self.pidfile)
        if known is None:
            return None
        with contextlib.suppress(ChildProcessError):  # ours or not: a zombie would keep its pid
            os.waitpid(known.pid, os.WNOHANG)
        return known.pid if Identity.of(known.pid) == known else None

    def start(self, command: Sequence[str], *, environ: Mapping[str, str] | None = None, bound: bool = False) -> int:
        """Start the program in the background, its output appended to the log; returns the pid.

        With `bound` the kernel kills it when this thread's process dies (only where setpriv is there, and only from
        the main thread: the kernel watches the thread). Raises UserError when it runs already, WorldError when the
        program cannot be executed.
        """
        if (pid := self.pid) is not None:
            raise UserError(f"Failed to start {self.name}: it runs already with pid {pid}. Stop it first.")
        self.pidfile.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        program = shutil.which(command[0])
        if program is None:
            raise WorldError(f"Failed to start {self.name}: there is no program {command[0]}.")
        argv = [program, *command[1:]]
        setpriv = shutil.which("setpriv")
        if bound and setpriv and threading.current_thread() is threading.main_thread():
            argv = [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", _BOUND, "sh", str(os.getpid()), *argv]
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)  # Ctrl-C must not come between start and pidfile
        try:
            pid = self._spawn(argv, os.environ if environ is None else environ)
            self._remember(pid)
        except OSError as error:
            raise WorldError(f"Failed to start {self.name}: {error}.") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid

    def _spawn(self, argv: list[str], environ: Mapping[str, str]) -> int:
        output = (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), output, (os.POSIX_SPAWN_DUP2, 1, 2)]
        return os.posix_spawn(
            argv[0], argv, environ, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_RESET
        )

    def _remember(self, pid: int) -> None:
        identity = Identity.of(pid)
        if identity is None:  # gone already: a pidfile would be stale from the start
            return
        temporary = self.pidfile.with_suffix(".new")
        temporary.write_text(" ".join(map(str, identity)), encoding="ascii")
        temporary.replace(self.pidfile)

    def stop(self, *, seconds: float = 10) -> bool:
        """Ask the program to end, kill its whole session after `seconds`; returns whether it was running.

        The pidfile is gone afterwards. Raises WorldError when even the kill did not end it.
        """
        return self._end(signal.SIGTERM, seconds)

    def kill(self) -> bool:
        """Kill the program and its session at once; returns whether it was running."""
        return self._end(signal.SIGKILL, 0)

    def _end(self, signum: int, seconds: float) -> bool:
        pid = self.pid
        if pid is None:
            self.pidfile.unlink(missing_ok=True)
            return False
        try:
            handle = os.pidfd_open(pid)  # from here on the pid cannot be taken by another process
        except ProcessLookupError:
            handle = -1
        if handle >= 0:
            try:
                if self.pid == pid:
                    self._signal(handle, signum, seconds)
            finally:
                os.close(handle)
        if self.pid is not None:
            raise WorldError(f"Failed to stop {self.name}: pid {pid} is still there after it was killed.")
        self.pidfile.unlink(missing_ok=True)
        return True

    def _signal(self, handle: int, signum: int, seconds: float) -> None:
        pid = self.pid
        signal.pidfd_send_signal(handle, signum)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        ended = poll.poll(seconds * 1000)
        if not ended and pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            poll.poll(5000)

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log, "" when there is none."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def wait_until_gone(processes: Sequence[Process], *, seconds: float) -> Process | None:
    """Return the first of several programs that does not run any more, None when all do after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        for process in processes:
            if process.pid is None:
                return process
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)
