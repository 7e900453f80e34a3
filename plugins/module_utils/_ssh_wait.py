# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are to answer SSH soon: ask them all at once, say who is still awaited, tell failures apart.

PRIVATE to the collection. Speaks through the ssh program with a configuration that says how each host is reached and
which host key it must show; nothing of that is decided here.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Conflict,
    Denied,
    StargateError,
    Timeout,
    clipped,
)
from ansible_collections.stargate.core.plugins.module_utils._program import found

AT_ONCE = 16
CONSOLE_LINES = 5
REFUSALS = 20.0  # seconds for which "permission denied" may mean that the user is not made yet
# cloud-init starts the SSH server anew on its way: who comes before its end may lose the next connection.
_BOOTED = "if command -v cloud-init >/dev/null; then cloud-init status --wait >/dev/null; fi; true"
_CHANGED = ("REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed")
_DENIED = ("Permission denied", "Too many authentication failures")


@dataclass(frozen=True)
class Host:
    """A host by its name in the SSH configuration. `pid` of a machine here, 0 for none; `console` is its log."""

    name: str
    pid: int = 0
    console: str = ""


@dataclass(frozen=True)
class Patience:
    """How long to wait at most, how often to say so, and what one attempt may take; in seconds."""

    timeout: float = 600.0
    every: float = 15.0
    attempt: float = 60.0
    pause: float = 0.3


def await_all(
    config: str, hosts: Sequence[Host], patience: Patience, *, say: Callable[[str], None]
) -> dict[str, float]:
    """Return the seconds after which each host answered; raises for the first that cannot or does not in time."""
    started, stop = time.monotonic(), threading.Event()
    seconds: dict[str, float] = {}
    program = found("ssh", doing="reach machines")
    attempts = [_Attempts([program, "-F", config], host, patience, stop) for host in hosts]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        pending: dict[Future[None], Host] = {pool.submit(attempt.run): attempt.host for attempt in attempts}
        try:
            while pending:
                done, __ = wait(pending, timeout=patience.every, return_when=FIRST_COMPLETED)
                elapsed = time.monotonic() - started
                answered = _taken(pending, done)
                seconds.update(dict.fromkeys(answered, round(elapsed, 1)))
                waiting = f"waiting for SSH of {', '.join(host.name for host in pending.values())}: {elapsed:.0f} s"
                say(f"reached {', '.join(answered)} after {elapsed:.0f} s" if answered else waiting)
        finally:
            stop.set()
            for attempt in attempts:
                attempt.cancel()
    return seconds


def _taken(pending: dict[Future[None], Host], done: Iterable[Future[None]]) -> list[str]:
    """Return the names of hosts that have answered, no longer pending; raises for one that cannot."""
    answered = []
    for future in done:
        host = pending.pop(future)
        future.result()
        answered.append(host.name)
    return answered


class _Attempts:
    """The attempts to reach one host."""

    def __init__(self, command: list[str], host: Host, patience: Patience, stop: threading.Event) -> None:
        self.command = [*command, "-o", f"ConnectTimeout={patience.attempt:.0f}", host.name, _BOOTED]
        self.host = host
        self.patience = patience
        self.stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    def cancel(self) -> None:
        """End an attempt that is under way."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def run(self) -> None:
        """Return when the host has let us in and is done with its first boot."""
        started, last = time.monotonic(), "no answer"
        while not self.stop.is_set():
            said = self._attempt()
            if said is None:
                return
            last, elapsed = said or last, time.monotonic() - started
            self._refuse(last, elapsed)
            if elapsed > self.patience.timeout:
                raise Timeout(
                    f"Failed to reach {self.host.name} by SSH in {elapsed:.0f} s: {_last_line(last)}."
                    f"{_console(self.host.console)}",
                    code="BootTimeout",
                    details=last,
                )
            self.stop.wait(self.patience.pause)

    def _attempt(self) -> str | None:
        """Return None when the host let us in, else what ssh said."""
        limit = self.patience.attempt * 2
        with subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as self._process:
            try:
                __, said = self._process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                self._process.kill()
                return f"ssh did not end in {limit:.0f} s"
        return None if self._process.returncode == 0 else said.decode(errors="replace").strip()

    def _refuse(self, said: str, elapsed: float) -> None:
        name = self.host.name
        if any(phrase in said for phrase in _CHANGED):
            raise Conflict(
                f"Failed to reach {name} by SSH: the host key that it, or the router, shows is not the known one. "
                "Somebody else may be answering; recreate the machine if its key was lost.",
                code="HostKeyChanged",
                details=said,
                retryable=False,
            )
        if elapsed > REFUSALS and any(phrase in said for phrase in _DENIED):
            raise Denied(
                f"Failed to log in to {name} by SSH: {_last_line(said)}. Is the private key the one that the machine "
                "was made with, and without a passphrase or in the agent?",
                details=said,
            )
        if self.host.pid and not Path(f"/proc/{self.host.pid}").exists():
            raise StargateError(
                f"Failed to reach {name} by SSH: the machine has stopped.{_console(self.host.console)}",
                code="MachineStopped",
                retryable=True,
            )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return clipped(lines[-1] if lines else text).rstrip(".")


def _console(path: str) -> str:
    """Return the last lines of a machine's console as a sentence, "" when there are none."""
    if not path or not Path(path).is_file():
        return ""
    with Path(path).open("rb") as file:
        file.seek(max(0, Path(path).stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][-CONSOLE_LINES:]
    return f" Its console ended with: {clipped(' | '.join(lines), 512)}" if lines else ""
