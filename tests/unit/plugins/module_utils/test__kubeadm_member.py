# SPDX-License-Identifier: Apache-2.0
"""Whether a machine is a member already: by its files, its kubelet, and the cluster's word.

Each way of not being one has its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plugins.api_server import Api, api
from tests.unit.plugins.certs import Authority
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils import _certificates as certificates
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_member as members
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Api]:
    """Return a cluster with one Node."""
    with api(tmp_path) as made:
        made.nodes["w1"] = "uid-1"
        yield made


@pytest.fixture
def host(cluster: Api) -> Iterator[Machine]:
    """Return a machine that is that Node."""
    with machine() as made:
        made.have(members.KUBECONFIG, cluster.kubeconfig)
        cluster.authority.issue("system:node:w1", made.path(members.CLIENT_CERTIFICATE))
        made.answers["systemctl", "is-active"] = Done(0, "active\n")
        yield made


def test_member(host: Machine, cluster: Api) -> None:
    """A machine with the right files, a running kubelet and a Node is a member."""
    standing = members.standing(host, "w1", cluster.join)
    assert cluster.asked == ["/api/v1/nodes/w1"]  # the one question
    assert standing == members.Standing("", "uid-1", cluster.endpoint, "active")
    hashes = sorted(certificates.key_hashes(cluster.authority.pem))
    assert members.standing(host, "w1", {**cluster.join, "ca": "", "ca_hashes": hashes}).reason == ""


def test_member_by_another_door(host: Machine, cluster: Api) -> None:
    """A kubelet that uses the address which the cluster gives itself is a member too."""
    join = {**cluster.join, "endpoint": f"localhost:{cluster.port}"}
    assert members.standing(host, "w1", join).reason == f"the machine's kubelet talks to {cluster.endpoint}"
    cluster.server = f"localhost:{cluster.port}"
    host.have(members.KUBECONFIG, cluster.kubeconfig)
    assert "talks to" in members.standing(host, "w1", {**cluster.join, "endpoint": "127.0.0.1:1"}).reason


def test_no_cluster(host: Machine, cluster: Api) -> None:
    """A machine without kubelet.conf belongs to no cluster, and nobody is asked."""
    host.lack(members.KUBECONFIG)
    assert members.standing(host, "w1", cluster.join).reason == "the machine belongs to no cluster"
    assert (host.ran, cluster.asked) == ([], [])


def test_other_cluster_or_name(host: Machine, cluster: Api) -> None:
    """Another CA is another cluster, another certificate another Node."""
    other = {**cluster.join, "ca": Authority("other").pem}
    assert members.standing(host, "w1", other).reason == "the machine belongs to another cluster"
    assert members.standing(host, "w2", cluster.join).reason == "the machine is the Node w1"
    host.lack(members.CLIENT_CERTIFICATE)
    assert members.standing(host, "w1", cluster.join).reason == "the kubelet has no certificate"
    assert members.registered(host, "w1", cluster.authority.pem, cluster.endpoint) == (
        "",
        "the kubelet has no certificate that can be read",
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("active", ""),
        ("inactive", ""),
        ("failed", "the kubelet is failed"),
        ("activating", "the kubelet is activating"),
    ],
)
def test_kubelet(host: Machine, cluster: Api, state: str, reason: str) -> None:
    """A kubelet that fails makes no member; one that was stopped only has to be started."""
    host.answers["systemctl", "is-active"] = Done(3, f"{state}\n")
    standing = members.standing(host, "w1", cluster.join)
    assert (standing.reason, standing.kubelet) == (reason, "" if reason else state)


def test_the_clusters_word(host: Machine, cluster: Api) -> None:
    """A Node that was deleted, or a certificate that is not accepted any more, makes no member."""
    cluster.nodes.clear()
    assert members.standing(host, "w1", cluster.join).reason == "the cluster has no Node of this name"
    cluster.status = 401
    assert "does not accept the kubelet's certificate (HTTP 401)" in members.standing(host, "w1", cluster.join).reason


def test_a_cluster_that_does_not_answer(host: Machine, cluster: Api) -> None:
    """Nobody knows whether a machine is a member when the cluster does not answer; it may later."""
    host.have(members.KUBECONFIG, cluster.kubeconfig.replace(cluster.endpoint, "127.0.0.1:1"))
    with pytest.raises(StargateError) as caught:
        members.standing(host, "w1", {**cluster.join, "endpoint": "127.0.0.1:1"})
    assert caught.value.code == "ApiUnreachable"
