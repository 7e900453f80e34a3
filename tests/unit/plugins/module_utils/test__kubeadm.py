# SPDX-License-Identifier: Apache-2.0
"""What kubeadm is given, for each version of its configuration, and what its words mean.

The words are those of kubeadm 1.20 to 1.34.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _kubeadm as kubeadm
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import Version, asked

TOKEN = "abcdef.0123456789abcdef"
MEMBER = kubeadm.Member(
    "w1",
    ip="192.168.100.11",
    labels={"zone": "west", "topology.kubernetes.io/zone": "w", "node-role.kubernetes.io/worker": ""},
    taints=[{"key": "new", "value": "", "effect": "NoSchedule"}],
    ignored=["Swap"],
    timeout=120,
)


def configuration(version: str) -> dict[str, Any]:
    """Return the configuration that kubeadm of a version gets."""
    discovery = kubeadm.discovery_by_token("10.0.2.2:6443", TOKEN, ["sha256:b", "sha256:a"])
    document: dict[str, Any] = json.loads(kubeadm.join_configuration(asked(version), MEMBER, discovery))
    return document


@pytest.mark.parametrize(
    ("kubelet", "version"),
    [
        ("1.15.0", "v1beta2"),
        ("1.20.2", "v1beta2"),
        ("1.21.14", "v1beta2"),
        ("1.22.0", "v1beta3"),
        ("1.30.9", "v1beta3"),
        ("1.31.0", "v1beta4"),
        ("1.36.0", "v1beta4"),
    ],
)
def test_api_version(kubelet: str, version: str) -> None:
    """Each kubeadm gets the version that it knows and does not call old."""
    assert kubeadm.api_version(asked(kubelet)) == version
    assert configuration(kubelet)["apiVersion"] == f"kubeadm.k8s.io/{version}"


def test_too_old() -> None:
    """kubeadm before 1.15 is refused."""
    with pytest.raises(StargateError) as caught:
        kubeadm.api_version(Version(1, 14, 0))
    assert caught.value.code == "UnsupportedVersion"


def test_arguments_are_a_map_before_v1beta4() -> None:
    """Arguments of the kubelet are a map, timeouts stand with the discovery, the socket is a plain path."""
    document = configuration("1.20.2")
    node = document["nodeRegistration"]
    assert node["kubeletExtraArgs"] == {
        "node-ip": "192.168.100.11",
        "node-labels": "topology.kubernetes.io/zone=w,zone=west",
    }
    assert document["discovery"]["timeout"] == "60s"
    assert "timeouts" not in document
    assert (node["name"], node["criSocket"]) == ("w1", "/run/containerd/containerd.sock")
    assert (node["taints"], node["ignorePreflightErrors"]) == (list(MEMBER.taints), ["Swap"])


def test_arguments_are_a_list_in_v1beta4() -> None:
    """Arguments are a list with names, timeouts have a place of their own."""
    document = configuration("1.34.2")
    names = [argument["name"] for argument in document["nodeRegistration"]["kubeletExtraArgs"]]
    assert names == ["node-ip", "node-labels"]
    assert document["timeouts"] == {"discovery": "60s", "tlsBootstrap": "120s"}
    assert "timeout" not in document["discovery"]


@pytest.mark.parametrize(("kubelet", "prefix"), [("1.23.17", ""), ("1.24.0", "unix://")])
def test_socket(kubelet: str, prefix: str) -> None:
    """From 1.24 on the socket is a URL."""
    assert configuration(kubelet)["nodeRegistration"]["criSocket"] == f"{prefix}/run/containerd/containerd.sock"


def test_little_is_asked_for() -> None:
    """Without address, labels and taints none are given."""
    document = json.loads(kubeadm.join_configuration(asked("1.30"), kubeadm.Member("w1"), {}))
    assert (document["nodeRegistration"]["kubeletExtraArgs"], document["nodeRegistration"]["taints"]) == ({}, [])


def test_discovery() -> None:
    """The CA is pinned by its key or in a file; the token is for the TLS bootstrap in both."""
    by_token = configuration("1.30")["discovery"]
    assert by_token["bootstrapToken"] == {
        "apiServerEndpoint": "10.0.2.2:6443",
        "token": TOKEN,
        "caCertHashes": ["sha256:a", "sha256:b"],
    }
    by_file = kubeadm.discovery_by_file(TOKEN)
    assert by_token["tlsBootstrapToken"] == by_file["tlsBootstrapToken"] == TOKEN
    file = json.loads(kubeadm.discovery_kubeconfig("10.0.2.2:6443", "PEM"))
    assert by_file["file"] == {"kubeConfigPath": kubeadm.DISCOVERY_FILE}
    assert file["clusters"][0]["cluster"]["server"] == "https://10.0.2.2:6443"
    assert base64.b64decode(file["clusters"][0]["cluster"]["certificate-authority-data"]) == b"PEM"


@pytest.mark.parametrize(
    ("label", "own"),
    [
        ("zone", True),
        ("example.com/zone", True),
        ("stargate.io/site", True),
        ("topology.kubernetes.io/zone", True),
        ("node.kubernetes.io/anything", True),
        ("kubelet.kubernetes.io/anything", True),
        ("node-role.kubernetes.io/worker", False),
        ("kubernetes.io/role", False),
        ("example.k8s.io/x", False),
        ("notkubernetes.io/x", True),
    ],
)
def test_own_labels(label: str, *, own: bool) -> None:
    """A kubelet may give itself any label but the reserved ones of which it does not own."""
    assert kubeadm.own_labels({label: "x"}) == ({label: "x"} if own else {})


PREFLIGHT = """\
[preflight] Running pre-flight checks
\t[WARNING FileExisting-ethtool]: ethtool not found in system path
error execution phase preflight: [preflight] Some fatal errors occurred:
\t[ERROR FileExisting-conntrack]: conntrack not found in system path
\t[ERROR Swap]: running with swap on is not supported. Please disable swap
[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`
To see the stack trace of this error execute with --v=5 or higher
"""
UNHEALTHY = """\
[kubelet-check] Initial timeout of 40s passed.
[kubelet-check] It seems like the kubelet isn't running or healthy.
error execution phase kubelet-start: timed out waiting for the condition
To see the stack trace of this error execute with --v=5 or higher
"""


@pytest.mark.parametrize(
    ("words", "code", "retryable"),
    [
        (PREFLIGHT, "PreflightFailed", False),
        (UNHEALTHY, "KubeletUnhealthy", True),
        (
            "error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: Unauthorized",
            "TokenExpired",
            True,
        ),
        (
            f'error: could not find a JWS signature in the cluster-info ConfigMap for token ID "{TOKEN}"',
            "TokenExpired",
            True,
        ),
        ('error: a Node with name "w1" and status "Ready" already exists in the cluster.', "NodeNameTaken", True),
        ("error: Get https://x: x509: certificate signed by unknown authority", "CaMismatch", False),
        ('error: nodes "w1" is forbidden: User "system:bootstrap:abcdef"', "ApiForbidden", False),
        (
            "error: Get https://10.0.2.2:6443/api: dial tcp 10.0.2.2:6443: connect: connection refused",
            "ApiUnreachable",
            True,
        ),
        (
            "error: this version of kubeadm only supports v1.31.0; v1.20.2 is not supported by kubeadm",
            "VersionSkew",
            False,
        ),
        ("error execution phase kubelet-start: something new", "JoinFailed", True),
        ("", "JoinFailed", True),
    ],
)
def test_join_failure(words: str, code: str, *, retryable: bool) -> None:
    """Each failure has its code; the token is in none of them."""
    error = kubeadm.join_failure("w1", words, TOKEN)
    assert (error.code, error.retryable) == (code, retryable)
    assert TOKEN not in error.message + error.details
    assert "w1" in error.message
    assert len(error.message) < 300


def test_preflight_names_its_checks() -> None:
    """Failed checks are named, and the first cause is given."""
    error = kubeadm.join_failure("w1", PREFLIGHT, TOKEN)
    assert "FileExisting-conntrack, Swap" in error.message
    assert error.details == "conntrack not found in system path"


def test_meaningful() -> None:
    """The line that says what is wrong is found among the advice."""
    assert kubeadm.meaningful(UNHEALTHY) == "error execution phase kubelet-start: timed out waiting for the condition"
    assert kubeadm.meaningful("W1121 12:00:00 warning\nhello\n") == "hello"
    assert kubeadm.meaningful("") == "it said nothing"
