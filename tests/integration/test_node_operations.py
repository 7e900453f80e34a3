# SPDX-License-Identifier: Apache-2.0
"""A real machine becomes a real Node and goes through its life: the daemon, kubeadm, an nspawn machine behind a router.

One machine, one story: each test begins where the one before it ended. Needs root.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon import Cluster, DaemonProcess, operation, profile
from tests.integration.nodes import JoinableCluster
from tests.integration.prep import ROOT, Prep, machine_image

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="nspawn machines need root"),
    pytest.mark.timeout(1800),
]
MACHINE = "ops-1"
# A machine that runs a story is slow to renew a Lease of 5 s.
FLAGS = ("--vars-file", str(ROOT / "inventories" / "nspawn" / "site.yml"), "--lease-seconds", "20")


@dataclass
class Story:
    """What the tests share: the machine's site, the cluster, the daemon, and both versions of the image."""

    prep: Prep
    cluster: Cluster
    daemon: DaemonProcess
    versions: list[str]

    def node(self) -> dict[str, Any]:
        """Return the machine's Node, empty when it is none."""
        return self.cluster.get("node", MACHINE)

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

    def asks(self, act: str, on: str, *, name: str, server: str = MACHINE, **spec: Any) -> None:
        """Apply an Operation."""
        self.cluster.apply(operation(name, server, act, provisioningProfileRef={"name": on}, **spec))

    def assert_in_service(self) -> None:
        """The Node is Ready, takes pods and is cordoned by nobody; no token of it is left."""
        node = self.node()
        ready = {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"]
        assert (ready, node["spec"].get("unschedulable")) == ("True", None)
        assert "stargate.io/cordoned-by" not in node["metadata"]["annotations"]
        found = self.cluster.run("get", "secrets", "-n", "kube-system", "-o", "jsonpath={.items[*].type}")
        assert "bootstrap.kubernetes.io/token" not in found


def profiles(user: str, first: str, second: str) -> list[dict[str, Any]]:
    """Return the profiles of the story, by the name of what is asked for."""
    common = {"adminUsername": user, "sshCredentialsSecretRef": "ssh", "osVersion": None}
    here = {**common, "repave": {"strategy": "inPlace"}}
    found = [
        profile("afresh", kubernetesVersion=first, nodeLabels={"story": "afresh"}, **common),
        profile("in-place", kubernetesVersion=first, nodeLabels={"story": "in-place"}, **here),
        profile("newer", kubernetesVersion=second, **here),
        profile("unknown", kubernetesVersion="1.20.99", **here),
        profile("too-new", kubernetesVersion="1.21.0", **here),
    ]
    for item in found:
        item["spec"] = {key: value for key, value in item["spec"].items() if value is not None}
    return found


@pytest.fixture(scope="module")
def story(joinable_control_plane: JoinableCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Return a site of a router and one machine that is no Node yet, and a daemon that serves it."""
    plane, image, namespace = joinable_control_plane, machine_image(), f"ops-{secrets.token_hex(4)}"
    plane.run("kubectl", "apply", "--validate=false", "-f", str(ROOT / "crds"))
    plane.run("kubectl", "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    plane.run("kubectl", "create", "namespace", namespace)
    cluster = Cluster(str(plane.programs["kubectl"]), plane.kubeconfig, namespace)
    with Prep(plane.kubeconfig, namespace, image=str(image / "root")) as prep:
        prep.must("router_name=ops", f"vm={MACHINE}")
        outputs = prep.outputs("ops")
        key = Path(outputs["ssh_private_key"]).read_text(encoding="utf-8")
        secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "ssh"}, "stringData": {"privateKey": key}}
        versions = json.loads((image / "image.json").read_text(encoding="utf-8"))["kubernetes"]
        cluster.apply(secret, *profiles(outputs["admin_username"], *versions[:2]))
        environ = {"STARGATE_MACHINES_DIR": str(prep.machines)}
        daemon = DaemonProcess(plane.kubeconfig, namespace, tmp_path_factory.mktemp("daemon"), environ=environ)
        daemon.start(*FLAGS)
        yield Story(prep, cluster, daemon, versions)
        daemon.kill()


def test_a_machine_becomes_a_node(story: Story) -> None:
    """A repave with a fresh disk ends with a Ready Node of the asked version, and both statuses know it."""
    status = story.does("repave", "afresh")
    uid, version, boot = story.identity()
    wanted = {"nodeName": MACHINE, "nodeUID": uid, "kubeletVersion": f"v{story.versions[0]}"}
    assert status["result"] | wanted == status["result"]
    assert version == f"v{story.versions[0]}"
    assert boot
    server = story.cluster.status("server", MACHINE)
    assert (server["state"], server["nodeName"]) == ("ready", MACHINE)
    assert server["currentOS"] == f"k8s-{story.versions[0]}"
    assert {c["type"]: c["status"] for c in server["conditions"]}["NodeReady"] == "True"
    meta = story.node()["metadata"]
    assert meta["annotations"]["stargate.io/server"] == f"{story.cluster.namespace}/{MACHINE}"
    assert meta["labels"]["story"] == "afresh"
    story.assert_in_service()


def test_check_changes_nothing(story: Story) -> None:
    """A check says what a repave would do, and does none of it."""
    before = story.node()
    message = story.does("check", "newer")["message"]
    assert f"v{story.versions[0]} -> v{story.versions[1]}" in message
    after = story.node()
    assert (after["metadata"]["uid"], after["spec"]) == (before["metadata"]["uid"], before["spec"])
    assert story.identity()[1] == f"v{story.versions[0]}"
    assert "recreate the machine" in story.does("check", "afresh")["message"]


@pytest.mark.parametrize(
    ("act", "on", "reason", "words"),
    [
        ("repave", "unknown", "VersionNotFound", "1.20.99"),
        ("upgrade", "too-new", "VersionSkew", "1.21"),
    ],
)
def test_mistakes_leave_the_node_alone(story: Story, act: str, on: str, reason: str, words: str) -> None:
    """A version that does not exist or that the cluster cannot have fails once, by name, and the Node stays."""
    before = story.identity()
    found, message = story.fails(act, on)
    assert (found, words in message) == (reason, True), message
    assert story.cluster.status("operation", f"{act}-{on}")["attempts"] == 1
    assert story.identity() == before
    story.assert_in_service()


def test_a_node_of_another_machine_is_not_taken(story: Story) -> None:
    """A Server whose Node would have the name of another machine's is refused before anything is touched."""
    before = story.identity()
    other = story.cluster.get("server", MACHINE)
    other = {**other, "metadata": {"name": "ops-2"}, "spec": {**other["spec"], "nodeName": MACHINE}}
    story.cluster.apply({key: value for key, value in other.items() if key != "status"})
    reason, message = story.fails("repave", "in-place", server="ops-2")
    assert (reason, MACHINE in message) == ("NodeNameTaken", True), message
    assert story.identity() == before
    story.assert_in_service()


def test_repave_in_place(story: Story) -> None:
    """The same machine, not even rebooted, becomes another Node, with the labels of the other profile."""
    old, _, boot = story.identity()
    story.does("repave", "in-place", name="in-place")
    new, version, same_boot = story.identity()
    assert (new != old, version, same_boot) == (True, f"v{story.versions[0]}", boot)
    assert story.node()["metadata"]["labels"]["story"] == "in-place"
    story.assert_in_service()


def test_reboot(story: Story) -> None:
    """The same Node comes back with another boot id."""
    uid, version, boot = story.identity()
    story.does("reboot", "afresh")
    assert story.identity()[:2] == (uid, version)
    assert story.identity()[2] != boot
    assert story.node()["metadata"]["labels"]["story"] == "in-place"
    story.assert_in_service()


def test_upgrade(story: Story) -> None:
    """The same Node runs another version of the kubelet, and the Server says so."""
    uid, _, boot = story.identity()
    status = story.does("upgrade", "newer")
    assert story.identity() == (uid, f"v{story.versions[1]}", boot)
    assert status["result"]["kubeletVersion"] == f"v{story.versions[1]}"
    assert story.cluster.status("server", MACHINE)["currentOS"] == f"k8s-{story.versions[1]}"
    story.assert_in_service()


def test_a_killed_daemon_goes_on(story: Story) -> None:
    """A repave whose daemon was killed is gone on with: the machine was recreated once, the Node is a new one."""
    old = story.identity()[0]
    story.asks("repave", "afresh", name="killed")
    story.cluster.until("killed", lambda status: "lets us in" in status.get("stage", ""), seconds=120)
    story.daemon.kill()
    instance = story.prep.machines / story.cluster.namespace / MACHINE / "instance-id"
    given = instance.read_text(encoding="utf-8")
    story.daemon.start(*FLAGS)
    status = story.cluster.phase("killed", "Succeeded", seconds=300)
    assert (status["attempts"], status["formerNode"]["uid"]) == (2, old)
    assert story.identity()[0] not in (old, "")
    assert instance.read_text(encoding="utf-8") == given
    story.assert_in_service()


def test_decommission(story: Story) -> None:
    """The Node is gone, the machine belongs to no cluster, and the Server waits for what comes."""
    story.does("decommission", "afresh")
    assert story.node() == {}
    server = story.cluster.status("server", MACHINE)
    assert (server["state"], server.get("nodeName"), server.get("podCIDR")) == ("pending", None, None)
    assert "Decommissioned by Operation decommission-afresh" in server["message"]
    assert story.prep.ssh("ops", MACHINE, "test", "!", "-e", "/etc/kubernetes/kubelet.conf") == ""


def test_decommission_of_a_machine_that_is_off(story: Story) -> None:
    """What cannot be reached is taken out all the same, and it is said that the machine was not reset."""
    story.prep.ssh("ops", MACHINE, "sudo", "systemd-run", "--on-active=1", "systemctl", "poweroff")
    message = story.does("decommission", "in-place")["message"]
    assert "was not reached, so it was not reset" in message
    assert "was not reached" in story.cluster.status("server", MACHINE)["message"]
