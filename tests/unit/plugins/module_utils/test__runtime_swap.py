# SPDX-License-Identifier: Apache-2.0
"""Swap is off, whoever turns it on, and nothing that is not swap is touched.

fstab is a table of texts, systemd a directory of units.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils import _runtime_swap as swap
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

ACTIVE = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 5\n"


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


def ensured(host: Machine) -> Ledger:
    """Return the ledger of one run."""
    ledger = Ledger(host, Memory(host))
    swap.ensure(ledger)
    return ledger


@pytest.mark.parametrize(
    ("line", "off"),
    [
        ("UUID=1 none swap sw 0 0\n", True),
        ("  /swap.img\tnone\tswap\tsw\t0\t0\n", True),
        ("/dev/swap none swap defaults", True),
        ("/dev/swapvg/data /swap ext4 defaults 0 2\n", False),
        ("# /dev/sda2 none swap sw 0 0\n", False),
        ("#UUID=1 none swap sw 0 0\n", False),
        ("tmpfs /var/swap tmpfs size=1g 0 0\n", False),
        ("swap\n", False),
        ("\n", False),
    ],
)
def test_fstab(line: str, *, off: bool) -> None:
    """Only entries whose third field is swap become comments, and all else stays as it is."""
    around = "UUID=2 / ext4 defaults 0 1\n"
    expected = swap.MARK + line.lstrip() if off else line
    assert swap.without_swap(around + line) == around + expected
    assert swap.without_swap(expected) == expected


def test_nothing_to_do(host: Machine) -> None:
    """A machine without swap is left alone, and so is one without fstab."""
    assert ensured(host).changes == []
    host.lack("/etc/fstab")
    assert ensured(host).changes == []
    assert host.ran == []


def test_swap_goes_off_now_and_later(host: Machine) -> None:
    """Active swap is turned off, its entry in fstab is a comment, and fstab keeps its permissions."""
    host.have("/proc/swaps", ACTIVE)
    host.have("/etc/fstab", "/dev/sda2 none swap sw 0 0\n").chmod(0o640)
    assert ensured(host).changes == ["/etc/fstab", "swap off"]
    assert host.commands() == ["swapoff -a"]
    assert (host.text("/etc/fstab"), host.mode("/etc/fstab")) == (f"{swap.MARK}/dev/sda2 none swap sw 0 0\n", 0o640)


def test_units_are_masked(host: Machine) -> None:
    """Units and services that turn swap on are masked, but not those that stand for fstab."""
    host.have("/run/systemd/generator.late/dev-sda2.swap", "[Swap]\nWhat=/dev/sda2\n")
    host.have("/run/systemd/generator/swap.img.swap", "[Unit]\nSourcePath=/etc/fstab\n")
    host.have("/etc/systemd/system/own.swap", "[Swap]\nWhat=/own\n")
    host.have("/usr/lib/systemd/system/zramswap.service")
    names = ["dev-sda2.swap", "own.swap", "zramswap.service"]
    assert ensured(host).changes == [f"{name} masked" for name in names]
    assert [str(host.path(f"/etc/systemd/system/{name}").readlink()) for name in names] == ["/dev/null"] * 3
    assert host.commands() == ["systemctl daemon-reload"]
    assert ensured(host).changes == []


def test_generator(host: Machine) -> None:
    """The generator of compressed swap gets an empty configuration."""
    host.have("/usr/lib/systemd/system-generators/zram-generator")
    assert ensured(host).changes == ["/etc/systemd/zram-generator.conf"]
    assert ensured(host).changes == []


def test_a_container_has_its_hosts_swap(host: Machine) -> None:
    """In a container nothing is done; swap of the host is warned of."""
    host.have("/run/systemd/container", "systemd-nspawn\n")
    host.have("/etc/fstab", "/dev/sda2 none swap sw 0 0\n")
    assert (ensured(host).changes, ensured(host).warnings) == ([], [])
    host.have("/proc/swaps", ACTIVE)
    ledger = ensured(host)
    assert (ledger.changes, len(ledger.warnings), host.ran) == ([], 1, [])


def test_a_unit_that_cannot_be_read(host: Machine) -> None:
    """A unit that is a dangling link is masked like any other."""
    host.have("/etc/systemd/system/x")
    host.path("/etc/systemd/system/gone.swap").symlink_to("/nowhere")
    assert swap.units_to_mask(host) == ["gone.swap"]
