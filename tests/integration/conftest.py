# SPDX-License-Identifier: Apache-2.0
"""What the tests of the running daemon share: a namespace, hosts, a mock datacenter and the daemon's process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Cluster, DaemonProcess
from sshd import SshHost, free_port, make_key

MOCK_DC = str(Path(sys.executable).parent / "stargate-mock-dc")


@pytest.fixture
def cluster(control_plane: Any, crds: Any, namespace: str) -> Cluster:
    """Return kubectl for a fresh namespace of a cluster that knows the CRDs."""
    return Cluster(control_plane.kubectl, control_plane.kubeconfig, namespace)


@pytest.fixture
def daemon(cluster: Cluster, tmp_path: Path) -> Iterator[DaemonProcess]:
    """Return a daemon that is not started yet; it is ended after the test."""
    process = DaemonProcess(cluster.kubeconfig, cluster.namespace, tmp_path / "daemon")
    yield process
    process.kill()


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Return the text of a private SSH key; `key.pub` stands beside it in tmp_path."""
    return make_key(tmp_path / "key")


@pytest.fixture
def ssh_hosts(tmp_path: Path, key: str) -> Iterator[Callable[[int], list[SshHost]]]:
    """Return a function that starts some sshd hosts which let the key in."""
    public = (tmp_path / "key.pub").read_text(encoding="utf-8")
    started: list[SshHost] = []

    def start(count: int) -> list[SshHost]:
        hosts = [SshHost(tmp_path / f"host-{len(started) + n}", free_port(), public).start() for n in range(count)]
        started.extend(hosts)
        return hosts

    yield start
    for host in started:
        host.stop()


class MockDatacenter:
    """One stargate-mock-dc process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> MockDatacenter:
        """Start it; its jobs are kept in a file and survive a restart."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log = (self.directory / "log").open("ab")
        command = [MOCK_DC, "--port", str(self.port), "--state-file", str(self.directory / "jobs.json"), *flags]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ})
        return self

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(5)
            self.process = None


@pytest.fixture
def datacenter(tmp_path: Path) -> Iterator[MockDatacenter]:
    """Return a mock datacenter that is not started yet; it is ended after the test."""
    mock = MockDatacenter(tmp_path / "dc")
    yield mock
    mock.stop()
