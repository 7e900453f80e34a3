# SPDX-License-Identifier: Apache-2.0
"""What `kubeadm join` looks for in a cluster: its configuration, the kubelets', and the rights of who joins.

The objects have the names, contents and rights that `kubeadm init` gives them, so that any kubeadm of a fitting
version finds its way. Settings in, manifests out; applied by control_plane.py.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import yaml

from stargate_reconciler.local.flags import CLUSTER, SERVICE_RANGE, Settings

Manifest = dict[str, Any]

CLUSTER_DNS = "10.96.0.10"
POD_RANGE = "10.244.0.0/16"
_DOMAIN = "cluster.local"
_JOINING = "system:bootstrappers:kubeadm:default-node-token"
_NODES = "system:nodes"
_RBAC = "rbac.authorization.k8s.io"

# The configuration's API versions, the newest first, with the first Kubernetes whose kubeadm writes it.
_CONFIGURATIONS = (((1, 31), "v1beta4"), ((1, 22), "v1beta3"), ((0, 0), "v1beta2"))
_ONE_KUBELET_CONFIG = (1, 24)  # from here on its name has no version


def manifests(settings: Settings, authority: str) -> Iterator[Manifest]:
    """Yield every object that a machine needs to join, given the cluster's CA certificate (PEM)."""
    yield from _cluster_info(settings, authority)
    yield from _configuration(settings)
    yield from _kubelet_configuration(settings)
    yield _binds("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", _JOINING)
    approver = "system:certificates.k8s.io:certificatesigningrequests"
    yield _binds("kubeadm:node-autoapprove-bootstrap", f"{approver}:nodeclient", _JOINING)
    yield _binds("kubeadm:node-autoapprove-certificate-rotation", f"{approver}:selfnodeclient", _NODES)
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    name = "kubeadm:get-nodes"  # kubeadm asks whether a Node of that name is there already
    yield {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]}
    yield _binds(name, name, _JOINING)


def configuration_version(version: str) -> str:
    """Return the API version in which kubeadm of a Kubernetes version writes its configuration."""
    return next(name for since, name in _CONFIGURATIONS if _minor(version) >= since)


def kubelet_config_name(version: str) -> str:
    """Return the name of the ConfigMap in which kubeadm of a version looks for the kubelets' configuration."""
    major, minor = _minor(version)
    return "kubelet-config" if (major, minor) >= _ONE_KUBELET_CONFIG else f"kubelet-config-{major}.{minor}"


def _minor(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _cluster_info(settings: Settings, authority: str) -> Iterator[Manifest]:
    """Yield the address and CA that everybody may read; kube-controller-manager signs them with each token."""
    data = base64.b64encode(authority.encode()).decode()
    cluster = {"server": f"https://{settings.endpoint}", "certificate-authority-data": data}
    kubeconfig = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}]}
    place = {"name": "cluster-info", "namespace": "kube-public"}
    yield _config_map(place, {"kubeconfig": _text(kubeconfig)})
    subject = {"kind": "User", "apiGroup": _RBAC, "name": "system:anonymous"}
    yield from _readable("kubeadm:bootstrap-signer-clusterinfo", place, subject)


def _configuration(settings: Settings) -> Iterator[Manifest]:
    text = _text(
        {
            "apiVersion": f"kubeadm.k8s.io/{configuration_version(settings.version)}",
            "kind": "ClusterConfiguration",
            "clusterName": CLUSTER,
            "kubernetesVersion": f"v{settings.version}",
            "controlPlaneEndpoint": settings.endpoint,
            "networking": {"dnsDomain": _DOMAIN, "podSubnet": POD_RANGE, "serviceSubnet": SERVICE_RANGE},
        }
    )
    place = {"name": "kubeadm-config", "namespace": "kube-system"}
    yield _config_map(place, {"ClusterConfiguration": text})
    yield from _readable("kubeadm:nodes-kubeadm-config", place, _group(_JOINING), _group(_NODES))


def _kubelet_configuration(settings: Settings) -> Iterator[Manifest]:
    text = _text(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "systemd",
            "clusterDNS": [CLUSTER_DNS],
            "clusterDomain": _DOMAIN,
            "healthzBindAddress": "127.0.0.1",
            "rotateCertificates": True,
            "staticPodPath": "/etc/kubernetes/manifests",
            # For trying things out: Nodes tell quickly how they are, and do without what the machine below lacks.
            "nodeStatusUpdateFrequency": "2s",
            "failSwapOn": False,
            "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
        }
    )
    name = kubelet_config_name(settings.version)
    place = {"name": name, "namespace": "kube-system"}
    yield _config_map(place, {"kubelet": text})
    yield from _readable(f"kubeadm:{name}", place, _group(_JOINING), _group(_NODES))


def _readable(name: str, place: dict[str, str], *subjects: dict[str, str]) -> Iterator[Manifest]:
    """Yield the Role to read one ConfigMap, and the RoleBinding for those who may."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [place["name"]], "verbs": ["get"]}
    top = {"apiVersion": f"{_RBAC}/v1", "metadata": {"name": name, "namespace": place["namespace"]}}
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": name}
    yield {**top, "kind": "Role", "rules": [rule]}
    yield {**top, "kind": "RoleBinding", "roleRef": reference, "subjects": list(subjects)}


def _binds(name: str, role: str, group: str) -> Manifest:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [_group(group)],
    }


def _group(name: str) -> dict[str, str]:
    return {"kind": "Group", "apiGroup": _RBAC, "name": name}


def _config_map(place: dict[str, str], data: dict[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(place), "data": data}


def _text(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=True)
