# SPDX-License-Identifier: Apache-2.0
"""Leases: what a machine gets, keeps and gives back, and that no two machines get the same.

The file that they are written to is test__machine.py's.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Invalid
from ansible_collections.stargate.core.plugins.module_utils._lease import (
    FIRST_WORKER,
    PORTS,
    Leases,
    Wanted,
    gateway,
    planned,
    with_lease,
    without_lease,
)

ROUTER = Wanted("ns", "gw", "gw", "router", "user", "192.168.100.0/24", "10.244.0.0/16")
WORKER = Wanted("ns", "w1", "gw", "worker", "user", "192.168.100.0/24", "10.244.0.0/16")
BRIDGED = replace(WORKER, network="bridge", bridge="br0")


def plan(book: dict[str, Any], wanted: Wanted, *, salt: str = "/machines", busy: tuple[int, ...] = ()) -> Leases:
    """Return the leases that are planned when some ports are in use."""
    return planned(book, wanted, salt=salt, is_free=lambda port: port not in busy)


def fill(*wanted: Wanted) -> dict[str, Any]:
    """Return the book after some machines have leased, one after the other."""
    book: dict[str, Any] = {}
    for one in wanted:
        book = with_lease(book, one.key, plan(book, one))
    return book


def test_a_site_in_user_mode() -> None:
    """The router gets .2, a port and two hardware addresses; workers get .11 on, and pod CIDRs from the second on."""
    book = fill(ROUTER, WORKER, replace(WORKER, name="w2"))
    router, first, second = (Leases(**book[f"ns/{name}"]) for name in ("gw", "w1", "w2"))
    assert [lease.address for lease in (router, first, second)] == ["192.168.100.2", "192.168.100.11", "192.168.100.12"]
    assert [lease.pod_cidr for lease in (router, first, second)] == ["", "10.244.1.0/24", "10.244.2.0/24"]
    assert router.port in PORTS
    assert (first.port, first.wan_mac, first.tap, router.tap) == (0, "", "", "")
    macs = [router.mac, router.wan_mac, first.mac, second.mac]
    assert len(set(macs)) == 4
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac) for mac in macs)


def test_a_bridge() -> None:
    """On a bridge everybody has a tap with a legal name, and nobody a port."""
    book = fill(replace(BRIDGED, name="gw", role="router"), BRIDGED)
    taps = {record["tap"] for record in book.values()}
    assert len(taps) == 2
    assert all(len(tap) <= 15 for tap in taps)
    assert {record["port"] for record in book.values()} == {0}


def test_leases_are_stable() -> None:
    """What a machine holds it gets again, whatever others do and however busy its port is."""
    book = fill(ROUTER, WORKER)
    held = plan(book, ROUTER)
    assert asdict(held) == book["ns/gw"]
    assert plan(without_lease(book, "ns/w1"), ROUTER, busy=(held.port,)) == held


def test_what_is_given_back_is_free_again() -> None:
    """The next machine gets the address and pod CIDR of one that is gone; one that was not there is no matter."""
    book = fill(ROUTER, WORKER, replace(WORKER, name="w2"))
    book = without_lease(without_lease(book, "ns/w1"), "ns/nobody")
    next_one = plan(book, replace(WORKER, name="w3"))
    assert (next_one.address, next_one.pod_cidr) == ("192.168.100.11", "10.244.1.0/24")


def test_deployments_do_not_collide() -> None:
    """Two sites may have the same network behind their routers, but never a port, hardware address or pod CIDR."""
    others = [replace(one, namespace="other") for one in (ROUTER, WORKER)]
    book = fill(ROUTER, WORKER, *others)
    assert book["ns/w1"]["address"] == book["other/w1"]["address"]
    for field in ("port", "mac", "pod_cidr"):
        values = [record[field] for record in book.values() if record[field]]
        assert len(values) == len(set(values))


def test_one_bridge_for_two_sites() -> None:
    """On the same bridge and network addresses differ; on another bridge they need not."""
    second = replace(BRIDGED, namespace="other")
    book = fill(BRIDGED, second)
    assert book["other/w1"]["address"] == "192.168.100.12"
    assert plan(book, replace(second, name="w9", bridge="br1")).address == "192.168.100.11"


def test_two_directories_on_one_host() -> None:
    """Machines of the same name begin to look for ports and taps at different places."""
    routers = [plan({}, ROUTER, salt=salt) for salt in ("/a", "/b")]
    assert routers[0].port != routers[1].port
    assert plan({}, BRIDGED, salt="/a").tap != plan({}, BRIDGED, salt="/b").tap


def test_hashes_that_meet() -> None:
    """A port, hardware address or tap that somebody has already is passed over."""
    first, bridged = plan({}, ROUTER), plan({}, BRIDGED)
    others = {
        "x/a": {**asdict(first), "segment": "elsewhere"},
        "x/b": {**asdict(bridged), "segment": "elsewhere"},
    }
    again = plan(others, ROUTER, busy=(first.port + 1,))
    assert again.port not in (first.port, first.port + 1)
    assert {again.mac, again.wan_mac}.isdisjoint({first.mac, first.wan_mac})
    assert plan(others, BRIDGED).tap != bridged.tap


def test_a_machine_does_not_move() -> None:
    """A machine that holds an address of one network gets none of another."""
    with pytest.raises(Invalid, match=r"ns/w1: it holds 192\.168\.100\.11") as caught:
        plan(fill(WORKER), replace(WORKER, cidr="10.9.0.0/24"))
    assert caught.value.code == "AddressTaken"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (replace(WORKER, cidr="192.168.100.1/24"), "CidrInvalid"),
        (replace(WORKER, cidr="nonsense"), "CidrInvalid"),
        (replace(WORKER, cidr="fd00::/64"), "CidrInvalid"),
        (replace(WORKER, cidr="192.168.100.0/29"), "CidrInvalid"),
        (replace(WORKER, cidr="10.0.0.0/16"), "CidrInvalid"),
        (replace(WORKER, cidr="10.244.7.0/24"), "CidrInvalid"),
        (replace(WORKER, pod_cidr="10.244.0.0/25"), "CidrInvalid"),
    ],
)
def test_networks_that_cannot_be(wanted: Wanted, code: str) -> None:
    """A network that is none, is too small, or overlaps another that the machine uses is refused."""
    with pytest.raises(Invalid, match="ns/w1") as caught:
        plan({}, wanted)
    assert (caught.value.code, caught.value.retryable) == (code, False)


def test_a_bridge_may_have_the_user_mode_network() -> None:
    """Where no user-mode network is used, its addresses are as good as others."""
    assert plan({}, replace(BRIDGED, cidr="10.0.2.0/24")).address == "10.0.2.11"


def test_a_full_network() -> None:
    """When no address is left, or no pod CIDR, the machine gets nothing."""
    small = [replace(WORKER, name=f"w{n}", cidr="192.168.100.0/28") for n in range(5)]
    assert len(fill(*small[:4])) == 16 - 1 - FIRST_WORKER
    with pytest.raises(Invalid, match="all 4 that") as caught:
        fill(*small)
    assert caught.value.code == "AddressTaken"
    pods = [replace(WORKER, name=f"w{n}", pod_cidr="10.1.0.0/23") for n in range(2)]
    with pytest.raises(Invalid, match="pod CIDR"):
        fill(*pods)


def test_pod_cidrs_of_other_kinds() -> None:
    """A base that is one /24 is given as a whole; an empty one gives none."""
    assert plan({}, replace(WORKER, pod_cidr="10.1.2.0/24")).pod_cidr == "10.1.2.0/24"
    assert plan({}, replace(WORKER, pod_cidr="")).pod_cidr == ""


def test_no_port_is_free() -> None:
    """When all ports are in use, this may be over later."""
    with pytest.raises(Conflict, match="from 20000 to 29999") as caught:
        plan({}, ROUTER, busy=tuple(PORTS))
    assert (caught.value.code, caught.value.retryable) == ("PortTaken", True)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ROUTER, ""),
        (WORKER, "192.168.100.2"),
        (BRIDGED, "192.168.100.1"),
        (replace(BRIDGED, role="router"), "192.168.100.1"),
    ],
)
def test_gateways(wanted: Wanted, expected: str) -> None:
    """Workers go by their router, all on a bridge by the host, and a router in user mode by its other interface."""
    assert gateway(wanted) == expected
