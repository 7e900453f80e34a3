# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own account of Operations: who may act on it now, which step has begun, which one is done.

PRIVATE to the collection. It is written before a step begins and after it has ended, on the disk each time, and it is
the host that refuses what comes late: a controller may not know that it is no longer in charge.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from ansible_collections.stargate.core.plugins.module_utils import _operation as operations
from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Denied, StargateError
from ansible_collections.stargate.core.plugins.module_utils._operation import Operation
from ansible_collections.stargate.core.plugins.module_utils._worker_host import disk_errors, settle

DIRECTORY = "/var/lib/stargate"
KEPT = 100
"""Entries that are kept; destructive ones of the Operation of now are kept beyond that."""
AUTHORITIES = 16
"""Leases whose highest number is remembered."""
PATIENCE = 2.0
"""Seconds that what was superseded has to be gone."""
BEGUN, DONE, FAILED, KILLED = "begun", "done", "failed", "killed"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Entry = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A step as it is asked for.

    `destructive`: never begun twice in one attempt. `repeats`: looks itself at what is already true, so that a later
    attempt runs it again instead of being told what it gave. `reboots`: done once the machine has booted since.
    """

    name: str
    destructive: bool = False
    repeats: bool = False
    reboots: bool = False


@dataclass
class Account:
    """What stands in the journal's file."""

    current: Entry = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)
    fences: dict[str, int] = field(default_factory=dict)

    def refusal(self, operation: Operation) -> str:
        """Return why an Operation comes too late, "" when it does not."""
        highest = self.fences.get(operation.authority, 0)
        if operation.authority and operation.fence < highest:
            return f"its leader has number {operation.fence}, and one with {highest} has been here"
        attempts = [e["attempt"] for e in [*self.history, self.current] if e.get("uid") == operation.uid]
        if operation.attempt < max(attempts, default=0):
            return f"it is attempt {operation.attempt}, and attempt {max(attempts)} has been here"
        return ""

    def of(self, operation: Operation, step: str) -> list[Entry]:
        """Return the entries of a step of an Operation, all attempts, the oldest first."""
        return [entry for entry in self.history if (entry["uid"], entry["step"]) == (operation.uid, step)]

    def settle(self) -> bool:
        """Say how each step ended that has not said so: the lock is ours, so it has. Returns whether there was one."""
        open_entries = [entry for entry in self.history if entry["state"] == BEGUN]
        for entry in open_entries:
            has_booted = entry.get("reboots") and entry["boot_id"] != boot_id()
            entry.update(state=DONE if has_booted else KILLED, ended=now(), rc=0 if has_booted else None)
        if open_entries and self.current.get("state") == BEGUN:
            self.current["state"] = open_entries[-1]["state"]
        return bool(open_entries)

    def trim(self) -> None:
        """Forget what is old: entries, what other Operations' steps have said, numbers of other Leases."""
        mine, last = self.current["uid"], len(self.history) - KEPT
        kept = [e for n, e in enumerate(self.history) if n >= last or (e["destructive"] and e["uid"] == mine)]
        self.history = [e if e["uid"] == mine else {**e, "result": None} for e in kept]
        while len(self.fences) > AUTHORITIES:
            del self.fences[next(iter(self.fences))]


class Journal:
    """The journal of one host."""

    def __init__(self, directory: Path = Path(DIRECTORY)) -> None:
        """Keep where it is."""
        self._file = directory / "operation.json"
        self._lock = directory / "operation.lock"

    def read(self) -> Account:
        """Return what stands in it; a file that cannot be read is not taken for an empty one."""
        try:
            said = json.loads(self._file.read_text(encoding="utf-8"))
            return Account(said["current"], said["history"], said["fences"])
        except FileNotFoundError:
            return Account()
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = (
                f"Failed to read the journal {self._file}: {error}. Look at what ran here last, then remove the file."
            )
            raise StargateError(text, code="JournalUnreadable") from error

    def write(self, account: Account) -> None:
        """Put it on the disk at once: whoever reads sees the old one or the new one, whole."""
        new = self._file.with_suffix(".new")
        with disk_errors(f"write the journal {self._file}"):
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(account), file)
                file.flush()
                settle(file.fileno(), 0o600)
            new.replace(self._file)
            directory = os.open(self._file.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def glance(self) -> Turn:
        """Return a turn that holds nothing and writes nothing, for check mode."""
        return Turn(self, Account(), None)

    @contextmanager
    def turn(self, operation: Operation | None, patience: float) -> Iterator[Turn]:
        """Hold the host for an Operation, or for a task of none; what it supersedes is ended first.

        Raises StargateError with the code StaleOperation or HostBusy.
        """
        self._require_fresh(operation)
        with self._opened() as lock:
            self._take(lock, operation, patience)
            account = self.read()
            self._require_fresh(operation)
            if operation is not None:
                self._claim(account, operation)
            yield Turn(self, account, operation)

    def note_killed(self, patience: float = 1.0) -> None:
        """Say that what ran here was killed, unless somebody else is already at work."""
        with self._opened() as lock:
            until = time.monotonic() + patience
            while not _locked(lock):
                if time.monotonic() > until:
                    return
                time.sleep(0.02)
            account = self.read()
            if account.settle():
                self.write(account)

    def _require_fresh(self, operation: Operation | None) -> None:
        why = self.read().refusal(operation) if operation else ""
        if why:
            raise StargateError(f"Failed to begin: {why}.", code="StaleOperation", retryable=False)

    @contextmanager
    def _opened(self) -> Iterator[IO[str]]:
        try:
            self._lock.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.fdopen(os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600), "w")
        except PermissionError as error:
            text = f"Failed to open {self._lock}: only root may. Give the task become: true."
            raise Denied(text, code="Denied") from error
        with lock:
            yield lock

    def _take(self, lock: IO[str], operation: Operation | None, patience: float) -> None:
        """Take the lock. Whoever is superseded is killed and has PATIENCE to be gone; others may finish."""
        began = time.monotonic()
        while True:
            left = _ended(operation)
            if _locked(lock) and not left:
                return
            fcntl.flock(lock, fcntl.LOCK_UN)
            holder = self.read().current
            limit = PATIENCE if left or (operation and operation.supersedes(_operation_of(holder))) else patience
            if time.monotonic() - began > limit:
                raise Conflict(f"Failed to begin: {_at_work(holder, left)}.", code="HostBusy")
            time.sleep(min(0.5, 0.03 + (time.monotonic() - began) / 4))

    def _claim(self, account: Account, operation: Operation) -> None:
        """Write down that this attempt is in charge, and how everything ended that has not said so."""
        orphaned = account.current if account.settle() else {}
        if orphaned.get("state") == KILLED:
            left = operations.end(_operation_of(orphaned).__eq__, sparing=frozenset(operations.ancestors(os.getpid())))
            if left:
                raise Conflict(f"Failed to begin: {_at_work(orphaned, left)}.", code="HostBusy")
        before = _operation_of(account.current)
        account.fences[operation.authority] = max(account.fences.pop(operation.authority, 0), operation.fence)
        if orphaned or before != operation:
            account.current = {**_names(operation), "step": "", "state": "", **_self()}
            account.trim()
            self.write(account)


