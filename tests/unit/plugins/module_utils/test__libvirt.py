# SPDX-License-Identifier: Apache-2.0
"""What libvirt is told of a machine: the same as QEMU is told without it.

That libvirt takes it is shown by virt-xml-validate where that is installed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.stargate.core.plugins.filter.libvirt import FilterModule
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._libvirt import definition, domain, network
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition

MACHINE = Definition(
    *("w1", "dc", "r1", "qemu", "worker", 4, 4096),
    network="bridge",
    bridge="sgbr0",
    cidr="198.18.4.0/24",
    mac="52:54:00:00:00:03",
    tap="sg0123456789",
    address="198.18.4.11",
)
PLACE = "/vms/a&b"


def attributes(xml: str, path: str) -> list[dict[str, str]]:
    """Return the attributes of the elements at a path."""
    root = ElementTree.fromstring(xml)  # noqa: S314 - it is our own text
    return [element.attrib for element in root.findall(path)]


def text(xml: str, path: str) -> str | None:
    """Return the text at a path."""
    return ElementTree.fromstring(xml).findtext(path)  # noqa: S314 - it is our own text


def test_a_domain() -> None:
    """Processors, memory, disk before seed, the leased card and the console's log are those of the definition."""
    xml = domain(MACHINE, PLACE, accel="kvm")
    assert (text(xml, "name"), text(xml, "vcpu"), text(xml, "memory")) == ("stargate-dc-w1", "4", "4096")
    assert attributes(xml, ".")[0] == {"type": "kvm"}
    assert [disk["file"] for disk in attributes(xml, "devices/disk/source")] == [
        f"{PLACE}/disk.qcow2",
        f"{PLACE}/seed.iso",
    ]
    assert attributes(xml, "devices/interface/mac") == [{"address": "52:54:00:00:00:03"}]
    assert attributes(xml, "devices/interface/source") == [{"network": "sgbr0"}]
    assert attributes(xml, "devices/serial/source")[0]["path"] == f"{PLACE}/console.log"
    assert attributes(xml, "os/boot") == [{"dev": "hd"}]


def test_direct_boot() -> None:
    """A kernel of its own is the one in the machine's directory."""
    xml = domain(replace(MACHINE, kernel="/k", initrd="/i"), PLACE, accel="tcg")
    assert (text(xml, "os/kernel"), text(xml, "os/initrd")) == (f"{PLACE}/kernel", f"{PLACE}/initrd")
    assert text(xml, "os/cmdline") == "root=/dev/vda rw console=ttyS0"
    assert attributes(xml, ".")[0] == {"type": "qemu"}
    plain = domain(replace(MACHINE, kernel="/k", cmdline="x=y"), PLACE, accel="tcg")
    assert (text(plain, "os/initrd"), text(plain, "os/cmdline")) == (None, "x=y")


def test_a_network() -> None:
    """The host has the first address, nobody hands out others, and the UUID stays."""
    xml = network(MACHINE)
    assert attributes(xml, "ip") == [{"address": "198.18.4.1", "netmask": "255.255.255.0"}]
    assert (attributes(xml, "forward"), attributes(xml, "ip/dhcp")) == ([{"mode": "nat"}], [])
    assert text(xml, "uuid") == text(network(replace(MACHINE, name="w2")), "uuid")


@pytest.mark.skipif(
    not (shutil.which("virt-xml-validate") and shutil.which("xmllint")),
    reason="virt-xml-validate or xmllint is not installed",
)
@pytest.mark.parametrize("kernel", ["", "/k"])
def test_libvirt_understands(tmp_path: Path, kernel: str) -> None:
    """Both descriptions are valid by libvirt's own schemas."""
    machine = replace(MACHINE, kernel=kernel, initrd=kernel)
    for kind, xml in (("domain", domain(machine, "/vms/w1", accel="tcg")), ("network", network(machine))):
        (tmp_path / kind).write_text(xml, encoding="utf-8")
        command = ["virt-xml-validate", str(tmp_path / kind), kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("other", [{"network": "user"}, {"netns": "lab"}])
def test_networks_that_libvirt_has_not(other: dict[str, str]) -> None:
    """A machine without a bridge of the host is refused with what to do."""
    with pytest.raises(Invalid, match="dc/w1") as caught:
        definition({**asdict(MACHINE), **other})
    assert caught.value.code == "NetworkUnsupported"


def test_filters() -> None:
    """The filters take what is in machine.json, and what is wrong with it is Ansible's error."""
    filters = FilterModule().filters()
    content = {**asdict(MACHINE), "of_a_later_version": 1}
    assert filters["libvirt_domain"](content, "/d", "kvm") == domain(MACHINE, "/d", accel="kvm")
    assert filters["libvirt_network"](content) == network(MACHINE)
    assert filters["libvirt_name"](content) == "stargate-dc-w1"
    with pytest.raises(AnsibleFilterError, match="missing"):
        filters["libvirt_name"]({"name": "w1"})
