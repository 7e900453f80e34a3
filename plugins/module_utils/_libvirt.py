# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine and its network as libvirt describes them, from the same definition as QEMU's own command; pure.

PRIVATE to the collection. Disk, seed and leases are made by `qemu_vm`; defining and starting is community.libvirt's
work in the role `machine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Network
from typing import Any
from xml.etree import ElementTree

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._lease import HOST, digest
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition
from ansible_collections.stargate.core.plugins.module_utils._qemu import CMDLINE, CONSOLE, DISK, INITRD, KERNEL, SEED

_CPU = {"kvm": ("kvm", "host-passthrough"), "tcg": ("qemu", "maximum")}


def definition(content: Mapping[str, Any]) -> Definition:
    """Return the definition in a machine.json; raises Invalid for one that libvirt cannot carry out."""
    known = {item.name for item in fields(Definition)}
    try:
        found = Definition(**{key: value for key, value in content.items() if key in known})
    except TypeError as error:
        raise Invalid(f"Failed to describe a machine to libvirt: {error}.", code="DefinitionBroken") from error
    if found.network != "bridge" or found.netns:
        raise Invalid(
            f"Failed to describe machine {found.key} to libvirt: its network is {found.network}"
            f"{' in a namespace' if found.netns else ''}. Set network to bridge, without netns.",
            code="NetworkUnsupported",
        )
    return found


def domain_name(machine: Definition) -> str:
    """Return a machine's name among all that libvirt has."""
    return f"stargate-{machine.namespace}-{machine.name}"


def domain(machine: Definition, directory: str, *, accel: str, disk_cache: str = "writeback") -> str:
    """Return the domain of a machine whose files are in a directory; `accel` is kvm or tcg."""
    kind, cpu = _CPU.get(accel, _CPU["tcg"])
    root = ElementTree.Element("domain", type=kind)
    _text(root, "name", domain_name(machine))
    _text(root, "uuid", _uuid(machine.key, directory))
    _text(root, "memory", str(machine.memory), unit="MiB")
    _text(root, "vcpu", str(machine.cpus))
    _boot(root, machine, directory)
    ElementTree.SubElement(ElementTree.SubElement(root, "features"), "acpi")
    ElementTree.SubElement(root, "cpu", mode=cpu)
    for event, act in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(root, event, act)
    devices = ElementTree.SubElement(root, "devices")
    _disk(devices, f"{directory}/{DISK}", "vda", {"type": "qcow2", "cache": disk_cache, "discard": "unmap"})
    _disk(devices, f"{directory}/{SEED}", "vdb", {"type": "raw"})
    _card(devices, machine)
    rng = ElementTree.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    serial = ElementTree.SubElement(devices, "serial", type="file")
    ElementTree.SubElement(serial, "source", path=f"{directory}/{CONSOLE}", append="on")
    return _written(root)


def network(machine: Definition) -> str:
    """Return the network on which a machine is: a bridge with NAT, without DHCP as machines know their addresses."""
    cidr = IPv4Network(machine.cidr)
    root = ElementTree.Element("network")
    _text(root, "name", machine.bridge)
    _text(root, "uuid", _uuid("network", machine.bridge))
    ElementTree.SubElement(root, "forward", mode="nat")
    ElementTree.SubElement(root, "bridge", name=machine.bridge, stp="off", delay="0")
    ElementTree.SubElement(root, "dns", enable="no")
    ElementTree.SubElement(root, "ip", address=str(cidr[HOST]), netmask=str(cidr.netmask))
    return _written(root)


def _boot(root: ElementTree.Element, machine: Definition, directory: str) -> None:
    system = ElementTree.SubElement(root, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    if machine.kernel:
        _text(system, "kernel", f"{directory}/{KERNEL}")
        if machine.initrd:
            _text(system, "initrd", f"{directory}/{INITRD}")
        _text(system, "cmdline", machine.cmdline or CMDLINE)
    else:
        ElementTree.SubElement(system, "boot", dev="hd")


def _disk(devices: ElementTree.Element, path: str, target: str, driver: Mapping[str, str]) -> None:
    disk = ElementTree.SubElement(devices, "disk", type="file", device="disk")
    ElementTree.SubElement(disk, "driver", {"name": "qemu", **driver})
    ElementTree.SubElement(disk, "source", file=path)
    ElementTree.SubElement(disk, "target", dev=target, bus="virtio")
    if driver["type"] == "raw":
        ElementTree.SubElement(disk, "readonly")


def _card(devices: ElementTree.Element, machine: Definition) -> None:
    card = ElementTree.SubElement(devices, "interface", type="network")
    ElementTree.SubElement(card, "mac", address=machine.mac)
    ElementTree.SubElement(card, "source", network=machine.bridge)
    ElementTree.SubElement(card, "target", dev=machine.tap)
    ElementTree.SubElement(card, "model", type="virtio")
    ElementTree.SubElement(card, "rom", enabled="no")


def _text(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, tag, attributes).text = text


def _uuid(*words: str) -> str:
    """Return a UUID that is the same on every run, so that libvirt takes a changed description for the same thing."""
    name = digest("libvirt", *words)
    return f"{name[:8]}-{name[8:12]}-4{name[13:16]}-8{name[17:20]}-{name[20:32]}"


def _written(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