class Turn:
    """The time in which the host is held. Without an Operation nothing is written down."""

    def __init__(self, journal: Journal, account: Account, operation: Operation | None) -> None:
        """Keep whose turn it is."""
        self._journal = journal
        self._account = account
        self._operation = operation

    def known(self, step: Step) -> Entry | None:
        """Return the entry of a step that is not to be run again, None for one that is.

        Raises StargateError with the code StepInterrupted for a destructive one that has begun in this attempt, and of
        which nobody knows how it ended.
        """
        if self._operation is None:
            return None
        before = self._account.of(self._operation, step.name)
        attempt = self._operation.attempt
        if step.destructive or step.reboots:
            for entry in (e for e in before if e["attempt"] == attempt):
                if entry["state"] in (DONE, FAILED):
                    return entry
                text = f"Failed to do {step.name}: it has begun in this attempt, and nobody saw how it ended."
                raise StargateError(f"{text} The next attempt looks anew.", code="StepInterrupted", retryable=True)
        done = [e for e in before if e["state"] == DONE and e["attempt"] < attempt]
        return done[-1] if done and not step.repeats else None

    @contextmanager
    def step(self, step: Step) -> Iterator[Entry]:
        """Write down that a step begins and how it ends; the block puts `rc` and `result` into the entry it is given.

        It is done when the block ends with no `rc` or 0, and failed otherwise, or when an error comes out of it.
        """
        entry = self._begin(step)
        try:
            yield entry
        except BaseException as error:
            self._end(entry, KILLED if isinstance(error, SystemExit) else FAILED)
            raise
        if not step.reboots:
            self._end(entry, FAILED if entry["rc"] else DONE)

    def _begin(self, step: Step) -> Entry:
        entry: Entry = {"step": step.name, "destructive": step.destructive, "state": BEGUN, "rc": None, "result": None}
        entry |= {"begun": now(), "ended": None}
        if self._operation is None:
            return entry
        entry |= _names(self._operation)
        entry |= {"reboots": True, "boot_id": boot_id()} if step.reboots else {}
        self._account.history.append(entry)
        self._account.current = {**_names(self._operation), "step": step.name, "state": BEGUN, **_self()}
        self._account.trim()
        self._journal.write(self._account)
        return entry

    def _end(self, entry: Entry, state: str) -> None:
        entry.update(state=state, ended=now())
        if self._operation is not None:
            self._account.current["state"] = state
            self._journal.write(self._account)


def now() -> str:
    """Return the time in UTC with microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")  # noqa: UP017 - Python 3.10 has no UTC


def boot_id() -> str:
    """Return what names the time since the machine was started."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def _self() -> Entry:
    started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return {"pid": os.getpid(), "started": started, "boot_id": boot_id()}


def _names(operation: Operation) -> Entry:
    said = asdict(operation)
    return {"operation": said.pop("name"), **said}


def _operation_of(entry: Entry) -> Operation:
    return Operation(entry.get("uid", ""), entry.get("attempt", 0), entry.get("fence", 0), entry.get("authority", ""))


def _ended(operation: Operation | None) -> set[int]:
    """Kill what an Operation supersedes; returns what is left of it."""
    return operations.end(operation.supersedes, seconds=0.3) if operation else set()


def _at_work(holder: Entry, left: set[int]) -> str:
    if left:
        return f"process {min(left)} of an earlier attempt does not end"
    step = f" at {holder['step']}" if holder.get("step") else ""
    return f"another task is at work on this machine{step}"


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
