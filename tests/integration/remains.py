# SPDX-License-Identifier: Apache-2.0
"""What there is of a daemon beside itself: processes, private directories of runs, what is kept of them.

How much of it there may be is said by the tests.
"""

from __future__ import annotations

from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - where runs have their secrets
KEPT_RUNS = 50
"""How many directories of ended runs a daemon keeps unless told otherwise."""


def private_directories(pid: int) -> list[Path]:
    """Return the private directories of the runs of a daemon."""
    return [path.parent for path in MEMORY.glob("sg-*/owner") if _is_of(path, pid)]


def _is_of(path: Path, pid: int) -> bool:
    try:
        return path.read_text().split()[0] == str(pid)
    except (OSError, IndexError):
        return False


def kept_of_runs(directory: Path) -> str:
    """Return the text of all files that a daemon keeps of its runs."""
    return "".join(path.read_text(errors="replace") for path in (directory / "runs").rglob("*") if path.is_file())


def tree(root: int) -> set[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, unseen = set[int](), [root]
    while unseen:
        pid = unseen.pop()
        found.add(pid)
        unseen += children.get(pid, [])
    return found


def using(directory: Path) -> list[str]:
    """Return the command lines of processes that have to do with a directory: it is in them, or in the environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, environ = ((entry / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ"))
        except OSError:
            continue
        if str(directory) in line + environ:
            found.append(line.replace("\0", " "))
    return found
