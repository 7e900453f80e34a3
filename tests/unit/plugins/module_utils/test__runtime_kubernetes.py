# SPDX-License-Identifier: Apache-2.0
"""What follows from a change of the kubelet: upgrade of its configuration, restart, or nothing outside a cluster.

The members of a cluster are machines with a kubelet.conf.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plugins.worker_world import Machine, machine, tree

from ansible_collections.stargate.core.plugins.module_utils import _runtime_kubernetes as kubernetes
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import asked
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


def changed(host: Machine, base: str, version: str, *, restart: bool = True, check: bool = False) -> Ledger:
    """Return the ledger of one run from a tree of programs."""
    ledger = Ledger(host, Memory(host, read_only=check), check_mode=check)
    kubernetes.ensure(ledger, kubernetes.Wanted(asked(version), "binaries", binaries_url=base))
    kubernetes.settle(ledger, restart=restart)
    return ledger


def join(host: Machine) -> None:
    """Make the machine a member of a cluster."""
    host.have(kubernetes.KUBECONFIG)
    host.have("/etc/systemd/system/multi-user.target.wants/x")
    host.path(kubernetes.ENABLED).symlink_to("/etc/systemd/system/kubelet.service")


def test_outside_a_cluster(host: Machine, tmp_path: Path) -> None:
    """A machine of no cluster gets programs and units; nothing is restarted, and a second run changes nothing."""
    base = tree(tmp_path, "v1.20.2")
    first = changed(host, base, "1.20")
    assert first.changes == [
        "kubelet none -> v1.20.2",
        "/etc/systemd/system/kubelet.service",
        "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
    ]
    assert (first.restarted, host.commands()) == ([], ["systemctl daemon-reload"])
    assert Memory(host).owed == []
    again = changed(host, base, "1.20")
    assert (again.changes, len(host.commands())) == ([], 1)


def test_enabled_outside_a_cluster(host: Machine, tmp_path: Path) -> None:
    """A kubelet that is enabled and has no cluster would only fail again and again."""
    base = tree(tmp_path, "v1.20.2")
    changed(host, base, "1.20")
    join(host)
    host.lack(kubernetes.KUBECONFIG)
    assert changed(host, base, "1.20").changes == ["kubelet disabled until the machine joins"]
    assert host.commands()[-1] == "systemctl disable --now kubelet"


@pytest.mark.parametrize(
    ("before", "after", "commands"),
    [
        ("1.20.2", "1.20.3", ["systemctl restart kubelet"]),
        ("1.20.3", "1.20.2", ["systemctl restart kubelet"]),
        ("1.20.3", "1.21.0", ["kubeadm upgrade node", "systemctl restart kubelet"]),
        ("1.21.0", "1.20.3", ["kubeadm upgrade node", "systemctl restart kubelet"]),
    ],
)
def test_a_member_changes_its_version(
    host: Machine, tmp_path: Path, before: str, after: str, commands: list[str]
) -> None:
    """A member's kubelet goes up or down at once, with its configuration when the minor version changes."""
    base = tree(tmp_path, "v1.20.2", "v1.20.3", "v1.21.0")
    changed(host, base, before)
    join(host)
    done = changed(host, base, after)
    assert done.changes[0] == f"kubelet v{before} -> v{after}"
    assert (host.commands()[1:], done.restarted) == (commands, ["kubelet"])
    assert changed(host, base, after).restarted == []


def test_a_restart_that_is_left_to_others(host: Machine, tmp_path: Path) -> None:
    """Without a restart it stays owed, and a later run pays it."""
    base = tree(tmp_path, "v1.20.2", "v1.21.0")
    changed(host, base, "1.20.2")
    join(host)
    ledger = changed(host, base, "1.21.0", restart=False)
    assert (ledger.restarted, Memory(host).owed) == ([], ["upgrade", "kubelet"])
    assert kubernetes.settle(ledger, restart=False) == ["kubelet"]
    assert changed(host, base, "1.21.0").restarted == ["kubelet"]


def test_check_mode(host: Machine, tmp_path: Path) -> None:
    """Check mode foretells programs, units and restart, and does none of them."""
    base = tree(tmp_path, "v1.20.2", "v1.21.0")
    changed(host, base, "1.20.2")
    join(host)
    ran, written = len(host.commands()), len(host.written)
    foretold = changed(host, base, "1.21", check=True)
    assert foretold.changes == ["kubelet v1.20.2 -> v1.21.0", "kubeadm upgrade node"]
    assert foretold.restarted == ["kubelet"]
    assert (len(host.commands()), len(host.written)) == (ran, written)


def test_an_upgrade_that_fails(host: Machine, tmp_path: Path) -> None:
    """When the configuration cannot be brought along the kubelet is not restarted, and the next run tries again."""
    base = tree(tmp_path, "v1.20.2", "v1.21.0")
    changed(host, base, "1.20.2")
    join(host)
    host.answers["kubeadm", "upgrade", "node"] = Done(1, err="error: no answer from the API server\n")
    with pytest.raises(StargateError, match="no answer from the API server") as caught:
        changed(host, base, "1.21.0")
    assert (caught.value.code, caught.value.retryable) == ("UpgradeFailed", True)
    assert Memory(host).owed == ["upgrade", "kubelet"]
    del host.answers["kubeadm", "upgrade", "node"]
    assert changed(host, base, "1.21.0").changes == ["kubeadm upgrade node"]


def test_packages_are_not_overwritten(host: Machine, tmp_path: Path) -> None:
    """Programs are not put in the place of packages."""
    host.have("/var/lib/dpkg/status", "Package: kubelet\nStatus: hold ok installed\nVersion: 1.20.2-1.1\n")
    with pytest.raises(StargateError, match="dpkg has kubelet") as caught:
        changed(host, tree(tmp_path, "v1.20.2"), "1.20.2")
    assert caught.value.code == "SourceConflict"
