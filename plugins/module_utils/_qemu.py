# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's words: the command for a machine, the one for its disk, and what its complaints mean; pure.

PRIVATE to the collection. A machine's files are named relative to its directory, in which QEMU is started: so neither
the length nor the characters of its path matter. Starting it is `_qemu_host.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, clipped
from ansible_collections.stargate.core.plugins.module_utils._image_file import Disk
from ansible_collections.stargate.core.plugins.module_utils._lease import FIRST_WORKER
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition

PROGRAM = "qemu-system-x86_64"
DISK, SEED, CONSOLE, LOG, CONTROL = "disk.qcow2", "seed.iso", "console.log", "qemu.log", "qmp.sock"
KERNEL, INITRD = "kernel", "initrd"
SLOTS = 16
"""How many workers a router has room for when the site's network is inside its process."""
CMDLINE = "root=/dev/vda rw console=ttyS0"
_GIB = 1 << 30
_ACCELERATORS = {"kvm": ("kvm", "host"), "tcg": ("tcg,thread=multi,tb-size=256", "max")}
_COMPLAINTS = (  # a part of what QEMU says, the code, what to do
    ("Could not set up host forwarding rule", "PortTaken", "Another program listens on the machine's port"),
    ("could not configure /dev/net/tun", "TapTaken", "Another program uses the machine's tap device"),
    ('Failed to get "write" lock', "DiskInUse", "Another program uses the machine's disk"),
    ("annot allocate memory", "MemoryShort", "Give the machine less memory, or stop another one"),
    ("cannot set up guest memory", "MemoryShort", "Give the machine less memory, or stop another one"),
    ("No space left on device", "DiskFull", "Make room on the disk of machines_dir"),
)


@dataclass(frozen=True)
class Setting:
    """What the host adds to a definition: how it computes, and what the site's network is.

    `lan` is vde (a switch), hub (inside the router's process) or tap (a bridge).
    """

    accel: str = "tcg"
    lan: str = "vde"
    disk_cache: str = "writeback"


def command(definition: Definition, setting: Setting) -> list[str]:
    """Return the command that runs a machine."""
    accelerator, cpu = _ACCELERATORS[setting.accel]
    disk = f"file={DISK},format=qcow2,if=virtio,discard=unmap,cache={setting.disk_cache}"
    return [
        *(PROGRAM, "-name", f"stargate-{definition.namespace}-{definition.name}"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35", "-accel", accelerator, "-cpu", cpu),
        *("-smp", str(definition.cpus), "-m", f"{definition.memory}M"),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={CONSOLE},append=on", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=control,path={CONTROL},server=on,wait=off", "-mon", "chardev=control,mode=control"),
        *("-drive", disk, "-drive", f"file={SEED},format=raw,if=virtio,readonly=on"),
        *_kernel(definition),
        *network(definition, setting.lan),
    ]


def network(definition: Definition, lan: str) -> list[str]:
    """Return the arguments for the machine's network cards; one with a wan_mac has a way out of its own."""
    wan: list[str] = []
    if definition.wan_mac:
        forward = f"hostfwd=tcp:127.0.0.1:{definition.port}-:22"
        wan = ["-netdev", f"user,id=wan,ipv6=off,{forward}", "-device", _card("wan", definition.wan_mac)]
    backend = {"vde": _switched, "hub": _wired, "tap": _tapped}[lan](definition)
    return [*wan, *backend, "-device", _card("lan", definition.mac)]


def slot(definition: Definition) -> int:
    """Return a worker's place on the hub inside its router, which follows from its address."""
    address = ip_address(definition.address)
    place = int(address) - int(ip_network(definition.cidr).network_address) - FIRST_WORKER
    if not 0 <= place < SLOTS:
        raise Invalid(
            f"Failed to connect machine {definition.key}: without vde_switch a site has room for {SLOTS} workers. "
            "On Debian: apt-get install vde2.",
            code="ProgramMissing",
        )
    return place


def overlay(base: str, disk: Disk, definition: Definition, *, target: str) -> list[str]:
    """Return the command for a fresh disk on top of an image; raises Invalid when the image is larger."""
    size = definition.disk * _GIB
    if size < disk.size:
        least = -(-disk.size // _GIB)
        raise Invalid(
            f"Failed to make the disk of machine {definition.key}: its image needs {least} GiB and disk is "
            f"{definition.disk}. Set disk to {least} or more.",
            code="DiskTooSmall",
        )
    return ["qemu-img", "create", "-q", "-f", "qcow2", "-F", disk.format, "-b", base, target, str(size)]


def complaint(definition: Definition, log: str) -> StargateError:
    """Return the error for a QEMU that has ended, by what it said last."""
    lines = [line for line in log.splitlines() if "warning:" not in line and line.strip()]
    last = clipped(lines[-1].removeprefix(f"{PROGRAM}: ") if lines else "it said nothing")
    code, advice = "QemuFailed", f"See {LOG} in the machine's directory"
    for part, known, remedy in _COMPLAINTS:
        if part in log:
            code, advice = known, remedy
            break
    return StargateError(
        f"Failed to start machine {definition.key}: {last}. {advice}.",
        code=code,
        details=" ".join(lines[-4:]),
        retryable=code in ("PortTaken", "TapTaken", "DiskInUse", "MemoryShort"),
    )


def _kernel(definition: Definition) -> list[str]:
    if not definition.kernel:
        return []
    initrd = ["-initrd", INITRD] if definition.initrd else []
    return ["-kernel", KERNEL, *initrd, "-append", definition.cmdline or CMDLINE]


def _card(name: str, mac: str) -> str:
    """Return a network card; without the ROM that would look for something to boot from."""
    return f"virtio-net-pci,netdev={name},mac={mac},romfile="


def _switched(definition: Definition) -> list[str]:
    return ["-netdev", f"vde,id=lan,sock=../{definition.site}.site/lan"]


def _wired(definition: Definition) -> list[str]:
    """Return a cable to the router, or the router's end of all cables."""
    cable = f"addr.type=unix,addr.path=../{definition.site}.site/lan-"
    if definition.role != "router":
        return ["-netdev", f"stream,id=lan,server=off,{cable}{slot(definition)}.sock"]
    ends = ["-netdev", "hubport,id=lan,hubid=0"]
    for place in range(SLOTS):
        ends += ["-netdev", f"stream,id=cable{place},server=on,{cable}{place}.sock"]
        ends += ["-netdev", f"hubport,id=port{place},hubid=0,netdev=cable{place}"]
    return ends


def _tapped(definition: Definition) -> list[str]:
    return ["-netdev", f"tap,id=lan,ifname={definition.tap},script=no,downscript=no"]
