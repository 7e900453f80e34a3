# SPDX-License-Identifier: Apache-2.0
"""What is asked of a site, as a plan or as everything that is wrong with it; no network, no files.

The files are tested in test__site_files.py, a whole run in tests/integration/test_prep_nspawn.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._site import JAMMY, Facts, Known, names, planned
from ansible_collections.stargate.core.plugins.module_utils._site_module import INPUTS

DEFAULTS = {name: option.get("default") for name, option in INPUTS.items()}
ROOT = Facts(is_root=True, cache_dir="/cache", kind_of=lambda path: "directory" if path.endswith("root") else "file")
USER = Facts(cache_dir="/cache")


def inputs(**given: Any) -> dict[str, Any]:
    """Return the input with its defaults."""
    return {**DEFAULTS, "provider": "qemu", "router_name": "r", "vm": "w1,w2", **given}


def test_a_plan_of_qemu_machines() -> None:
    """The router comes first, sizes are the flags', and without root the host's network is left alone."""
    site = planned(inputs(qemu_cpus=1, qemu_disk=8), USER)
    assert site.machines == [
        {"name": "r", "role": "router"},
        {"name": "w1", "role": "worker"},
        {"name": "w2", "role": "worker"},
    ]
    assert (site.network, site.image, site.cpus, site.memory, site.disk) == ("user", JAMMY, 1, 4096, 8)
    assert site.as_dict()["workers"] == ["w1", "w2"]


def test_a_plan_of_nspawn_machines() -> None:
    """They use the built image and never the host's network; sizes of QEMU machines are not theirs."""
    site = planned(inputs(provider="nspawn", vm=["w1"]), ROOT)
    assert (site.network, site.image, site.cpus) == ("user", "/cache/images/debian-12/root", 0)
    assert planned(inputs(), ROOT).network == "bridge"


@pytest.mark.parametrize(
    ("given", "number", "expected"),
    [
        ({"router_name": "", "vm": None}, "", ("stargate-qemu-router", ["stargate-qemu-vm"])),
        (
            {"provider": "x", "router_name": "", "vm": ""},
            "7",
            ("stargate-x-router-7", [f"stargate-x-vm7-{n}" for n in (1, 2)]),
        ),
        ({"vm": " a, b ,,"}, "7", ("r", ["a", "b"])),
        ({"vm": ["a", "b"]}, "", ("r", ["a", "b"])),
    ],
)
def test_names(given: dict[str, Any], number: str, expected: tuple[str, list[str]]) -> None:
    """Names are as given, as a list or with commas, or follow the provider and DEPLOY_NUM."""
    found = names(inputs(**given), number)
    assert (found["router_name"], found["vm"]) == expected


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"provider": ""}, "InvalidInput", "provider is not set"),
    ({"provider": "azure"}, "ProviderUnsupported", "not supported by this playbook yet. Supported are nspawn and qemu"),
    ({"provider": "xen"}, "ProviderUnsupported", '"xen", which is not known'),
    ({"namespace": "Bad_"}, "InvalidInput", 'namespace has "Bad_"'),
    ({"vm": "w1,w1"}, "InvalidInput", '"w1" more than once'),
    ({"vm": "r"}, "InvalidInput", "the router's name"),
    ({"vm": "-a"}, "InvalidInput", "DNS label"),
    ({"vm": "a.b"}, "InvalidInput", "DNS label"),
    ({"vm": "x" * 64}, "InvalidInput", "DNS label"),
    ({"qemu_subnet_cidr": "10.1"}, "CidrInvalid", "not an IPv4 network"),
    ({"qemu_subnet_cidr": "fd00::/64"}, "CidrInvalid", "not an IPv4 network"),
    ({"qemu_subnet_cidr": "10.1.0.5/24"}, "CidrInvalid", "Meant: 10.1.0.0/24?"),
    ({"qemu_subnet_cidr": "10.1.0.0/29"}, "CidrInvalid", "too small"),
    ({"qemu_subnet_cidr": "10.1.0.0/28", "vm": "a,b,c,d,e"}, "CidrInvalid", "room for 4 workers, and vm has 5"),
    ({"qemu_subnet_cidr": "10.244.3.0/24"}, "CidrInvalid", "overlaps 10.244.0.0/16, which is pod_cidr"),
    ({"qemu_subnet_cidr": "10.0.2.0/24"}, "CidrInvalid", "user-mode networks"),
    ({"pod_cidr": "10.244.0.0/25"}, "CidrInvalid", "pod_cidr is 10.244.0.0/25, which is too small"),
    ({"qemu_cpus": 0}, "InvalidInput", "qemu_cpus is 0"),
    ({"qemu_memory": 64}, "InvalidInput", "at least 256 MiB"),
    ({"qemu_image_checksum": "md5:0"}, "ChecksumInvalid", "qemu_image_checksum"),
    ({"qemu_image_initrd": "/i"}, "InvalidInput", "without qemu_image_kernel"),
    ({"network": "bridge"}, "RootNeeded", "network is bridge, which needs root"),
    ({"netns": "dc"}, "InvalidInput", "network=bridge only"),
    ({"admin_username": "a b"}, "InvalidInput", "admin_username"),
    ({"admin_username": "root"}, "InvalidInput", "ordinary user"),
]


@pytest.mark.parametrize(("given", "code", "text"), WRONG)
def test_wrong_input(given: dict[str, Any], code: str, text: str) -> None:
    """Each mistake has its code and a sentence that names the flag."""
    with pytest.raises(Invalid) as refused:
        planned(inputs(**given), USER)
    assert refused.value.code == code
    assert text in refused.value.message
    assert not refused.value.retryable


def test_nspawn_needs_root_an_image_and_no_bridge() -> None:
    """What nspawn machines cannot have is refused, all of it at once."""
    wrong = inputs(provider="nspawn", network="bridge", definition="libvirt", nspawn_image="/none")
    with pytest.raises(Invalid) as refused:
        planned(wrong, Facts(kind_of=lambda path: ""))
    for text in ("network is bridge, which nspawn", "definition is libvirt", "needs root", "nspawn_image is /none"):
        assert text in refused.value.message
    assert refused.value.code == "InvalidInput"


def test_missing_files() -> None:
    """A path that leads nowhere is refused; an address is not looked at."""
    nothing = Facts(kind_of=lambda path: "")
    with pytest.raises(Invalid, match=r"qemu_image_url is /disk.*qemu_image_kernel is file:///k") as refused:
        planned(inputs(qemu_image_url="/disk", qemu_image_kernel="file:///k"), nothing)
    assert refused.value.code == "ImageUnavailable"
    assert planned(inputs(), nothing).image == JAMMY


def test_machines_that_are_there() -> None:
    """A site keeps the workers it has; names of other sites, providers and roles are taken."""
    known = {"r": Known("r", "qemu", "router"), "w0": Known("r", "qemu", "worker"), "x": Known("q", "qemu", "worker")}
    assert planned(inputs(vm="w9"), Facts(known=known)).workers == ["w9", "w0"]
    simulated = {"w1": Known("r", "simulator", "worker")}
    assert planned(inputs(vm="w1"), Facts(known=simulated)).workers == ["w1"]
    for given in ({"vm": "x"}, {"router_name": "x"}, {"router_name": "w0"}):
        with pytest.raises(Invalid) as refused:
            planned(inputs(**given), Facts(known=known))
        assert refused.value.code == "NameTaken"
