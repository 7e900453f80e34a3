# SPDX-License-Identifier: Apache-2.0
"""What stories of one machine have in common: a site of a router and a worker, the cluster that it joins, the daemon.

What is told of it is the tests' business. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon import Cluster, DaemonProcess, operation
from tests.integration.nodes import JoinableCluster
from tests.integration.prep import ROOT, Prep, machine_image

from stargate_reconciler.demo.cluster import Cluster as Kubectl

NEEDS = [
    pytest.mark.skipif(os.geteuid() != 0, reason="nspawn machines need root"),
    pytest.mark.timeout(1800),
]
SITE_VARIABLES = ROOT / "inventories" / "nspawn" / "site.yml"
# A machine that runs a story is slow to renew a Lease of 5 s.
FLAGS = ("--vars-file", str(SITE_VARIABLES), "--lease-seconds", "20")


@dataclass
class Story:
    """What the tests share: the machine's site, the cluster, the daemon, both versions of the image, the machine."""

    prep: Prep
    cluster: Cluster
    daemon: DaemonProcess
    versions: list[str]
    machine: str
    user: str

    def node(self) -> dict[str, Any]:
        """Return the machine's Node, empty when it is none."""
        return self.cluster.get("node", self.machine)

    def identity(self) -> tuple[str, str, str]:
        """Return the Node's uid, its kubelet's version and its boot id."""
        node = self.node()
        info = node["status"]["nodeInfo"]
        return node["metadata"]["uid"], info["kubeletVersion"], info["bootID"]

    def does(self, act: str, on: str = "again", *, name: str = "", **spec: Any) -> dict[str, Any]:
        """Apply an Operation with a profile and wait until it has ended well; returns its status."""
        self.asks(act, on, name=name or f"{act}-{on}", **spec)
        return self.cluster.phase(name or f"{act}-{on}", "Succeeded", seconds=300)

    def fails(self, act: str, on: str, **spec: Any) -> tuple[str, str]:
        """Apply an Operation with a profile and wait until it has failed; returns reason and message."""
        self.asks(act, on, name=f"{act}-{on}", **spec)
        status = self.cluster.phase(f"{act}-{on}", "Failed", seconds=300)
        (failed,) = (c for c in status["conditions"] if c["type"] == "Failed")
        return failed["reason"], status["message"]

    def asks(self, act: str, on: str, *, name: str, server: str = "", **spec: Any) -> None:
        """Apply an Operation."""
        self.cluster.apply(operation(name, server or self.machine, act, provisioningProfileRef={"name": on}, **spec))

    def assert_in_service(self) -> None:
        """The Node is Ready, takes pods and is cordoned by nobody; no token of it is left."""
        node = self.node()
        ready = {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"]
        assert (ready, node["spec"].get("unschedulable")) == ("True", None)
        assert "stargate.io/cordoned-by" not in node["metadata"]["annotations"]
        assert not self.has_token()

    def has_token(self) -> bool:
        """Whether there is a bootstrap token in the cluster."""
        found = self.cluster.run("get", "secrets", "-n", "kube-system", "-o", "jsonpath={.items[*].type}")
        return "bootstrap.kubernetes.io/token" in found


@contextlib.contextmanager
def told(plane: JoinableCluster, directory: Path, machine: str) -> Iterator[Story]:
    """Give a site of a router and one machine that is no Node yet, and a daemon for it that is not started."""
    image, namespace = machine_image(), f"{machine}-{secrets.token_hex(4)}"
    Kubectl(str(plane.programs["kubectl"]), plane.kubeconfig).install_definitions()
    plane.run("kubectl", "create", "namespace", namespace)
    cluster = Cluster(str(plane.programs["kubectl"]), plane.kubeconfig, namespace)
    with Prep(plane.kubeconfig, namespace, image=str(image / "root")) as prep:
        prep.must("router_name=router", f"vm={machine}")
        outputs = prep.outputs("router")
        key = Path(outputs["ssh_private_key"]).read_text(encoding="utf-8")
        secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "ssh"}, "stringData": {"privateKey": key}}
        cluster.apply(secret)
        versions = json.loads((image / "image.json").read_text(encoding="utf-8"))["kubernetes"]
        environ = {"STARGATE_MACHINES_DIR": str(prep.machines)}
        daemon = DaemonProcess(plane.kubeconfig, namespace, directory, environ=environ)
        try:
            yield Story(prep, cluster, daemon, versions, machine, outputs["admin_username"])
        finally:
            daemon.kill()
