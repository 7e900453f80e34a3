# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with a client's key that cannot outlive the process, not even when it is killed.

PRIVATE to the collection. The Kubernetes client writes what a kubeconfig has inline to temporary files that it removes
when Python ends; but Ansible's workers, and what is killed, end otherwise. Knows nothing of Kubernetes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


class Hideout:
    """A directory for a moment; what is moved from it into memory stays readable by path until `close`."""

    def __init__(self) -> None:
        """Make the directory."""
        self.directory = tempfile.mkdtemp(prefix="stargate-")
        self._descriptors: list[int] = []

    def holds(self, path: str | None) -> bool:
        """Whether a file lies in the directory."""
        return bool(path) and Path(str(path)).parent == Path(self.directory)

    def moved(self, path: str | None) -> str | None:
        """Return another path of a file that lies in the directory, in memory where the system has that."""
        if path is None or not self.holds(path) or not hasattr(os, "memfd_create"):
            return path
        descriptor = os.memfd_create("stargate")
        self._descriptors.append(descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(Path(path).read_bytes())
        Path(path).unlink()
        return f"/proc/self/fd/{descriptor}"

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
