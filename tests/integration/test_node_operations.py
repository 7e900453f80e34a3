# SPDX-License-Identifier: Apache-2.0
"""A real machine becomes a real Node and goes through its life: the daemon, kubeadm, an nspawn machine behind a router.

One machine, one story: each test begins where the one before it ended. Needs root.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.daemon import profile
from tests.integration.node_story import FLAGS, NEEDS, Story, told
from tests.integration.nodes import JoinableCluster

pytestmark = NEEDS
MACHINE = "ops-1"


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
    with told(joinable_control_plane, tmp_path_factory.mktemp("daemon"), MACHINE) as begun:
        begun.cluster.apply(*profiles(begun.user, *begun.versions[:2]))
        begun.daemon.start(*FLAGS)
        yield begun


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


def test_a_cancelled_join(story: Story) -> None:
    """A join that is cancelled leaves no token behind, and a machine that the next repave makes a Node again."""
    story.asks("repave", "in-place", name="cancelled")
    deadline = time.monotonic() + 120
    while not story.has_token():
        assert time.monotonic() < deadline, story.cluster.status("operation", "cancelled")
        time.sleep(0.1)
    story.cluster.run("patch", "operation", "cancelled", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    story.cluster.phase("cancelled", "Failed", seconds=30)
    assert not story.has_token()
    story.does("repave", "in-place", name="after-a-cancel")
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
    assert story.prep.ssh("router", MACHINE, "test", "!", "-e", "/etc/kubernetes/kubelet.conf") == ""


def test_decommission_of_a_machine_that_is_off(story: Story) -> None:
    """What cannot be reached is taken out all the same, and it is said that the machine was not reset."""
    story.prep.ssh("router", MACHINE, "sudo", "systemd-run", "--on-active=1", "systemctl", "poweroff")
    message = story.does("decommission", "in-place")["message"]
    assert "was not reached, so it was not reset" in message
    assert "was not reached" in story.cluster.status("server", MACHINE)["message"]
