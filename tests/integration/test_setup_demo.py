# SPDX-License-Identifier: Apache-2.0
"""The simulator's demo of seed 002, as its readers do it: set up, apply, watch; with nspawn machines and the daemon.

The five criteria of the seed are the steps of one test, since each needs what the one before has made.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.integration.daemon import Cluster, DaemonProcess
from tests.integration.nodes import JoinableCluster
from tests.integration.prep import ROOT, Prep, Run, machine_image

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="nspawn machines need root"),
    pytest.mark.timeout(1800),
]
MANIFESTS = {
    "namespace.yaml",
    "operation-002.yaml",
    "operation.yaml",
    "provisioningprofile-k8s-worker.yaml",
    "secret-bootstrap-token.yaml",
    "secret-cloud-init.yaml",
    "server.yaml",
}
PLAYBOOK = "setup-demo.yml"


@dataclass
class Demo:
    """The demo's directory, who made it, and the cluster that it is for."""

    prep: Prep
    cluster: Cluster
    joinable: JoinableCluster

    @property
    def directory(self) -> Path:
        """Return where the manifests are."""
        return self.prep.directory / "demo"

    def setup(self) -> Run:
        """Run the playbook."""
        return self.prep.must(f"demo_dir={self.directory}", "skip_server_cr=true", playbook=PLAYBOOK)

    def text(self) -> dict[str, str]:
        """Return what is in the files."""
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(self.directory.glob("*.yaml"))}


@pytest.fixture(scope="module")
def demo(joinable_control_plane: JoinableCluster) -> Iterator[Demo]:
    """Return a demo that is set up, in a cluster that knows the CRDs."""
    known, image = joinable_control_plane, machine_image() / "root"
    known.run("kubectl", "apply", "--validate=false", "-f", str(ROOT / "crds"))
    known.run("kubectl", "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    with Prep(known.kubeconfig, f"sim-{secrets.token_hex(4)}", image=str(image)) as prep:
        made = Demo(prep, Cluster(str(known.programs["kubectl"]), known.kubeconfig, prep.namespace), known)
        made.setup()
        yield made


def test_manifests_are_written_once(demo: Demo) -> None:
    """A second run changes nothing: the token stays, as long as it has an hour left, and nobody else can read it."""
    before = demo.text()
    assert set(before) == MANIFESTS
    assert demo.setup().changed == 0
    assert demo.text() == before
    token = demo.directory / "secret-bootstrap-token.yaml"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.write_text(before[token.name].replace('expiration: "20', 'expiration: "19'))
    assert demo.setup().changed == 1
    assert demo.text()[token.name].partition("token-id")[2] != before[token.name].partition("token-id")[2]


def test_no_password_and_no_token_in_an_object_that_all_may_read(demo: Demo) -> None:
    """Nobody can log in with a password, and the token is in Secrets only; names are left to each machine's seed."""
    token = yaml.safe_load(demo.text()["secret-bootstrap-token.yaml"])["stringData"]["token-secret"]
    holders = {name for name, text in demo.text().items() if token in text}
    assert holders == {"secret-bootstrap-token.yaml", "secret-cloud-init.yaml"}
    user_data = yaml.safe_load(yaml.safe_load(demo.text()["secret-cloud-init.yaml"])["stringData"]["userData"])
    assert set(user_data) == {"write_files", "runcmd"}


def test_the_criteria_of_seed_002(demo: Demo) -> None:
    """An applied Operation makes a machine, cloud-init makes it a Node, and the statuses say so with its address."""
    demo.joinable.run("kubectl", "apply", "-f", str(demo.directory))
    daemon = DaemonProcess(demo.cluster.kubeconfig, demo.prep.namespace, demo.prep.directory / "daemon")
    daemon.environ["STARGATE_MACHINES_DIR"] = str(demo.prep.machines)
    daemon.start("--vars-file", str(demo.directory / "reconciler" / "site.yml"))
    try:
        for name in ("sim-worker-001", "sim-worker-002"):
            demo.cluster.phase(f"repave-{name}", "Succeeded", seconds=400)
            machine = json.loads((demo.prep.machines / demo.prep.namespace / name / "machine.json").read_text())
            node = demo.cluster.get("node", name)
            status = demo.cluster.status("server", name)
            assert (status["state"], status["ipv4"]) == ("ready", machine["address"])
            ready = [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"]
            assert (ready, machine["provider"]) == (["True"], "simulator")
    except AssertionError:
        print(daemon.log)
        raise
    finally:
        daemon.stop()
    token = yaml.safe_load(demo.text()["secret-bootstrap-token.yaml"])["stringData"]["token-secret"]
    assert token not in daemon.log


def test_taking_down_the_simulator(demo: Demo) -> None:
    """What the router's site has, and the Servers that say so, go with it."""
    gone = demo.prep.must("router_name=sim-router", "state=absent", "confirm=true", "vm=")
    assert gone.changed > 0
    assert demo.cluster.run("get", "servers", "-o", "name") == ""
    assert not list(demo.prep.machines.glob("*/sim-*"))
