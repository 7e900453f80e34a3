# SPDX-License-Identifier: Apache-2.0
"""What tests of every ring may ask for: a real control plane, the CRDs in it, a namespace of one's own.

Each pytest-xdist worker has its own control plane, with its own directory and ports, killed with the worker.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader

from stargate_reconciler.errors import ReconcilerError
from stargate_reconciler.local.binaries import obtain
from stargate_reconciler.local.control_plane import ControlPlane
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import NEEDED, Request

ROOT = Path(__file__).parents[1]

# Ansible's loader takes over the import of collections. Were it to come after some of ours were imported without it, it
# would not know what they are: it comes first, whichever tests share a process.
init_plugin_loader()
# A shell that starts the tests in the background has SIGINT ignored, and so would be every program that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


class RunningControlPlane:
    """A control plane as tests use it: addresses to talk to, and an API server that can go away and come back."""

    def __init__(self, plane: ControlPlane, kubectl: Path) -> None:
        self._plane = plane
        self.kubectl = str(kubectl)
        self.kubeconfig = str(plane.kubeconfig)
        settings = plane.settings
        assert settings is not None
        self.port = settings.port
        self.server = settings.url

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin; returns its standard output, fails with its standard error."""
        command = [self.kubectl, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def stop_apiserver(self, *, kill: bool = False) -> None:
        """End the API server, at once when `kill`; etcd stays."""
        if kill:
            self._plane.process("kube-apiserver").kill()
        else:
            self._plane.stop_process("kube-apiserver")

    def start_apiserver(self) -> None:
        """Start the API server again on the same port and wait until it is ready."""
        self._plane.start_process("kube-apiserver")
        self._plane.wait_ready()

    def restart_apiserver(self) -> None:
        """End the API server and start it again."""
        self.stop_apiserver()
        self.start_apiserver()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningControlPlane]:
    """A real etcd and kube-apiserver for all tests of this worker."""
    plane = ControlPlane(tmp_path_factory.mktemp("cluster") / "control-plane", bound=True)
    try:
        programs = obtain(Request(NEEDED, Places.read(os.environ)))
        plane.start(programs)
    except ReconcilerError as error:
        pytest.fail(str(error), pytrace=False)
    yield RunningControlPlane(plane, programs["kubectl"])
    plane.process("kube-apiserver").kill()
    plane.stop()
    plane.remove()


@pytest.fixture(scope="session")
def crds(control_plane: RunningControlPlane) -> RunningControlPlane:
    """The control plane with Stargate's CRDs established."""
    # Kubernetes 1.20 does not know the CEL rules: it prunes them, but kubectl would refuse them before.
    control_plane.run("apply", "--validate=false", "-f", str(ROOT / "crds"))
    control_plane.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    return control_plane


@pytest.fixture
def namespace(control_plane: RunningControlPlane) -> str:
    """The name of a namespace that only this test has."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.run("create", "namespace", name)
    return name
