# SPDX-License-Identifier: Apache-2.0
"""Kernel modules and sysctls: seen by their effect, set when they are wrong.

The kernel is a directory with files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils import _runtime_kernel as kernel
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

BRIDGE = "/proc/sys/net/bridge/bridge-nf-call-"


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


def ensured(host: Machine) -> list[str]:
    """Return what one run changes."""
    ledger = Ledger(host, Memory(host))
    kernel.ensure(ledger)
    return ledger.changes


def without_bridge(host: Machine) -> None:
    """Have a kernel whose module br_netfilter is not loaded."""
    host.lack(f"{BRIDGE}iptables")
    host.lack(f"{BRIDGE}ip6tables")
    host.path("/proc/sys/net/bridge").rmdir()


def test_files_for_the_next_boot(host: Machine) -> None:
    """On a kernel that has everything only the files are written, once."""
    assert ensured(host) == ["/etc/modules-load.d/stargate.conf", "/etc/sysctl.d/99-stargate.conf"]
    assert ensured(host) == []
    assert host.ran == []


def test_modules_are_loaded(host: Machine) -> None:
    """A module whose effect is not seen is loaded."""
    without_bridge(host)
    host.have("/proc/filesystems", "ext4\n")

    def modprobe(argv: Sequence[str], stdin: str) -> Done:
        del stdin
        if argv[1] == "overlay":
            host.have("/proc/filesystems", "nodev\toverlay\n")
        else:
            host.have(f"{BRIDGE}iptables", "0\n")
        return Done(0)

    host.answers["modprobe",] = modprobe
    changes = ensured(host)
    assert changes[1:3] == ["module overlay", "module br_netfilter"]
    assert "net.bridge.bridge-nf-call-iptables = 1" in changes
    assert host.text(f"{BRIDGE}iptables") == "1\n"


@pytest.mark.parametrize("container", [True, False])
def test_a_module_that_cannot_be_had(host: Machine, *, container: bool) -> None:
    """A module that stays away fails the task; in a container the host is named as the place to load it."""
    without_bridge(host)
    host.answers["modprobe",] = Done(1, err="modprobe: FATAL: Module br_netfilter not found\n")
    if container:
        host.have("/run/systemd/container", "systemd-nspawn\n")
    with pytest.raises(StargateError, match="br_netfilter: modprobe: FATAL") as caught:
        ensured(host)
    assert caught.value.code == "KernelModuleMissing"
    assert ("Load it on the host." in caught.value.message) is container


def test_sysctls_are_set(host: Machine) -> None:
    """A wrong value is set; the one for IPv6 may be missing, as the kernel may have none."""
    host.have("/proc/sys/net/ipv4/ip_forward", "0\n")
    host.lack(f"{BRIDGE}ip6tables")
    assert ensured(host)[2:] == ["net.ipv4.ip_forward = 1"]
    assert host.text("/proc/sys/net/ipv4/ip_forward") == "1\n"


def test_a_sysctl_that_cannot_be_set(host: Machine) -> None:
    """A value that the kernel does not take fails the task."""
    host.lack("/proc/sys/net/ipv4/ip_forward")
    host.path("/proc/sys/net/ipv4/ip_forward").mkdir()
    with pytest.raises(StargateError, match="Failed to set the sysctl net") as caught:
        kernel._set(host, "net.ipv4.ip_forward", "1")
    assert caught.value.code == "SysctlRefused"
