# SPDX-License-Identifier: Apache-2.0
"""A control plane that machines can join: what a stranger, a token's owner and kubeadm find in it.

Real machines join it in tests of their own.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from tests.integration.nodes import JoinableCluster

from stargate_reconciler.local.certificates import served

PROGRAM = str(Path(sys.executable).parent / "stargate-control-plane")
INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
CONFIGURATION = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


def get(cluster: JoinableCluster, path: str, *, token: str = "") -> dict[str, str]:
    """Return the data of a ConfigMap as somebody with a token, or as a stranger."""
    port = cluster.endpoint.rpartition(":")[2]
    trusted = Path(cluster.kubeconfig).parent / "pki" / "ca.crt"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers=headers)
    context = ssl.create_default_context(cafile=str(trusted))
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        return dict(json.load(answer)["data"])


@pytest.fixture(scope="module")
def token(joinable_control_plane: JoinableCluster) -> str:
    """A token made by kubeadm, whose signature is there."""
    made = joinable_control_plane.run("kubeadm", "token", "create").strip()
    deadline = time.monotonic() + 30
    while f"jws-kubeconfig-{made.partition('.')[0]}" not in get(joinable_control_plane, INFO):
        assert time.monotonic() < deadline, "nobody signed cluster-info"
        time.sleep(0.1)
    return made


def test_a_stranger_finds_the_signed_address(joinable_control_plane: JoinableCluster, token: str) -> None:
    """Without any right one reads where the cluster is, signed with the token's secret, and nothing else."""
    data = get(joinable_control_plane, INFO)
    (cluster,) = yaml.safe_load(data["kubeconfig"])["clusters"]
    assert cluster["cluster"]["server"] == f"https://{joinable_control_plane.endpoint}"
    header, payload, signature = data[f"jws-kubeconfig-{token.partition('.')[0]}"].split(".")
    assert (bool(header), payload, bool(signature)) == (True, "", True)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(joinable_control_plane, CONFIGURATION)


def test_who_joins_reads_both_configurations(joinable_control_plane: JoinableCluster, token: str) -> None:
    """The token's owner reads the cluster's configuration and the kubelets', and no Secret."""
    configuration = yaml.safe_load(get(joinable_control_plane, CONFIGURATION, token=token)["ClusterConfiguration"])
    assert configuration["kubernetesVersion"] == f"v{joinable_control_plane.version}"
    names = joinable_control_plane.run("kubectl", "-n", "kube-system", "get", "configmaps", "-o", "name").split()
    (name,) = (name for name in names if "kubelet-config" in name)
    path = f"/api/v1/namespaces/kube-system/configmaps/{name.partition('/')[2]}"
    assert "nodeStatusUpdateFrequency: 2s" in get(joinable_control_plane, path, token=token)["kubelet"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(joinable_control_plane, "/api/v1/namespaces/kube-system/secrets", token=token)


def test_certificate_names_where_machines_reach_it(joinable_control_plane: JoinableCluster) -> None:
    """TLS verifies under the advertised address."""
    certificate = Path(joinable_control_plane.kubeconfig).parent / "pki" / "apiserver.crt"
    assert {"127.0.0.1", joinable_control_plane.endpoint.partition(":")[0]} <= served(certificate)


def test_from_plain_to_joinable_and_back_again(tmp_path: Path) -> None:
    """A running control plane becomes joinable with its data, and is so again after a stop; other addresses wait."""
    environ = os.environ | {"STARGATE_STATE_DIR": str(tmp_path / "state")}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run([PROGRAM, *words], env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    try:
        assert "machines join" not in run("up")
        before = json.loads(run("status", "-o", "json"))
        assert "machines join it at 10.0.2.2:" in run("up", "--joinable")
        after = json.loads(run("status", "-o", "json"))
        assert (after["url"], after["processes"]["etcd"]) == (before["url"], before["processes"]["etcd"])
        assert "runs already" in run("up", "--joinable")
        assert "Stop it first" in run("up", "--joinable", "--advertise", "10.9.9.9", code=1)
        run("down", "--keep")
        assert f"machines join it at {after['endpoint']}" in run("up")
    finally:
        run("down")
