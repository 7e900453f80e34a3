# SPDX-License-Identifier: Apache-2.0
"""Machines that fall ill, on a real API server: Nodes whose status the test writes, TCP ports as machine and router.

The repaves are those of an operations directory; what a real one does is test_node_operations.py's.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.integration.daemon import Cluster, DaemonProcess, profile, server
from tests.integration.sshd import free_port

from stargate_reconciler.kube import Kube, connect
from stargate_reconciler.model import GROUP, VERSION

REPAVE = """- name: Repave in name only
  hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Say so
      ansible.builtin.debug:
        msg: done
"""
CARE = {"autoRepave": "onNotReady", "notReadySeconds": 1}
# A Lease of 5 s is lost on a machine that is busy with other tests.
FLAGS = ("--probe-seconds", "1", "--auto-repave-pause-seconds", "3600", "--lease-seconds", "30")


class Port:
    """A TCP port that takes connections while it is open."""

    def __init__(self) -> None:
        self.number = free_port()
        self._socket: socket.socket | None = None

    def open(self) -> Port:
        """Take connections."""
        self._socket = socket.create_server(("127.0.0.1", self.number), backlog=64)
        return self

    def close(self) -> None:
        """Refuse them."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class Ward:
    """A namespace with machines whose Nodes are the test's, and a daemon that looks after them."""

    cluster: Cluster
    daemon: DaemonProcess
    operations: Path
    kube: Kube
    port: Port = field(default_factory=Port)
    names: list[str] = field(default_factory=list)
    mark: str = field(default_factory=lambda: secrets.token_hex(3))

    def start(self) -> None:
        """Start the daemon."""
        self.daemon.start("--operations-dir", str(self.operations), *FLAGS)

    def machines(self, count: int, **spec: Any) -> list[str]:
        """Make Servers that have become Nodes, which are Ready."""
        names = [f"{self.mark}-{len(self.names) + n}" for n in range(count)]
        self.names += names
        usual = {"sshPort": self.port.number, "provisioningProfile": "profile", "maintenance": CARE}
        nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in names]
        self.cluster.apply(profile(), *nodes, *[server(name, **{**usual, **spec}) for name in names])
        for name in names:
            self.kube.patch_status("Server", self.cluster.namespace, name, {"nodeName": name, "state": "ready"})
            self.becomes(name, "True")
        return names

    def becomes(self, name: str, ready: str) -> None:
        """Write what a kubelet, or the node controller, says of a Node."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"type": "Ready", "status": ready, "reason": "Test", "message": "the test says so"}
        times = {"lastTransitionTime": now, "lastHeartbeatTime": now}
        patch = {"status": {"conditions": [{**said, **times}]}}
        client.CoreV1Api(self.kube.api_client).patch_node_status(name, patch)

    def server(self, name: str) -> dict[str, Any]:
        """Return a Server."""
        return dict(self._objects("servers", name))

    def _objects(self, plural: str, *name: str) -> Any:
        api, where = client.CustomObjectsApi(self.kube.api_client), (GROUP, VERSION, self.cluster.namespace, plural)
        return api.get_namespaced_custom_object(*where, *name) if name else api.list_namespaced_custom_object(*where)

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """Return status and reason of a Server's conditions."""
        found = self.server(name)["status"].get("conditions", [])
        return {c["type"]: (c["status"], c["reason"]) for c in found}

    def until(self, name: str, kind: str, value: tuple[str, str] | None, seconds: float = 60) -> None:
        """Wait until a condition of a Server is as told."""
        _until(lambda: self.conditions(name).get(kind) == value, lambda: str(self.conditions(name)), seconds)

    def repaves(self) -> list[dict[str, Any]]:
        """Return the Operations of the namespace."""
        return list(self._objects("operations")["items"])


