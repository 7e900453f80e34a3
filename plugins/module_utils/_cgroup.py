# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control groups of a machine on a host without systemd: made with their limits, emptied, taken away.

PRIVATE to the collection. Both versions, and both at once. With systemd on the host none of this is used: there
control groups are systemd's.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Timeout

MOUNTINFO = Path("/proc/self/mountinfo")
PARENT = "stargate"
PERIOD = 100_000  # microseconds over which processor time is counted


@dataclass(frozen=True)
class Hierarchy:
    """A tree of control groups: where it is mounted, and its controllers ("unified" for version 2)."""

    mount: Path
    controllers: frozenset[str]

    @property
    def is_unified(self) -> bool:
        """Whether it is of version 2."""
        return "unified" in self.controllers

    @property
    def is_systemds(self) -> bool:
        """Whether a systemd in a machine makes groups of its own in it."""
        return self.is_unified or "name=systemd" in self.controllers


def hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Return the trees that /proc/self/mountinfo shows, each once."""
    known: dict[frozenset[str], Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, __, after = line.partition(" - ")
        kind, __, options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        words = options.split(",")
        controllers = {"unified"} if kind == "cgroup2" else set(words) - {"rw", "ro", "xattr", "clone_children"}
        tree = Hierarchy(Path(before.split()[4]), frozenset(controllers))
        known.setdefault(tree.controllers, tree)
    return list(known.values())


def mounted() -> list[Hierarchy]:
    """Return the trees of this host."""
    return hierarchies(MOUNTINFO.read_text(encoding="utf-8"))


def make(trees: Iterable[Hierarchy], label: str, *, memory: int, cpus: int) -> tuple[list[Path], list[Path]]:
    """Make a machine's groups; return the files through which its outermost process enters, and its inside.

    In a tree where systemd works the two differ: version 2 allows no processes beside groups that share resources.
    """
    outside, inside = [], []
    for tree in trees:
        group = tree.mount / PARENT / label
        _mkdir(group)
        for path in (group.parent, group):
            _prepare(path, tree)
        _limit(group, memory=memory, cpus=cpus)
        for name in ("loop", "machine") if tree.is_systemds else ():
            (group / name).mkdir(exist_ok=True)
        outside.append((group / "loop" if tree.is_systemds else group) / "cgroup.procs")
        inside += [group / "machine" / "cgroup.procs"] if tree.is_systemds else []
    return outside, inside


def empty(trees: Iterable[Hierarchy], label: str, *, patience: float = 60.0) -> None:
    """Kill every process of a machine and take its groups away, if there are any."""
    tops = [tree.mount / PARENT / label for tree in trees]
    deadline = time.monotonic() + patience
    while any(top.exists() for top in tops):
        for pid in {pid for top in tops for pid in _pids(top)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for top in tops:
            _discard(top)
        if time.monotonic() > deadline:
            raise Timeout(f"Failed to end machine {label}: processes in {tops[0]} survive SIGKILL.")
        time.sleep(0.02)
    for tree in trees:
        with suppress(OSError):  # other machines are in it, or it never was
            (tree.mount / PARENT).rmdir()


def _mkdir(group: Path) -> None:
    """Make a group in the common parent, which the end of the last machine takes away at any moment."""
    while not group.is_dir():
        with suppress(FileNotFoundError, FileExistsError):  # the parent went, or was made by another and went
            group.mkdir(parents=True)


def _prepare(group: Path, tree: Hierarchy) -> None:
    """Make a group usable: in version 1 some start without any processor, in version 2 without controllers."""
    if "cpuset" in tree.controllers:
        for name in ("cpuset.cpus", "cpuset.mems"):
            _write(group / name, (group.parent / name).read_text(encoding="ascii"))
    if tree.is_unified:
        for controller in (tree.mount / "cgroup.controllers").read_text(encoding="ascii").split():
            for path in (tree.mount, group):
                _write(path / "cgroup.subtree_control", f"+{controller}")


def _limit(group: Path, *, memory: int, cpus: int) -> None:
    values = {
        "memory.max": f"{memory}M",
        "memory.limit_in_bytes": f"{memory}M",
        "cpu.max": f"{cpus * PERIOD} {PERIOD}",
        "cpu.cfs_quota_us": f"{cpus * PERIOD}",
    }
    for name, value in values.items():
        if (group / name).exists():
            _write(group / name, value)


def _write(path: Path, value: str) -> None:
    with suppress(OSError):  # a limit that this kernel does not know, or that is not ours to set
        path.write_text(value, encoding="ascii")


def _pids(top: Path) -> list[int]:
    found: list[int] = []
    for directory, __, __ in os.walk(top):  # passes over groups that go while it walks, which Path.rglob does not
        with suppress(OSError):
            found += [int(word) for word in Path(directory, "cgroup.procs").read_text(encoding="ascii").split()]
    return [pid for pid in found if pid]


def _discard(top: Path) -> None:
    for directory, __, __ in os.walk(top, topdown=False):
        with suppress(OSError):  # not empty yet
            Path(directory).rmdir()
