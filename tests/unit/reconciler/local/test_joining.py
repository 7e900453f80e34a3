# SPDX-License-Identifier: Apache-2.0
"""What a joinable control plane offers to kubeadm, for old and new versions.

That kubeadm finds its way is shown by tests/integration/test_joinable.py.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from stargate_reconciler.local.api import path_of
from stargate_reconciler.local.flags import Joinable, Settings
from stargate_reconciler.local.joining import configuration_version, kubelet_config_name, manifests


def objects(version: str = "1.34.1") -> dict[str, dict[str, Any]]:
    """Return the objects of a version by kind and name."""
    settings = Settings(6443, 1, 2, version, joinable=Joinable())
    return {f"{one['kind']} {one['metadata']['name']}": one for one in manifests(settings, "the authority")}


@pytest.mark.parametrize(
    ("version", "api", "name"),
    [
        ("1.20.2", "v1beta2", "kubelet-config-1.20"),
        ("1.21.14", "v1beta2", "kubelet-config-1.21"),
        ("1.22.0", "v1beta3", "kubelet-config-1.22"),
        ("1.23.17", "v1beta3", "kubelet-config-1.23"),
        ("1.24.0", "v1beta3", "kubelet-config"),
        ("1.30.9", "v1beta3", "kubelet-config"),
        ("1.31.0", "v1beta4", "kubelet-config"),
        ("1.40.0", "v1beta4", "kubelet-config"),
    ],
)
def test_each_version_has_its_form(version: str, api: str, name: str) -> None:
    """The configuration's API version and the kubelets' ConfigMap are those that kubeadm of a version knows."""
    assert (configuration_version(version), kubelet_config_name(version)) == (api, name)
    found = objects(version)
    text = found["ConfigMap kubeadm-config"]["data"]["ClusterConfiguration"]
    assert yaml.safe_load(text)["apiVersion"] == f"kubeadm.k8s.io/{api}"
    assert found[f"Role kubeadm:{name}"]["rules"][0]["resourceNames"] == [name]


def test_machines_are_sent_to_the_advertised_address() -> None:
    """Both what everybody may read and what who joins reads name the address that machines reach."""
    found = objects()
    info = yaml.safe_load(found["ConfigMap cluster-info"]["data"]["kubeconfig"])
    cluster = info["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.0.2.2:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"the authority"
    configuration = yaml.safe_load(found["ConfigMap kubeadm-config"]["data"]["ClusterConfiguration"])
    assert configuration["controlPlaneEndpoint"] == "10.0.2.2:6443"
    assert "certificatesDir" not in configuration  # else kubelets would look for the CA where only this machine has it


def test_kubelets_tell_quickly_how_they_are() -> None:
    """A Node that is ready, or is not any more, is known within seconds."""
    text = objects()["ConfigMap kubelet-config"]["data"]["kubelet"]
    wanted = {"nodeStatusUpdateFrequency": "2s", "cgroupDriver": "systemd", "failSwapOn": False}
    assert wanted.items() <= yaml.safe_load(text).items()


def test_everybody_reads_only_the_cluster_info() -> None:
    """The one right of a stranger is to get one ConfigMap; Nodes and who joins get two others."""
    found = objects()
    strangers = [name for name, one in found.items() if "system:anonymous" in str(one.get("subjects"))]
    assert strangers == ["RoleBinding kubeadm:bootstrap-signer-clusterinfo"]
    rights = [rule for one in found.values() for rule in one.get("rules", ())]
    assert {verb for rule in rights for verb in rule["verbs"]} == {"get"}
    assert all("secrets" not in rule["resources"] for rule in rights)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ConfigMap cluster-info", "/api/v1/namespaces/kube-public/configmaps/cluster-info"),
        ("ClusterRole kubeadm:get-nodes", "/apis/rbac.authorization.k8s.io/v1/clusterroles/kubeadm:get-nodes"),
    ],
)
def test_paths(name: str, path: str) -> None:
    """Objects are sent to where the API serves them."""
    assert path_of(objects()[name]) == path
