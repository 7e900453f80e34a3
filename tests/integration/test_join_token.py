# SPDX-License-Identifier: Apache-2.0
"""The action join_token in real plays against a cluster that signs, with the rights of reconciler/deploy/rbac.yaml.

How kubeadm is asked instead is in test_control_plane_role.py; machines that join are in tests of their own.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.nodes import JoinableCluster
from tests.integration.plays import Plays, kubeconfig_of_account, with_shipped_rights

from ansible_collections.stargate.core.plugins.module_utils._bootstrap_token import token_id
from ansible_collections.stargate.core.plugins.module_utils._certificates import key_hashes
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster
from stargate_reconciler.local import certificates

TOKEN = "stargate.core.join_token"
INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def admin(joinable_control_plane: JoinableCluster) -> Iterator[Cluster]:
    """Return the cluster as its administrator sees it, with the rights that we ship given out."""
    with Cluster.of({"kubeconfig": joinable_control_plane.kubeconfig, "unreachable_after": 60.0}, {}) as cluster:
        with_shipped_rights(cluster, partial(joinable_control_plane.run, "kubectl"))
        yield cluster


@pytest.fixture
def plays(admin: Cluster, joinable_control_plane: JoinableCluster, tmp_path: Path) -> Plays:
    """Return plays that have the reconciler's rights."""
    return Plays(tmp_path, kubeconfig_of_account(admin, joinable_control_plane.kubeconfig, tmp_path))


def make(node: str, state: str = "present", **arguments: Any) -> Object:
    """Return a task that makes or revokes a token, registered under the Node's name."""
    return {"name": f"test {state}", TOKEN: {"node": node, "state": state, **arguments}, "register": node}


def keep(path: Path, node: str) -> Object:
    """Return a task that writes what is registered to a file."""
    copy = {"content": f"{{{{ {node} | to_json }}}}", "dest": str(path), "mode": "0600"}
    return {"ansible.builtin.copy": copy, "no_log": True}


