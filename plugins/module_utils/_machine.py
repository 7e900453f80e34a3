# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines on disk: what defines one, where its files are, who holds which lease, and the locks around them.

PRIVATE to the collection. The same for every provider: nothing here starts, stops or looks into a machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._lease import (
    Leases,
    Wanted,
    planned,
    with_lease,
    without_lease,
)

LOCK_PATIENCE = 900.0  # seconds: as long as the slowest start of a machine
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Definition:
    """Everything that is needed to make a machine again. Texts are "" and ports 0 when they do not apply."""

    name: str
    namespace: str
    site: str  # the router's name
    provider: str  # qemu | nspawn | simulator
    role: str  # router | worker
    cpus: int = 2
    memory: int = 2048  # MiB
    disk: int = 20  # GiB
    image: str = ""  # path or URL
    image_checksum: str = ""  # sha256:...
    kernel: str = ""  # with initrd and cmdline: "" boots what the image has
    initrd: str = ""
    cmdline: str = ""
    network: str = "user"  # user | bridge
    netns: str = ""
    bridge: str = ""
    cidr: str = "192.168.100.0/24"
    address: str = ""
    mac: str = ""
    wan_mac: str = ""
    tap: str = ""
    port: int = 0  # of 127.0.0.1, leads to the router's port 22
    gateway: str = ""
    dns: list[str] = field(default_factory=list)
    pod_cidr: str = ""
    user: str = "stargate"
    public_key: str = ""
    user_data: str = ""

    @property
    def key(self) -> str:
        """Return the machine's name among all machines."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Places:
    """Where machines are kept."""

    machines_dir: Path

    @classmethod
    def chosen(cls, option: str | None = None) -> Places:
        """Return the places for an option, else for STARGATE_MACHINES_DIR, else for the user who asks."""
        named = option or os.environ.get("STARGATE_MACHINES_DIR")
        if named:
            return cls(Path(named).expanduser().absolute())
        if os.geteuid() == 0:
            return cls(Path("/var/lib/stargate/vms"))
        state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
        return cls(Path(state) / "stargate" / "vms")

    def directory(self, namespace: str, name: str) -> Path:
        """Return the directory of a machine, which need not be there."""
        for what, value in (("namespace", namespace), ("name", name)):
            if not _LABEL.fullmatch(value):
                raise Invalid(
                    f'Failed to find machine {namespace}/{name}: its {what} "{value}" is not made of 1 to 63 lower-case'
                    " letters, digits and dashes.",
                    code="NameInvalid",
                )
        return self.machines_dir / namespace / name

    def site(self, namespace: str, site: str) -> Path:
        """Return the directory of what belongs to a whole site; no machine can have this name."""
        return self.directory(namespace, site).with_name(f"{site}.site")

    def machines(self, namespace: str = "", site: str = "") -> list[Definition]:
        """Return all machines, or those of a namespace, or those of a site in it: routers first, then by name."""
        paths = sorted(self.machines_dir.glob(f"{namespace or '*'}/*/machine.json"))
        found = [definition for path in paths if (definition := _read(path))]
        chosen = [definition for definition in found if site in ("", definition.site)]
        return sorted(chosen, key=lambda d: (d.namespace, d.site, d.role != "router", d.name))

    @contextmanager
    def lock(self, namespace: str, name: str, *, patience: float = LOCK_PATIENCE) -> Iterator[None]:
        """Hold a machine: nobody else changes it meanwhile. The lock's file lasts no longer than the directory."""
        directory = self.directory(namespace, name)
        path = directory.with_name(f".{name}.lock")
        with locked(path, f"machine {namespace}/{name}", patience):
            yield
            if not directory.exists():
                path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or somebody else was faster
            directory.parent.rmdir()

    def peek(self) -> dict[str, Any]:
        """Return the leases of all machines as they are just now."""
        path = self.machines_dir / "leases.json"
        return _json(path) if path.exists() else {}

    @contextmanager
    def book(self, *, patience: float = 60.0) -> Iterator[dict[str, Any]]:
        """Hold the leases of all machines; what the caller has put into the dictionary is written at the end."""
        with locked(self.machines_dir / ".lock", "the leases of machines", patience):
            before = self.peek()
            book = dict(before)
            yield book
            if book != before:
                write(self.machines_dir / "leases.json", json.dumps(book, indent=1, sort_keys=True) + "\n")


