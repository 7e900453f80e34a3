# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the module that started them: written down, found again, ended.

PRIVATE to the collection. A process is its number, the time it started and the boot it started in, so that a number
which was given to somebody else meanwhile is never taken for ours.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Timeout

MARK = "STARGATE_MACHINE"
"""In the environment of every process of a machine: whoever ends all that a run has left behind spares those."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_INHERITED = ("HOME", "LANG", "PATH", "TMPDIR", "XDG_RUNTIME_DIR")


def environment(machine: str) -> dict[str, str]:
    """Return the environment for a process of a machine: with the MARK, without what belongs to the run of now."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, MARK: machine}


def remember(path: Path, pid: int) -> None:
    """Write down a process that runs."""
    # It brings much along, and most who import this module never start a process.
    from ansible_collections.stargate.core.plugins.module_utils._machine import write

    write(path, json.dumps(_identity(pid)) + "\n")


def alive(path: Path) -> int:
    """Return the number of the process that was written down, 0 when it does not run any more."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        pid = int(known["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return pid if known == _identity(pid) else 0


def end(path: Path, *, patience: float = 5.0, ask: int = signal.SIGTERM) -> bool:
    """End the process that was written down and forget it; return whether it ran. `ask` is tried before SIGKILL."""
    with _held(path) as handle:
        if handle is not None and not _ended(handle, ask, patience) and not _ended(handle, signal.SIGKILL, 60.0):
            raise Timeout(f"Failed to end process {alive(path)}: it survives SIGKILL.")
    path.unlink(missing_ok=True)
    return handle is not None


def gone(path: Path, patience: float) -> bool:
    """Whether the process that was written down ends by itself in time."""
    with _held(path) as handle:
        return handle is None or _ended(handle, 0, patience)


@contextmanager
def _held(path: Path) -> Iterator[int | None]:
    """Hold the process that was written down, so that its number cannot be given away; None when it is no more."""
    pid = alive(path)
    try:
        handle = os.pidfd_open(pid) if pid else None
    except ProcessLookupError:
        handle = None
    try:
        yield handle if handle is not None and alive(path) else None
    finally:
        if handle is not None:
            os.close(handle)


def _ended(handle: int, number: int, patience: float) -> bool:
    with suppress(ProcessLookupError):
        if number:
            signal.pidfd_send_signal(handle, number)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def _identity(pid: int) -> dict[str, str | int] | None:
    """Return what is the same as long as a process runs; None when it does not run, or is a zombie."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else {"pid": pid, "started": int(rest[18]), "boot": _BOOT_ID.read_text().strip()}
