# SPDX-License-Identifier: Apache-2.0
"""What the tests of the running daemon share: a namespace, hosts, a mock datacenter and the daemon's process.

The cluster itself is in tests/conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon import Cluster, DaemonProcess
from tests.integration.datacenter import MockDatacenter
from tests.integration.nodes import JoinableCluster, joinable
from tests.integration.sshd import SshHost, free_port, make_key


@pytest.fixture
def cluster(control_plane: Any, crds: Any, namespace: str) -> Cluster:
    """Return kubectl for a fresh namespace of a cluster that knows the CRDs."""
    return Cluster(control_plane.kubectl, control_plane.kubeconfig, namespace)


@pytest.fixture(scope="session")
def joinable_control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JoinableCluster]:
    """Return a control plane of its own that machines can join."""
    with joinable(tmp_path_factory.mktemp("joinable") / "control-plane") as running:
        yield running


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


@pytest.fixture
def datacenter(tmp_path: Path) -> Iterator[MockDatacenter]:
    """Return a mock datacenter that is not started yet; it is ended after the test."""
    mock = MockDatacenter(tmp_path / "dc")
    yield mock
    mock.stop()