def _until(check: Callable[[], bool], told: Callable[[], str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


@pytest.fixture
def ward(cluster: Cluster, daemon: DaemonProcess, tmp_path: Path) -> Iterator[Ward]:
    """Return a ward whose machines answer; its Nodes are gone afterwards."""
    operations = tmp_path / "operations"
    operations.mkdir()
    (operations / "repave.yml").write_text(REPAVE, encoding="utf-8")
    made = Ward(cluster, daemon, operations, connect(cluster.kubeconfig, None))
    made.port.open()
    yield made
    made.port.close()
    cluster.run("delete", "node", "--ignore-not-found", "--wait=false", *made.names, check=bool(made.names))


def test_a_machine_falls_ill_and_is_repaved_once(ward: Ward) -> None:
    """NodeReady and Reachable say what is, one Operation is created however often one looks, recovery is seen."""
    ill, *others = ward.machines(4)
    ward.start()
    ward.until(ill, "NodeReady", ("True", "Ready"))
    ward.becomes(ill, "Unknown")
    ward.until(ill, "NodeReady", ("Unknown", "NodeStatusUnknown"))
    ward.until(ill, "Reachable", ("True", "Answers"))
    _until(lambda: bool(ward.repaves()), lambda: str(ward.conditions(ill)), 60)
    (found,) = ward.repaves()
    assert found["metadata"]["labels"] == {"stargate.io/cause": "not-ready"}
    assert (found["spec"]["serverRef"]["name"], found["spec"]["provisioningProfileRef"]["name"]) == (ill, "profile")
    ward.cluster.until(found["metadata"]["name"], lambda status: status.get("completionTime"), seconds=60)
    ward.until(ill, "AutoRepave", ("True", "BackOff"))
    ward.becomes(ill, "True")
    ward.until(ill, "AutoRepave", None)
    assert ward.conditions(ill)["NodeReady"] == ("True", "Ready")
    assert len(ward.repaves()) == 1
    events = ward.cluster.events(ill)
    assert [events.count(word) for word in ("NodeStatusUnknown", "AutoRepaveStarted", "NodeReady")] == [1, 1, 1]
    assert ward.server(ill)["status"]["autoRepave"]["times"] == 1
    assert all(ward.conditions(name) == {"NodeReady": ("True", "Ready")} for name in others)


def test_a_circuit_opens_and_closes(ward: Ward) -> None:
    """Where too many Nodes are not Ready nothing is started, it is told once, and it goes on when enough are well."""
    names = ward.machines(4)
    ward.start()
    ward.until(names[0], "NodeReady", ("True", "Ready"))
    ward.daemon.stop()
    for name in names[:3]:
        ward.becomes(name, "False")
    ward.start()
    for name in names[:3]:
        ward.until(name, "AutoRepave", ("False", "CircuitOpen"))
    told = [event for name in names for event in ward.cluster.events(name) if event == "CircuitOpen"]
    assert (len(told), ward.repaves()) == (1, [])
    for name in names[1:3]:
        ward.becomes(name, "True")
    _until(lambda: bool(ward.repaves()), lambda: str(ward.conditions(names[0])), 60)
    assert {item["spec"]["serverRef"]["name"] for item in ward.repaves()} == {names[0]}


def test_a_router_that_is_down_stops_all(ward: Ward) -> None:
    """Behind a router that does not answer nothing is started; when it answers again the repave is."""
    router = Port()
    ill, _ = ward.machines(2, routerIP="127.0.0.1", routerPort=router.number, ipv4="10.0.0.9")
    ward.start()
    ward.until(ill, "NodeReady", ("True", "Ready"))
    ward.becomes(ill, "Unknown")
    ward.until(ill, "AutoRepave", ("False", "CircuitOpen"))
    ward.until(ill, "Reachable", ("False", "RouterDown"))
    assert ward.repaves() == []
    router.open()
    _until(lambda: bool(ward.repaves()), lambda: str(ward.conditions(ill)), 60)
    router.close()


def test_what_a_person_has_taken_out_is_left_alone(ward: Ward) -> None:
    """A Node that a person cordoned and deleted, and a machine that cannot be reached in place, are not repaved."""
    taken, cut, *_ = ward.machines(6)
    ward.cluster.run("patch", "server", cut, "--type=merge", "-p", json.dumps({"spec": {"sshPort": free_port()}}))
    ward.start()
    ward.until(taken, "NodeReady", ("True", "Ready"))
    ward.cluster.run("cordon", taken)
    ward.cluster.run("delete", "node", taken)
    ward.becomes(cut, "False")
    ward.until(taken, "NodeReady", ("False", "NodeGone"))
    ward.until(taken, "AutoRepave", ("False", "Cordoned"))
    ward.until(cut, "AutoRepave", ("False", "Unreachable"))
    assert ward.conditions(cut)["Reachable"] == ("False", "Unreachable")
    time.sleep(3)
    assert ward.repaves() == []
