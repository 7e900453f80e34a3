# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages a worker needs beside the kubelet's: containerd, and programs without which nothing runs.

PRIVATE to the collection. How packages are installed is the business of _apt, which is imported only for that.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.stargate.core.plugins.module_utils import _dpkg as dpkg
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

CONTAINERD = "/usr/bin/containerd"
PROGRAMS = {"conntrack": "conntrack", "iptables": "iptables"}  # program -> package; kubeadm refuses without them
PLUGINS = ("bridge", "host-local", "portmap")
PLUGINS_PACKAGE = "containernetworking-plugins"
PLUGINS_DIR = "/usr/lib/cni"  # where that package has them
USUAL_PLUGINS_DIR = "/opt/cni/bin"


@dataclass(frozen=True)
class Wanted:
    """What decides on the packages."""

    runtime: str = "distribution"  # | vendor | installed
    repository: str = ""
    key: str = ""
    cni: str = "none"
    cni_bin_dir: str = ""
    timeout: float = 600.0


def ensure(ledger: Ledger, wanted: Wanted) -> str:
    """Have the packages; returns where the CNI plug-ins are."""
    host = ledger.host
    missing = missing_packages(host, wanted)
    vendors = "containerd.io" in missing
    if missing:
        ledger.do("packages " + ", ".join(missing), lambda: _install(ledger, wanted, missing, vendors=vendors))
    if wanted.runtime == "installed" and not host.path(CONTAINERD).exists():
        raise Invalid(
            f"Failed to find containerd: {CONTAINERD} is missing. Install it or set container_runtime to distribution.",
            code="ContainerdMissing",
        )
    return wanted.cni_bin_dir or default_plugins_dir(host, wanted.cni)


def missing_packages(host: Host, wanted: Wanted) -> list[str]:
    """Return the packages that are to be installed."""
    names = [package for program, package in PROGRAMS.items() if not host.program(program)]
    names += _missing_plugins(host, wanted)
    present = dpkg.installed(host.text(dpkg.STATUS_FILE) or "", ("containerd", "containerd.io"))
    by_hand = host.path(CONTAINERD).exists() and not present
    if wanted.runtime == "vendor" and "containerd.io" not in present:
        names.append("containerd.io")
    if wanted.runtime == "distribution" and "containerd" not in present and not by_hand:
        names.append("containerd")
    return names


def default_plugins_dir(host: Host, cni: str) -> str:
    """Return where the CNI plug-ins are when nobody has said so.

    A DaemonSet such as Flannel's puts its own into the usual place, so that is the one unless the bridge is ours.
    """
    return PLUGINS_DIR if cni == "bridge" and _has_plugins(host, PLUGINS_DIR) else USUAL_PLUGINS_DIR


def _missing_plugins(host: Host, wanted: Wanted) -> list[str]:
    if wanted.cni != "bridge":
        return []
    places = [wanted.cni_bin_dir] if wanted.cni_bin_dir else [PLUGINS_DIR, USUAL_PLUGINS_DIR]
    if any(_has_plugins(host, place) for place in places):
        return []
    if PLUGINS_DIR in places and wanted.runtime != "installed":
        return [PLUGINS_PACKAGE]
    raise Invalid(
        f"Failed to find the CNI plug-ins {', '.join(PLUGINS)}: {' and '.join(places)} lack them. "
        f"Install the package {PLUGINS_PACKAGE}, or set cni_bin_dir.",
        code="CniPluginsMissing",
    )


def _has_plugins(host: Host, place: str) -> bool:
    return all(host.path(f"{place}/{name}").exists() for name in PLUGINS)


def _install(ledger: Ledger, wanted: Wanted, names: list[str], *, vendors: bool) -> None:
    from ansible_collections.stargate.core.plugins.module_utils import _apt as apt

    if vendors:
        family, codename = distribution(ledger.host)
        uri = f"{wanted.repository}/{family}"
        source = apt.Source("stargate-containerd", uri, codename, wanted.key or f"{uri}/gpg")
        apt.ensure_source(ledger, source)
        apt.refresh(ledger.host, source, wanted.timeout)
    apt.install(ledger.host, names, timeout=wanted.timeout)


def distribution(host: Host) -> tuple[str, str]:
    """Return the distribution whose packages this machine takes, and the code name of its release."""
    lines = (host.text("/etc/os-release") or "").splitlines()
    fields = {key: value.strip("\"'") for key, __, value in (line.partition("=") for line in lines)}
    family = "ubuntu" if "ubuntu" in f"{fields.get('ID')} {fields.get('ID_LIKE')}" else "debian"
    codename = fields.get("UBUNTU_CODENAME") or fields.get("VERSION_CODENAME") or ""
    if not codename:
        raise Invalid("Failed to choose the vendor's packages: /etc/os-release has no VERSION_CODENAME.")
    return family, codename
