# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubelet and kubeadm in the version that is asked for, from whichever source, and a kubelet that runs as it ought to.

PRIVATE to the collection. How a source works is the business of its own file.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.stargate.core.plugins.module_utils import _dpkg as dpkg
from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import Version
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

KUBELET = "/usr/bin/kubelet"
KUBECONFIG = "/etc/kubernetes/kubelet.conf"
ENABLED = "/etc/systemd/system/multi-user.target.wants/kubelet.service"


@dataclass(frozen=True)
class Wanted:
    """Which version, and where from."""

    version: Version
    source: str = "packages"  # | binaries | directory
    repository: str = ""
    repository_key: str = ""
    binaries_url: str = ""
    packages_dir: str = ""
    timeout: float = 600.0


def ensure(ledger: Ledger, wanted: Wanted) -> Version:
    """Have kubelet and kubeadm; returns the version with its patch."""
    if wanted.source == "binaries":
        return _from_binaries(ledger, wanted)
    from ansible_collections.stargate.core.plugins.module_utils import _runtime_kubernetes_packages as packages

    return packages.ensure(ledger, wanted)


def _from_binaries(ledger: Ledger, wanted: Wanted) -> Version:
    from ansible_collections.stargate.core.plugins.module_utils import _runtime_binaries as binaries

    host, memory, base = ledger.host, ledger.memory, wanted.binaries_url
    owned = dpkg.installed(host.text(dpkg.STATUS_FILE) or "", ("kubelet", "kubeadm"))
    if owned:
        names = " and ".join(sorted(owned))
        raise Invalid(
            f"Failed to install programs over packages: dpkg has {names}. "
            "Purge the packages, or take the version from packages too.",
            code="SourceConflict",
        )
    version = binaries.resolved(wanted.version, base)
    programs = binaries.outdated(memory, version, base)
    if programs:
        owe_restart(ledger, version)
        before = memory.version(KUBELET)
        ledger.do(step(before, version), lambda: binaries.install(memory, programs, version, timeout=wanted.timeout))
    ledger.file(files.KUBELET_UNIT_FILE, files.kubelet_unit(), owes=["kubelet", "reload"])
    ledger.file(files.KUBELET_DROPIN_FILE, files.kubelet_dropin(), owes=["kubelet", "reload"])
    return version


def step(before: Version | None, after: Version) -> str:
    """Return the text for a change of version."""
    return f"kubelet {before.tag if before else 'none'} -> {after.tag}"


def owe_restart(ledger: Ledger, version: Version) -> None:
    """Remember, before the kubelet is replaced, what a member of a cluster needs afterwards."""
    before = ledger.memory.version(KUBELET)
    if before and before.line != version.line and is_member(ledger.host):
        ledger.memory.owe("upgrade")
    ledger.memory.owe("kubelet")


def is_member(host: Host) -> bool:
    """Whether this machine belongs to a cluster."""
    return host.path(KUBECONFIG).exists()


def settle(ledger: Ledger, *, restart: bool) -> list[str]:
    """Have the kubelet run as it is now installed, or not at all outside a cluster; returns what is owed still."""
    host, memory = ledger.host, ledger.memory
    ledger.reload()
    if not is_member(host):
        if host.path(ENABLED).is_symlink():
            argv = ["systemctl", "disable", "--now", "kubelet"]
            ledger.do("kubelet disabled until the machine joins", lambda: host.must(argv, "disable the kubelet"))
        memory.paid("upgrade")
        memory.paid("kubelet")
        return []
    if not restart:
        return [name for name in memory.owed if name == "kubelet"]
    if "upgrade" in memory.owed:
        ledger.do("kubeadm upgrade node", lambda: _upgrade(host))
        memory.paid("upgrade")
    if "kubelet" in memory.owed:
        ledger.restart("kubelet")
    return []


def _upgrade(host: Host) -> None:
    """Bring the kubelet's configuration along to another minor version."""
    done = host.run(["kubeadm", "upgrade", "node"], timeout=300)
    if not done.ok:
        raise StargateError(
            f"Failed to upgrade the kubelet's configuration: {done.last_words or 'kubeadm upgrade node did not end'}.",
            code="UpgradeFailed",
            details=done.last_words,
            retryable=True,
        )
