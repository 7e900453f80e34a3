# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Operation a process works for, as its environment says, and how all processes of one are found and ended.

PRIVATE to the collection. What an Operation may do on a host is `_journal.py`'s to say; nothing is written here.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils import _process
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid

VARIABLE = "STARGATE_OPERATION"
"""In the environment of every process that works for an Operation: its uid, attempt, fence and authority, as JSON."""

STEP = "STARGATE_STEP"
"""In the environment of every process of a step: its name."""

_KEY = f"{VARIABLE}=".encode()
_MACHINE = f"{_process.MARK}=".encode()


@dataclass(frozen=True)
class Operation:
    """One attempt of an Operation. `authority` is the uid of the Lease whose number `fence` is, "" without a Lease.

    `name` is for people only.
    """

    uid: str
    attempt: int
    fence: int = 0
    authority: str = ""
    name: str = field(default="", compare=False)

    @property
    def unit(self) -> str:
        """The systemd scope that its work runs in."""
        return f"stargate-{self.uid}.scope"

    def supersedes(self, other: Operation) -> bool:
        """Whether nothing that `other` has left running may go on beside this one."""
        if self.authority and self.authority == other.authority and self.fence != other.fence:
            return self.fence > other.fence
        return self.uid == other.uid and self.attempt > other.attempt

    def text(self) -> str:
        """Return what stands in the environment."""
        return json.dumps(asdict(self))


def parsed(text: str) -> Operation | None:
    """Return the Operation that a text names, None for an empty one. Raises Invalid for anything else."""
    if not text.strip():
        return None
    try:
        said = json.loads(text)
    except ValueError as error:
        raise Invalid(f"Failed to read the environment variable {VARIABLE}: it is no JSON.") from error
    return told(said)


def told(said: object) -> Operation | None:
    """Return the Operation that a play or the environment tells of, None for nothing. Raises Invalid for nonsense."""
    if said is None or said == {}:
        return None
    try:
        fields = dict(said)  # type: ignore[call-overload]  # what is none raises
        texts = {key: str(fields.get(key) or "") for key in ("uid", "authority", "name")}
        operation = Operation(attempt=int(fields["attempt"]), fence=int(fields.get("fence") or 0), **texts)
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid("Failed to learn for which Operation this is: uid and attempt are missing.") from error
    if not operation.uid or not all(char.isalnum() or char in "-_." for char in operation.uid):
        raise Invalid("Failed to learn for which Operation this is: its uid is none.")
    return operation


def current(environ: Mapping[str, str] | None = None) -> Operation | None:
    """Return the Operation that this process works for, None when it works for none."""
    return parsed((os.environ if environ is None else environ).get(VARIABLE, ""))


def carried(pid: int) -> Operation | None:
    """Return the Operation whose mark a process carries; None for a process of a machine that is made to stay."""
    entries = _environ(pid)
    if any(entry.startswith(_MACHINE) for entry in entries):
        return None
    text = next((entry[len(_KEY) :] for entry in entries if entry.startswith(_KEY)), b"")
    with suppress(Invalid):
        return parsed(text.decode(errors="replace"))
    return None


Which = Callable[[Operation], bool]


def processes(which: Which, *, unit: str = "") -> set[int]:
    """Return the living processes that carry the mark of such an Operation or are in its unit, and all below them."""
    parents = _parents()
    found = {pid for pid in parents if (mark := carried(pid)) is not None and which(mark)}
    if unit:
        found |= {pid for pid in parents if is_in(pid, unit)}
    return _with_descendants(found, parents)


def below(pid: int) -> set[int]:
    """Return the living descendants of a process."""
    return _with_descendants({pid}, _parents()) - {pid}


def _with_descendants(roots: set[int], parents: Mapping[int, int]) -> set[int]:
    """Return processes and all below them, machines left out."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found, unseen = set(roots), list(roots)
    while unseen:
        new = [pid for pid in children.get(unseen.pop(), ()) if pid not in found and not _is_machine(pid)]
        found.update(new)
        unseen.extend(new)
    return found


def end(which: Which, *, seconds: float = 2.0, unit: str = "", sparing: frozenset[int] = frozenset()) -> set[int]:
    """Kill all such processes, again and again until none is left or `seconds` passed; returns the survivors."""
    until = time.monotonic() + seconds
    spared = sparing | {os.getpid()}
    while left := processes(which, unit=unit) - spared:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return left
        time.sleep(0.02)
    return set()


def ancestors(pid: int) -> list[int]:
    """Return the processes above one, the nearest first, without the first process of the system."""
    parents, found = _parents(), []
    while (pid := parents.get(pid, 0)) > 1:
        found.append(pid)
    return found


def _parents() -> dict[int, int]:
    """Return the parent of every process that lives."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid: parent for pid in pids if (parent := _parent(pid)) is not None}


def _parent(pid: int) -> int | None:
    """Return the parent of a process, None when it does not live."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
    except OSError:
        return None
    return None if state in (b"Z", b"X") else int(parent)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    return _parent(pid) is not None


def is_in(pid: int, unit: str) -> bool:
    """Whether a process is in a unit of systemd."""
    try:
        return f"/{unit}" in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False


def _is_machine(pid: int) -> bool:
    return any(entry.startswith(_MACHINE) for entry in _environ(pid))


def _environ(pid: int) -> list[bytes]:
    """Return the environment of a process as NAME=value; nothing when it cannot be read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
