# SPDX-License-Identifier: Apache-2.0
"""QEMU's commands and complaints: tables of input and answer.

That QEMU takes the commands is test__qemu_host.py's and, for a whole boot, tests/integration/test_qemu.py's.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._image_file import Disk
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition
from ansible_collections.stargate.core.plugins.module_utils._qemu import (
    SLOTS,
    Setting,
    command,
    complaint,
    network,
    overlay,
    slot,
)

ROUTER = Definition(
    *("r1", "dc", "r1", "qemu", "router"), mac="52:54:00:00:00:01", wan_mac="52:54:00:00:00:02", port=20001
)
WORKER = Definition(*("w1", "dc", "r1", "qemu", "worker"), mac="52:54:00:00:00:03", address="192.168.100.12")


def after(command: list[str], flag: str) -> list[str]:
    """Return what stands after each occurrence of a flag."""
    return [command[place + 1] for place, word in enumerate(command) if word == flag]


def test_a_worker_on_a_switch() -> None:
    """A worker has one card, its own processors and memory, and its disk before its seed."""
    argv = command(replace(WORKER, cpus=4, memory=4096), Setting())
    assert argv[:3] == ["qemu-system-x86_64", "-name", "stargate-dc-w1"]
    assert (after(argv, "-smp"), after(argv, "-m")) == (["4"], ["4096M"])
    assert after(argv, "-netdev") == ["vde,id=lan,sock=../r1.site/lan"]
    assert after(argv, "-drive") == [
        "file=disk.qcow2,format=qcow2,if=virtio,discard=unmap,cache=writeback",
        "file=seed.iso,format=raw,if=virtio,readonly=on",
    ]
    assert "-kernel" not in argv


def test_a_router_has_a_way_out() -> None:
    """The router's second card forwards a port of the host's loopback, and nothing else, to its SSH server."""
    arguments = network(ROUTER, "vde")
    assert after(arguments, "-netdev")[0] == "user,id=wan,ipv6=off,hostfwd=tcp:127.0.0.1:20001-:22"
    cards = after(arguments, "-device")
    assert cards == [
        "virtio-net-pci,netdev=wan,mac=52:54:00:00:00:02,romfile=",
        "virtio-net-pci,netdev=lan,mac=52:54:00:00:00:01,romfile=",
    ]


@pytest.mark.parametrize(("accel", "cpu"), [("tcg", "max"), ("kvm", "host")])
def test_accelerators(accel: str, cpu: str) -> None:
    """Each accelerator has its own model of a processor."""
    argv = command(WORKER, Setting(accel=accel, disk_cache="unsafe"))
    assert after(argv, "-accel")[0].split(",")[0] == accel
    assert after(argv, "-cpu") == [cpu]
    assert after(argv, "-drive")[0].endswith("cache=unsafe")


@pytest.mark.parametrize(
    ("cmdline", "initrd", "appended"),
    [("", "/i", "root=/dev/vda rw console=ttyS0"), ("root=/dev/vda1", "", "root=/dev/vda1")],
)
def test_direct_boot(cmdline: str, initrd: str, appended: str) -> None:
    """A kernel of its own comes with its initial RAM disk, if any, and a command line that ends at the console."""
    argv = command(replace(WORKER, kernel="/k", initrd=initrd, cmdline=cmdline), Setting())
    assert (after(argv, "-kernel"), after(argv, "-append")) == (["kernel"], [appended])
    assert after(argv, "-initrd") == ["initrd"] * bool(initrd)


def test_cables_without_a_switch() -> None:
    """The router's process is the hub, with an end for each worker; a worker's end follows from its address."""
    ends = [end for end in after(network(ROUTER, "hub"), "-netdev") if end.startswith("stream")]
    assert len(ends) == SLOTS
    path = "addr.type=unix,addr.path=../r1.site/lan-1.sock"
    assert ends[1] == f"stream,id=cable1,server=on,{path}"
    assert after(network(WORKER, "hub"), "-netdev") == [f"stream,id=lan,server=off,{path}"]


def test_the_hub_is_full() -> None:
    """A worker for which the hub has no room is refused with what would help."""
    assert slot(replace(WORKER, address="192.168.100.26")) == 15
    with pytest.raises(Invalid, match="vde2") as caught:
        slot(replace(WORKER, address="192.168.100.27"))
    assert caught.value.code == "ProgramMissing"


def test_a_tap() -> None:
    """On a bridge the machine has its leased tap and no way out of its own."""
    arguments = network(replace(WORKER, tap="sg0123456789"), "tap")
    assert after(arguments, "-netdev") == ["tap,id=lan,ifname=sg0123456789,script=no,downscript=no"]


def test_disks() -> None:
    """A disk is as large as asked for, and never smaller than its image."""
    argv = overlay("/b", Disk("raw", 3 << 30), replace(WORKER, disk=3), target="/t")
    assert argv[-6:] == ["-F", "raw", "-b", "/b", "/t", str(3 << 30)]
    with pytest.raises(Invalid, match="Set disk to 4") as caught:
        overlay("/b", Disk("qcow2", (3 << 30) + 1), replace(WORKER, disk=3), target="/t")
    assert caught.value.code == "DiskTooSmall"


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("qemu-system-x86_64: -netdev user,..: Could not set up host forwarding rule 'tcp:..'", "PortTaken"),
        ("qemu-system-x86_64: could not configure /dev/net/tun (sg1): Device or resource busy", "TapTaken"),
        ('qemu-system-x86_64: Failed to get "write" lock\nIs another process using the image?', "DiskInUse"),
        ("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory", "MemoryShort"),
        ("qemu-system-x86_64: warning: something\n", "QemuFailed"),
        ("", "QemuFailed"),
    ],
)
def test_complaints(log: str, code: str) -> None:
    """What QEMU said last is in the sentence, and a code says what it means."""
    error = complaint(WORKER, log)
    assert error.code == code
    assert error.message.startswith("Failed to start machine dc/w1: ")
    assert "warning" not in error.message
