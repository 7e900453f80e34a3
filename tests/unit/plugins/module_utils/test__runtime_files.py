# SPDX-License-Identifier: Apache-2.0
"""What the runtime's files hold: every key that somebody else reads.

containerd's file is parsed as containerd would parse it.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._version import Version, asked


def config(version: Version, **settings: Any) -> dict[str, Any]:
    """Return containerd's configuration, parsed."""
    return tomllib.loads(files.containerd_config(files.Containerd(version, **settings)))


def test_containerd_one() -> None:
    """containerd 1.x gets the second version of the format."""
    parsed = config(Version(1, 6, 20), sandbox_image="localhost/pause:1", cni_bin_dir="/usr/lib/cni")
    cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]
    assert parsed["version"] == 2
    assert cri["sandbox_image"] == "localhost/pause:1"
    assert cri["restrict_oom_score_adj"] is False
    assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"}
    assert cri["registry"] == {"config_path": "/etc/containerd/certs.d"}
    assert cri["containerd"]["runtimes"]["runc"]["runtime_type"] == "io.containerd.runc.v2"
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}


@pytest.mark.parametrize(
    ("version", "plugins"),
    [(Version(2, 0, 5), {"bin_dir": "/opt/cni/bin"}), (Version(2, 1, 0), {"bin_dirs": ["/opt/cni/bin"]})],
)
def test_containerd_two(version: Version, plugins: dict[str, Any]) -> None:
    """containerd 2.x gets the third version, in which the one plug-in is two."""
    parsed = config(version, sandbox_image="pause:1", restrict_oom_score_adj=True, cgroup_driver="cgroupfs")
    images, runtime = (parsed["plugins"][f"io.containerd.cri.v1.{half}"] for half in ("images", "runtime"))
    assert parsed["version"] == 3
    assert images["pinned_images"] == {"sandbox": "pause:1"}
    assert images["registry"] == {"config_path": "/etc/containerd/certs.d"}
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"] == {**plugins, "conf_dir": "/etc/cni/net.d"}
    assert runtime["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": False}


@pytest.mark.parametrize("version", [Version(1, 7), Version(2, 0)])
def test_no_sandbox_image(version: Version) -> None:
    """Without an image of ours, containerd keeps its own."""
    assert "sandbox" not in files.containerd_config(files.Containerd(version))


@pytest.mark.parametrize(
    ("kubelet", "containerd", "arguments"),
    [
        ("1.20.2", Version(1, 6), ["--cgroup-driver=systemd"]),
        ("1.33.0", Version(2, 0), ["--cgroup-driver=systemd"]),
        ("1.34.0", Version(1, 7), ["--cgroup-driver=systemd"]),
        ("1.34.0", None, ["--cgroup-driver=systemd"]),
        ("1.34.0", Version(2, 0), []),
    ],
)
def test_kubelet_arguments(kubelet: str, containerd: Version | None, arguments: list[str]) -> None:
    """The kubelet is told of control groups unless it asks a containerd that can answer."""
    assert files.kubelet_arguments("systemd", asked(kubelet), containerd) == arguments


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], 'KUBELET_EXTRA_ARGS=""'),
        (["--a=b", "--c"], 'KUBELET_EXTRA_ARGS="--a=b --c"'),
        (["--a=b c"], "KUBELET_EXTRA_ARGS=\"'--a=b c'\""),
    ],
)
def test_kubelet_defaults(arguments: list[str], line: str) -> None:
    """Arguments stand in one variable, which systemd splits."""
    assert files.kubelet_defaults(arguments) == f"{files.NOTE}{line}\n"


def test_kubelet_unit() -> None:
    """The kubelet starts with what kubeadm writes, and comes back when it ends."""
    assert "\nRestart=always\n" in files.kubelet_unit()
    dropin = files.kubelet_dropin()
    assert "EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\n" in dropin
    assert dropin.endswith(
        "ExecStart=\nExecStart=/usr/bin/kubelet "
        "$KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"
    )
    assert "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=" in dropin


def test_conflist() -> None:
    """The bridge gives addresses of the machine's own network."""
    bridge, portmap = json.loads(files.conflist("10.244.7.0/24"))["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.7.0/24"}]]
    assert portmap == {"type": "portmap", "capabilities": {"portMappings": True}}


@pytest.mark.parametrize(
    ("suite", "middle"), [("/", "Suites: /\n"), ("bookworm", "Suites: bookworm\nComponents: stable\n")]
)
def test_apt_source(suite: str, middle: str) -> None:
    """A source names its own key; a flat repository has no component."""
    text = files.apt_source("https://mirror/deb/", suite, "stable", "/etc/apt/keyrings/x.asc")
    assert text.endswith(f"Types: deb\nURIs: https://mirror/deb/\n{middle}Signed-By: /etc/apt/keyrings/x.asc\n")


def test_kernel() -> None:
    """Modules are a line each, sysctls a setting each."""
    assert files.modules_load() == f"{files.NOTE}overlay\nbr_netfilter\n"
    assert files.sysctls({"a.b": "1"}) == f"{files.NOTE}a.b = 1\n"