def load(places: Places, namespace: str, name: str) -> Definition | None:
    """Return a machine's definition, None when there is no such machine."""
    return _read(places.directory(namespace, name) / "machine.json")


def save(places: Places, definition: Definition) -> None:
    """Write a machine's definition; its directory is made when it is missing."""
    path = places.directory(definition.namespace, definition.name) / "machine.json"
    write(path, json.dumps(asdict(definition), indent=1) + "\n")


def leased(places: Places, wanted: Wanted) -> Leases:
    """Return what a machine holds; what it does not hold yet is leased and written down."""
    with places.book() as book:
        leases = planned(book, wanted, salt=str(places.machines_dir), is_free=is_port_free)
        book.update(with_lease(book, wanted.key, leases))
        return leases


def foretold(places: Places, wanted: Wanted) -> Leases:
    """Return what a machine would get if it leased now, and touch nothing."""
    return planned(places.peek(), wanted, salt=str(places.machines_dir), is_free=is_port_free)


def released(places: Places, namespace: str, name: str) -> bool:
    """Give back all that a machine holds; return whether it held anything."""
    key = f"{namespace}/{name}"
    if not places.machines_dir.is_dir():
        return False
    with places.book() as book:
        known = key in book
        rest = without_lease(book, key)
        book.clear()
        book.update(rest)
        return known


def is_port_free(port: int) -> bool:
    """Whether a port of 127.0.0.1 can be listened on, which a port in TIME_WAIT can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Put a whole text into a file at once, for nobody but the owner; directories are made 0700."""
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(error, f"write {path}") from error


def make_directory(path: Path) -> None:
    """Make a directory and the missing ones above it, for nobody but the owner."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    try:
        for directory in reversed(missing):
            with suppress(FileExistsError):  # not exist_ok, which raises when it has gone again meanwhile
                directory.mkdir(mode=0o700)
    except OSError as error:
        raise disk_error(error, f"make directory {path}") from error


@contextmanager
def locked(path: Path, what: str, patience: float) -> Iterator[None]:
    """Hold an exclusive lock on a file that others may remove while they hold it."""
    deadline = time.monotonic() + patience
    while True:
        make_directory(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the directory went away in between
            continue
        except OSError as error:
            raise disk_error(error, f"lock {what}") from error
        try:
            if _is_mine(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)
        if time.monotonic() > deadline:
            raise Conflict(
                f"Failed to lock {what}: somebody else has been at it for {patience:.0f} seconds.", code="Locked"
            )
        time.sleep(0.05)


def disk_error(error: OSError, doing: str) -> StargateError:
    """Return the failure that stands for an error of the file system."""
    code = {28: "DiskFull", 122: "DiskFull", 13: "Denied", 1: "Denied", 30: "Denied"}.get(error.errno or 0, "DiskError")
    remedy = " Make room, or choose another machines_dir." if code == "DiskFull" else ""
    where = f" ({error.filename})" if error.filename else ""
    message = f"Failed to {doing}: {error.strerror}{where}.{remedy}"
    return StargateError(message, code=code, retryable=code == "DiskFull")


def _read(path: Path) -> Definition | None:
    if not path.exists():
        return None
    known = {item.name for item in fields(Definition)}
    try:
        return Definition(**{key: value for key, value in _json(path).items() if key in known})
    except TypeError as error:
        raise Invalid(f"Failed to read {path}: {error}. Make the machine absent.", code="DefinitionBroken") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise disk_error(error, f"read {path}") from error
    except ValueError as error:
        raise Invalid(f"Failed to read {path}: {error}.", code="DefinitionBroken") from error
    if not isinstance(content, dict):
        raise Invalid(f"Failed to read {path}: it holds no mapping.", code="DefinitionBroken")
    return content


def _is_mine(descriptor: int, path: Path) -> bool:
    """Whether the lock was to be had and the file is still the one that others will open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
