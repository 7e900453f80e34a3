# SPDX-License-Identifier: Apache-2.0
"""A control plane that machines can join, for tests that want real Nodes.

The machines themselves are the business of the tests that make them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stargate_reconciler.local.binaries import obtain
from stargate_reconciler.local.control_plane import ControlPlane
from stargate_reconciler.local.flags import Joinable
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import WITH_CONTROLLERS, Request


@dataclass(frozen=True)
class JoinableCluster:
    """A running control plane: its kubeconfig and version, where machines reach it, and the programs for it."""

    kubeconfig: str
    version: str
    endpoint: str
    programs: dict[str, Path]

    def run(self, program: str, *arguments: str) -> str:
        """Run kubectl or kubeadm as admin; returns its standard output, fails with its standard error."""
        command = [str(self.programs[program]), *arguments, f"--kubeconfig={self.kubeconfig}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def joinable(directory: Path) -> Iterator[JoinableCluster]:
    """Give a control plane that machines can join, stopped and gone afterwards."""
    plane = ControlPlane(directory, bound=True)
    programs = obtain(Request((*WITH_CONTROLLERS, "kubeadm"), Places.read(os.environ)))
    plane.start(programs, joinable=Joinable())
    status = plane.status()
    try:
        yield JoinableCluster(status.kubeconfig, status.version, status.endpoint, programs)
    finally:
        plane.process("kube-apiserver").kill()
        plane.stop()
        plane.remove()
