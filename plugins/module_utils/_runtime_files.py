# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the files that make a machine able to run pods.

PRIVATE to the collection. Pure: from settings to text; who writes it, and when, is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.stargate.core.plugins.module_utils._version import Version

NOTE = "# Written by Ansible (stargate.core.node_runtime); changes here are overwritten.\n"

MODULES_FILE = "/etc/modules-load.d/stargate.conf"
SYSCTL_FILE = "/etc/sysctl.d/99-stargate.conf"
CONTAINERD_FILE = "/etc/containerd/config.toml"
KUBELET_UNIT_FILE = "/etc/systemd/system/kubelet.service"
KUBELET_DROPIN_FILE = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
KUBELET_DEFAULTS_FILE = "/etc/default/kubelet"
CONFLIST_FILE = "/etc/cni/net.d/10-stargate.conflist"

MODULES = ("overlay", "br_netfilter")
SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}

_UNIT = """\
[Unit]
Description=The node agent of Kubernetes
Documentation=https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/
Wants=network-online.target
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
ExecStartPre=/bin/mkdir -p /etc/kubernetes/manifests
ExecStart=/usr/bin/kubelet
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""

# The names of the variables and of the two environment files are kubeadm's contract with whoever starts the kubelet.
_DROPIN = """\
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""


@dataclass(frozen=True)
class Containerd:
    """What containerd's configuration depends on."""

    version: Version
    sandbox_image: str = ""
    cgroup_driver: str = "systemd"
    restrict_oom_score_adj: bool = False
    cni_bin_dir: str = "/opt/cni/bin"


def modules_load() -> str:
    """Return the file that has the kernel modules loaded at boot."""
    return NOTE + "".join(f"{name}\n" for name in MODULES)


def sysctls(settings: Mapping[str, str]) -> str:
    """Return the file that has the sysctls set at boot."""
    return NOTE + "".join(f"{name} = {value}\n" for name, value in settings.items())


def containerd_config(wanted: Containerd) -> str:
    """Return containerd's configuration, in the version of the format that this containerd speaks by itself."""
    tables = _tables_of_two(wanted) if wanted.version.major >= 2 else _tables_of_one(wanted)
    blocks = [f"version = {3 if wanted.version.major >= 2 else 2}\n"]
    for name, settings in tables.items():
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        blocks += [f"[plugins.{name}]\n" + "".join(lines)] if lines else []
    return NOTE + "\n".join(blocks)


def _tables_of_one(wanted: Containerd) -> dict[str, dict[str, object]]:
    cri = '"io.containerd.grpc.v1.cri"'
    image: dict[str, object] = {"sandbox_image": wanted.sandbox_image} if wanted.sandbox_image else {}
    return {
        cri: {**image, "restrict_oom_score_adj": wanted.restrict_oom_score_adj},
        f"{cri}.cni": {"bin_dir": wanted.cni_bin_dir, "conf_dir": "/etc/cni/net.d"},
        f"{cri}.registry": {"config_path": "/etc/containerd/certs.d"},
        **_runc(f"{cri}.containerd", wanted),
    }


def _tables_of_two(wanted: Containerd) -> dict[str, dict[str, object]]:
    images, runtime = '"io.containerd.cri.v1.images"', '"io.containerd.cri.v1.runtime"'
    several = wanted.version.line >= (2, 1)  # 2.1 has bin_dirs, and 2.3 does not know bin_dir any more
    plugins: dict[str, object] = {"bin_dirs": [wanted.cni_bin_dir]} if several else {"bin_dir": wanted.cni_bin_dir}
    return {
        f"{images}.pinned_images": {"sandbox": wanted.sandbox_image} if wanted.sandbox_image else {},
        f"{images}.registry": {"config_path": "/etc/containerd/certs.d"},
        runtime: {"restrict_oom_score_adj": wanted.restrict_oom_score_adj},
        f"{runtime}.cni": {**plugins, "conf_dir": "/etc/cni/net.d"},
        **_runc(f"{runtime}.containerd", wanted),
    }


def _runc(table: str, wanted: Containerd) -> dict[str, dict[str, object]]:
    return {
        f"{table}.runtimes.runc": {"runtime_type": "io.containerd.runc.v2"},
        f"{table}.runtimes.runc.options": {"SystemdCgroup": wanted.cgroup_driver == "systemd"},
    }


def kubelet_unit() -> str:
    """Return the kubelet's unit, for programs that come without one."""
    return NOTE + _UNIT


def kubelet_dropin() -> str:
    """Return what kubeadm needs of the kubelet's unit."""
    return NOTE + _DROPIN


def kubelet_arguments(driver: str, kubelet: Version, containerd: Version | None) -> list[str]:
    """Return the arguments that make the kubelet agree with containerd about control groups.

    From Kubernetes 1.34 and containerd 2.0 on the kubelet asks containerd, and the argument is on its way out.
    """
    asks = kubelet.line >= (1, 34) and containerd is not None and containerd.major >= 2
    return [] if asks else [f"--cgroup-driver={driver}"]


def kubelet_defaults(arguments: Iterable[str]) -> str:
    """Return the file with the kubelet's own arguments, of which none has quotes or backslashes.

    systemd splits the value at blanks, except between single quotes.
    """
    words = (f"'{argument}'" if " " in argument else argument for argument in arguments)
    return NOTE + f'KUBELET_EXTRA_ARGS="{" ".join(words)}"\n'


def conflist(pod_cidr: str) -> str:
    """Return a pod network that needs nothing but this machine: a bridge with addresses of its own."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "promiscMode": False,
        "ipam": ipam,
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "stargate", "plugins": plugins}, indent=2) + "\n"


def apt_source(uri: str, suite: str, component: str, keyring: str) -> str:
    """Return a source of packages in APT's newer format; a suite that ends in a slash has no component."""
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {suite}"]
    lines += [] if suite.endswith("/") else [f"Components: {component}"]
    return NOTE + "\n".join([*lines, f"Signed-By: {keyring}"]) + "\n"
