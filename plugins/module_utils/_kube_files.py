# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with a client's key that cannot outlive the process, not even when it is killed.

PRIVATE to the collection. Libraries want paths of keys; but what is killed, and Ansible's workers, leave temporary
files behind. Files in memory end with the last process that has them open. Knows nothing of Kubernetes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

TMPFS = Path("/dev/shm")  # noqa: S108 - directories in it are made by mkdtemp, 0700


class Hideout:
    """Files in memory, readable by path until `close`; and a private directory for what only libraries can write."""

    def __init__(self) -> None:
        """Make the directory, where the system has one in memory that is there."""
        base = TMPFS if TMPFS.is_dir() and os.access(TMPFS, os.W_OK) else None
        self.directory = tempfile.mkdtemp(prefix="stargate-", dir=base)
        self._descriptors: list[int] = []

    @property
    def is_in_memory(self) -> bool:
        """Whether the system has files that are nowhere but in memory."""
        return hasattr(os, "memfd_create")

    def holds(self, path: str | None) -> bool:
        """Whether a file lies in the directory."""
        return bool(path) and Path(str(path)).parent == Path(self.directory)

    def kept(self, content: bytes) -> str:
        """Return the path of a new file with this content; a child process cannot read it."""
        if not self.is_in_memory:
            descriptor, path = tempfile.mkstemp(dir=self.directory)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            return path
        descriptor = os.memfd_create("stargate")
        self._descriptors.append(descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        return f"/proc/self/fd/{descriptor}"

    def moved(self, path: str | None) -> str | None:
        """Return another path of a file that lies in the directory, in memory where the system has that."""
        if path is None or not self.holds(path) or not self.is_in_memory:
            return path
        found = self.kept(Path(path).read_bytes())
        Path(path).unlink()
        return found

    def empty(self) -> None:
        """Remove the directory when nothing is left in it."""
        if Path(self.directory).is_dir() and not any(Path(self.directory).iterdir()):
            Path(self.directory).rmdir()

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.directory, ignore_errors=True)
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