def may_join(cluster: Cluster, token: str, ca: str) -> bool:
    """Return whether the API server takes a token as one of those with which machines join."""
    request = urllib.request.Request(
        f"{cluster.address}/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
        headers={"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cadata=ca), timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        return False


def eventually_refused(cluster: Cluster, join: Object) -> bool:
    """Return whether a token is not taken any more, within the seconds that the API server remembers one."""
    deadline = time.monotonic() + 20
    while may_join(cluster, join["token"], join["ca"]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_a_token_s_life(plays: Plays, admin: Cluster, joinable_control_plane: JoinableCluster, tmp_path: Path) -> None:
    """A token is one that joins, for its Node only; a second one takes its place; revoked, it opens nothing."""
    results = plays.run(make("w1"), keep(tmp_path / "first", "w1"), make("w1"), keep(tmp_path / "second", "w1"))
    first, second = (json.loads((tmp_path / name).read_text())["join"] for name in ("first", "second"))
    assert [result["changed"] for result in results] == [True, True]
    assert (first["method"], first["endpoint"]) == ("kubeadm", joinable_control_plane.endpoint)
    assert (first["server_version"], first["dns"]) == (f"v{joinable_control_plane.version}", "cluster.local")
    assert (first["ca"], first["cluster_dns"]) == (admin.ca, "10.96.0.10")
    assert first["ca_hashes"] == list(key_hashes(admin.ca))
    assert first["token_id"] == second["token_id"] == token_id("w1")
    assert may_join(admin, second["token"], second["ca"])
    assert eventually_refused(admin, first)
    secret = admin.get(f"{SECRETS}/bootstrap-token-{token_id('w1')}", "read")["data"]
    assert base64.b64decode(secret["description"]) == b"stargate:node/w1"
    left = time.mktime(time.strptime(base64.b64decode(secret["expiration"]).decode(), "%Y-%m-%dT%H:%M:%SZ"))
    assert 840 < left - time.mktime(time.gmtime()) <= 900
    gone = plays.run(make("w1", "absent"), make("w1", "absent"), make("w1", "absent", token_id=first["token_id"]))
    assert [result["changed"] for result in gone] == [True, False, False]
    assert eventually_refused(admin, second)


def test_kubeadm_takes_it(plays: Plays, joinable_control_plane: JoinableCluster, tmp_path: Path) -> None:
    """kubeadm lists the token as one of its own, for authentication and signing."""
    plays.run(make("w2"), keep(tmp_path / "made", "w2"))
    token = json.loads((tmp_path / "made").read_text())["join"]["token"]
    (line,) = (line for line in joinable_control_plane.run("kubeadm", "token", "list").splitlines() if token in line)
    assert line.split()[3:5] == ["authentication,signing", "stargate:node/w2"]


def test_nothing_secret_is_shown(plays: Plays, tmp_path: Path) -> None:
    """However loud a play is, and without no_log, the token is on no terminal and in no callback."""
    (result,) = plays.run(make("w3"), keep(tmp_path / "made", "w3"))
    join = json.loads((tmp_path / "made").read_text())["join"]
    assert "censored" in result
    assert join["token"].partition(".")[2] not in plays.shown
    assert "-----BEGIN" not in plays.shown


def test_check_mode(plays: Plays, admin: Cluster, tmp_path: Path) -> None:
    """A check tells how the cluster would be joined, and makes nothing."""
    shown = {"name": "test shown", "ansible.builtin.debug": {"var": "w4.join"}}
    made, told, gone = plays.run(make("w4"), shown, make("w4", "absent"), flags=("--check",))
    join = told["w4.join"]
    assert (made["changed"], join["token"], join["token_id"], gone["changed"]) == (True, "", "", False)
    assert (join["ca"], bool(join["endpoint"])) == (admin.ca, True)
    assert admin.find(f"{SECRETS}/bootstrap-token-{token_id('w4')}", "read") is None


def test_an_endpoint_of_one_s_own(plays: Plays) -> None:
    """The endpoint that is given counts; one that no machine reaches is warned of."""
    shown = {"name": "test shown", "ansible.builtin.debug": {"var": "w5.join.endpoint"}}
    one, first, _, second = plays.run(
        make("w5", endpoint="https://api.example.com"), shown, make("w5", endpoint="127.0.0.1:1"), shown
    )
    assert (first["w5.join.endpoint"], second["w5.join.endpoint"]) == ("api.example.com:443", "127.0.0.1:1")
    assert "warnings" not in one
    assert "127.0.0.1:1, which no other machine reaches" in plays.shown


def test_refusals(plays: Plays) -> None:
    """A name that no Node has, a token that is none, and too short a life are refused before anybody is asked."""
    bad = [make("W1"), make("w", "absent", token_id="x"), make("w", ttl=1), make("w", endpoint="http://x")]
    results = plays.run(*bad)
    assert [result["failure"]["code"] for result in results] == ["Invalid"] * len(bad)


@pytest.fixture
def other_info(admin: Cluster, tmp_path: Path) -> Iterator[None]:
    """Have cluster-info name another cluster's CA; afterwards it is what it was."""
    before = admin.get(INFO, "read")["data"]["kubeconfig"]
    certificates.make_all(tmp_path / "pki")
    content = yaml.safe_load(before)
    data = base64.b64encode((tmp_path / "pki/ca.crt").read_bytes()).decode()
    content["clusters"][0]["cluster"]["certificate-authority-data"] = data
    admin.patch(INFO, "change", {"data": {"kubeconfig": yaml.safe_dump(content)}})
    yield
    admin.patch(INFO, "restore", {"data": {"kubeconfig": before}})


@pytest.mark.usefixtures("other_info")
def test_another_cluster_s_ca(plays: Plays, admin: Cluster) -> None:
    """A CA that our own connection does not trust is refused before a token is made, unless somebody says so."""
    refused, made = plays.run(make("w6"), make("w6", verify_ca=False))
    assert (refused["failure"]["code"], refused["failure"]["retryable"]) == ("CaMismatch", False)
    assert made["changed"]
    assert admin.find(f"{SECRETS}/bootstrap-token-{token_id('w6')}", "read") is not None


def test_nobody_signs(control_plane: Any, tmp_path: Path) -> None:
    """Without cluster-info that is said; without the signer the token is taken back and the controller named."""
    plays = Plays(tmp_path, control_plane.kubeconfig)
    assert plays.code(TOKEN, node="w7") == "ClusterInfoMissing"
    with Cluster.of({"kubeconfig": control_plane.kubeconfig, "unreachable_after": 9.0}, {}) as cluster:
        authority = base64.b64encode(cluster.ca.encode()).decode()
        entry = {"cluster": {"server": "https://10.0.2.2:6443", "certificate-authority-data": authority}}
        data = {"kubeconfig": yaml.safe_dump({"clusters": [entry]})}
        metadata = {"name": "cluster-info", "namespace": "kube-public"}
        cluster.create(INFO.rpartition("/")[0], "make", {"kind": "ConfigMap", "metadata": metadata, "data": data})
        try:
            result = plays.one(TOKEN, node="w7", timeout=1)
            assert (result["failure"]["code"], result["failure"]["retryable"]) == ("TokenNotSigned", True)
            assert "bootstrapsigner" in result["msg"]
            assert cluster.find(f"{SECRETS}/bootstrap-token-{token_id('w7')}", "read") is None
        finally:
            cluster.delete(INFO, "clean up")
