# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm is given and what it says: its configuration in the version that it reads, and its failures told apart.

PRIVATE to the collection. Pure: who runs kubeadm, and where the files are, is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, clipped
from ansible_collections.stargate.core.plugins.module_utils._version import Version

DISCOVERY_FILE = "/run/stargate/cluster.json"

_API_VERSIONS = (((1, 31), "v1beta4"), ((1, 22), "v1beta3"), ((1, 15), "v1beta2"))  # from this minor version on

# Below kubernetes.io and k8s.io a kubelet may give itself only these labels (the admission plugin NodeRestriction
# refuses others, and the kubelet itself does not start with them).
_OWN_LABELS = {
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
}
_OWN_PREFIXES = ("kubelet.kubernetes.io/", "node.kubernetes.io/")


@dataclass(frozen=True)
class Member:
    """The Node that a machine is to become."""

    name: str
    ip: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    cri_socket: str = "/run/containerd/containerd.sock"
    ignored: Sequence[str] = ()
    timeout: int = 300


def api_version(kubelet: Version) -> str:
    """Return the version of the configuration that kubeadm of this version reads best."""
    for first, name in _API_VERSIONS:
        if kubelet.line >= first:
            return name
    raise Invalid(f"Failed to configure kubeadm {kubelet.tag}: it is older than 1.15.", code="UnsupportedVersion")


def discovery_by_token(endpoint: str, token: str, ca_hashes: Collection[str]) -> dict[str, Any]:
    """Return how kubeadm finds the cluster by what the cluster has signed with the token."""
    return {
        "bootstrapToken": {"apiServerEndpoint": endpoint, "token": token, "caCertHashes": sorted(ca_hashes)},
        "tlsBootstrapToken": token,
    }


def discovery_by_file(token: str) -> dict[str, Any]:
    """Return how kubeadm finds a cluster that shows nothing to strangers. kubeadm 1.20 pauses five seconds first."""
    return {"file": {"kubeConfigPath": DISCOVERY_FILE}, "tlsBootstrapToken": token}


def join_configuration(kubelet: Version, member: Member, discovery: Mapping[str, Any]) -> str:
    """Return the JoinConfiguration of a worker."""
    version = api_version(kubelet)
    document: dict[str, Any] = {
        "apiVersion": f"kubeadm.k8s.io/{version}",
        "kind": "JoinConfiguration",
        "caCertPath": "/etc/kubernetes/pki/ca.crt",
        "discovery": dict(discovery),
        "nodeRegistration": _registration(kubelet, member),
    }
    if version == "v1beta4":
        document["timeouts"] = {"discovery": "60s", "tlsBootstrap": f"{member.timeout}s"}
    else:
        document["discovery"]["timeout"] = "60s"
    return json.dumps(document, indent=1) + "\n"


def _registration(kubelet: Version, member: Member) -> dict[str, Any]:
    arguments = {"node-ip": member.ip} if member.ip else {}
    labels = own_labels(member.labels)
    if labels:
        arguments["node-labels"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    listed: Any = arguments
    if api_version(kubelet) == "v1beta4":
        listed = [{"name": name, "value": value} for name, value in arguments.items()]
    return {
        "name": member.name,
        "criSocket": member.cri_socket if kubelet.line < (1, 24) else f"unix://{member.cri_socket}",
        "ignorePreflightErrors": list(member.ignored),
        "kubeletExtraArgs": listed,
        "taints": [dict(taint) for taint in member.taints],
    }


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that a kubelet may give itself."""
    return {key: value for key, value in labels.items() if _is_own(key)}


def _is_own(label: str) -> bool:
    prefix = label.partition("/")[0] if "/" in label else ""
    is_reserved = any(prefix == domain or prefix.endswith(f".{domain}") for domain in ("kubernetes.io", "k8s.io"))
    return not is_reserved or label in _OWN_LABELS or label.startswith(_OWN_PREFIXES)


def discovery_kubeconfig(endpoint: str, ca: str) -> str:
    """Return the kubeconfig that tells kubeadm where the cluster is and which CA it has; it holds no secret."""
    import base64

    cluster = {"server": f"https://{endpoint}", "certificate-authority-data": base64.b64encode(ca.encode()).decode()}
    # The form of cluster-info: kubeadm takes a cluster without a name as it is, and asks for no user.
    document = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}], "contexts": []}
    return json.dumps(document, indent=1) + "\n"


_CAUSES = (  # pattern in what kubeadm says, code, what to say, may it go away by itself?
    (
        r'[Nn]ode with name .* and status "Ready" already exists',
        "NodeNameTaken",
        "the cluster has a Node of this name that is Ready still",
        True,
    ),
    (
        r"Unauthorized|[Uu]nable to authenticate|could not find a JWS signature|[Tt]oken .*(expired|invalid)",
        "TokenExpired",
        "the cluster does not know the token, or does not know it any more",
        True,
    ),
    (
        r"x509: |certificate signed by unknown authority|cluster CA found in .* is invalid",
        "CaMismatch",
        "the API server has a certificate of another CA",
        False,
    ),
    (r"[Ff]orbidden", "ApiForbidden", "the cluster does not let the token do what a join needs", False),
    (
        r"kubelet isn't running|kubelet is not healthy|kubelet-check|failed to start the kubelet",
        "KubeletUnhealthy",
        "the kubelet does not start",
        True,
    ),
    (
        r"i/o timeout|connection refused|no route to host|no such host|context deadline exceeded|Client.Timeout",
        "ApiUnreachable",
        "the API server does not answer",
        True,
    ),
    (
        r"is not supported by kubeadm|version skew|kubelet version is higher",
        "VersionSkew",
        "the versions differ",
        False,
    ),
)


def join_failure(name: str, words: str, token: str) -> StargateError:
    """Return why a join has failed, from what kubeadm said; the token is not in it."""
    clean = words.replace(token, "(token)") if token else words
    doing = f"Failed to join the cluster as {name}"
    checks = re.findall(r"\[ERROR ([\w-]+)\]: ([^\n]+)", clean)
    if checks:
        names = ", ".join(sorted({check for check, _cause in checks}))
        first = clipped(checks[0][1], 120)
        return StargateError(f"{doing}: kubeadm's checks {names} fail: {first}", code="PreflightFailed", details=first)
    line = meaningful(clean)
    for pattern, code, cause, retryable in _CAUSES:
        if re.search(pattern, clean):
            return StargateError(f"{doing}: {cause}.", code=code, details=line, retryable=retryable)
    return StargateError(f"{doing}: {clipped(line, 160)}", code="JoinFailed", details=line, retryable=True)


def meaningful(words: str) -> str:
    """Return the line in which kubeadm says what is wrong, without the advice around it."""
    advice = re.compile(r"To see the stack trace|\[preflight\] If you know what|^\s*$|^[WI]\d{4} |^\t")
    lines = [line.strip() for line in words.splitlines() if not advice.search(line)]
    errors = [line for line in lines if re.search(r"^error|^couldn't|execution phase|: error", line, re.IGNORECASE)]
    return clipped((errors or lines or ["it said nothing"])[-1])
