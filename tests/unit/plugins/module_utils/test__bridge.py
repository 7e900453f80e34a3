# SPDX-License-Identifier: Apache-2.0
"""What a bridge lacks and what stands in its way: tables of networks and answers.

That the kernel takes the commands is test__bridge_host.py's.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from ansible_collections.stargate.core.plugins.module_utils._bridge import (
    OURS,
    Bridge,
    Link,
    Seen,
    Tap,
    leftover,
    masquerade,
    masqueraded,
    missing,
    refuse,
    seen,
    unmasquerade,
)
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError

BRIDGE = Bridge("br0", "192.168.100.0/24")
TAP = Tap("sg1", "dc/w1")
ADDRESS = IPv4Interface("192.168.100.1/24")
MADE = Link("bridge", OURS, up=True, addresses=(ADDRESS,))
CONNECTED = Link("tun", TAP.alias, master="br0", up=True)


def test_from_nothing() -> None:
    """In an empty network everything is made, the address among it, in an order that works."""
    commands = [" ".join(arguments) for arguments in missing(BRIDGE, TAP, Seen())]
    assert [command.split()[:2] for command in commands] == [
        ["link", "add"],
        ["link", "set"],
        ["address", "add"],
        ["link", "set"],
        ["tuntap", "add"],
        ["link", "set"],
    ]
    assert commands[2] == "address add 192.168.100.1/24 dev br0"


def test_nothing_is_missing() -> None:
    """What is there is not made again."""
    assert missing(BRIDGE, TAP, Seen({"br0": MADE, "sg1": CONNECTED})) == []


@pytest.mark.parametrize(
    ("links", "first"),
    [
        ({"br0": Link("bridge", OURS, up=True), "sg1": CONNECTED}, "address add 192.168.100.1/24 dev br0"),
        ({"br0": Link("bridge", addresses=(ADDRESS,)), "sg1": CONNECTED}, "link set dev br0 up"),
        ({"br0": MADE, "sg1": Link("tun", TAP.alias, up=True)}, "link set dev sg1 alias stargate dc/w1 master br0 up"),
        ({"br0": MADE}, "tuntap add dev sg1 mode tap"),
    ],
)
def test_repairs(links: dict[str, Link], first: str) -> None:
    """A bridge that lost its address, is down, or has lost a member is mended."""
    network = Seen(links)
    refuse(BRIDGE, TAP, network)
    assert " ".join(missing(BRIDGE, TAP, network)[0]) == first


@pytest.mark.parametrize(
    ("network", "code", "named"),
    [
        (Seen({"eth0": Link(addresses=(IPv4Interface("192.168.0.7/16"),))}), "CidrTaken", "eth0"),
        (Seen({"eth0": Link(addresses=(IPv4Interface("192.168.100.77/25"),))}), "CidrTaken", "eth0"),
        (Seen(routes=[(IPv4Network("192.168.100.0/25"), "vpn0")]), "CidrTaken", "vpn0"),
        (Seen({"br0": Link("bridge", OURS, addresses=(IPv4Interface("10.9.0.1/24"),))}), "BridgeTaken", "10.9.0.1/24"),
        (Seen({"br0": Link("bridge", "")}), "BridgeTaken", "no address"),
        (Seen({"br0": Link("dummy")}), "BridgeTaken", "another interface"),
        (Seen({"sg1": Link("tun", "stargate dc/other")}), "TapTaken", "stargate dc/other"),
        (Seen({"sg1": Link("tun")}), "TapTaken", "not ours"),
    ],
)
def test_refusals(network: Seen, code: str, named: str) -> None:
    """What others have is neither changed nor shadowed, and the sentence says who has it."""
    with pytest.raises(StargateError, match=named) as caught:
        refuse(BRIDGE, TAP, network)
    assert (caught.value.code, caught.value.retryable) == (code, False)


def test_fine_neighbours() -> None:
    """A wider route elsewhere, a bridge of somebody's with the right address, and our own route are no obstacles."""
    routes = [(IPv4Network("192.168.0.0/16"), "vpn0"), (IPv4Network("192.168.100.0/24"), "br0")]
    refuse(BRIDGE, TAP, Seen({"br0": Link("bridge", addresses=(ADDRESS,))}, routes))


def test_leftovers() -> None:
    """Only a bridge that we made and that nobody uses goes."""
    assert leftover(BRIDGE, Seen({"br0": MADE})) == [["link", "delete", "dev", "br0"]]
    assert leftover(BRIDGE, Seen({"br0": MADE, "sg2": Link("tun", master="br0")})) == []
    assert leftover(BRIDGE, Seen({"br0": Link("bridge", addresses=(ADDRESS,))})) == []
    assert leftover(BRIDGE, Seen()) == []


def test_masquerading() -> None:
    """All CIDRs are in one table of ours, which goes with the last one."""
    script = masquerade("192.168.100.0/24")
    assert "flush chain ip stargate postrouting" in script
    assert script.endswith("add element ip stargate networks { 192.168.100.0/24 }")
    both = Seen(masqueraded=frozenset({"192.168.100.0/24", "10.1.0.0/16"}))
    assert unmasquerade("10.1.0.0/16", both) == "delete element ip stargate networks { 10.1.0.0/16 }"
    assert unmasquerade("10.1.0.0/16", Seen(masqueraded=frozenset({"10.1.0.0/16"}))) == "delete table ip stargate"
    assert unmasquerade("10.1.0.0/16", Seen()) == ""


def test_what_the_programs_say() -> None:
    """The answers of ip and nft are understood, with what they leave out."""
    links = [
        {
            "ifname": "br0",
            "flags": ["UP"],
            "ifalias": OURS,
            "linkinfo": {"info_kind": "bridge"},
            "addr_info": [{"family": "inet", "local": "192.168.100.1", "prefixlen": 24}, {"family": "inet6"}],
        },
        {"ifname": "lo"},
    ]
    routes = [{"dst": "default", "dev": "eth0"}, {"dst": "10.0.0.0/8", "dev": "vpn0"}, {"dst": "10.1.1.1", "dev": "x"}]
    network = seen(links, routes)
    assert network.links == {"br0": MADE, "lo": Link()}
    assert network.routes == ((IPv4Network("10.0.0.0/8"), "vpn0"), (IPv4Network("10.1.1.1/32"), "x"))
    prefix = {"prefix": {"addr": "192.168.100.0", "len": 24}}
    assert masqueraded({"nftables": [{"metainfo": {}}, {"set": {"elem": [prefix, "10.0.0.1"]}}]}) == {
        "192.168.100.0/24",
        "10.0.0.1/32",
    }
