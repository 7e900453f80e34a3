# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bridge for machines needs of a network, what is missing, and what stands in the way; pure.

PRIVATE to the collection. What is ours carries an alias that says so, in the kernel itself; what is not ours is never
changed or removed. Looking and acting is `_bridge_host.py`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Invalid
from ansible_collections.stargate.core.plugins.module_utils._lease import HOST, digest

OURS = "stargate"
"""The alias of bridges and namespaces that we made; a tap's has the machine's name after it."""
TABLE = "stargate"
_SET = "networks"


@dataclass(frozen=True)
class Link:
    """An interface. `kind` is what the kernel calls it, such as bridge or tun; "" for hardware."""

    kind: str = ""
    alias: str = ""
    master: str = ""
    up: bool = False
    addresses: tuple[IPv4Interface, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A network as it is: interfaces by name, routes as (network, interface), CIDRs that are masqueraded."""

    links: Mapping[str, Link] = field(default_factory=dict)
    routes: Sequence[tuple[IPv4Network, str]] = ()
    masqueraded: frozenset[str] = frozenset()
    forwards: bool = False
    drops: bool = False  # whether a firewall's chain FORWARD drops what no rule allows


@dataclass(frozen=True)
class Bridge:
    """A bridge as it is wanted: its name, the machines' CIDR, the network namespace ("" for the host's own)."""

    name: str
    cidr: str
    netns: str = ""

    @property
    def network(self) -> IPv4Network:
        """Return the machines' network."""
        return IPv4Network(self.cidr)

    @property
    def address(self) -> IPv4Interface:
        """Return the host's own address on it."""
        return IPv4Interface(f"{self.network[HOST]}/{self.network.prefixlen}")


@dataclass(frozen=True)
class Tap:
    """A machine's end of the bridge; `machine` is its namespace and name."""

    name: str
    machine: str

    @property
    def alias(self) -> str:
        """Return the mark by which it is ours."""
        return f"{OURS} {self.machine}"


def seen(links: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]) -> Seen:
    """Return what `ip -details -json address` and `ip -json route` say; the rest is as in an empty network."""
    return Seen({str(item["ifname"]): _link(item) for item in links}, tuple(_routes(routes)))


def masqueraded(listing: Mapping[str, Any]) -> frozenset[str]:
    """Return the CIDRs in our set, as `nft --json list set` tells it."""
    found: set[str] = set()
    for item in listing.get("nftables", ()):
        for element in item.get("set", {}).get("elem", ()):
            prefix = element.get("prefix", {}) if isinstance(element, Mapping) else {"addr": element, "len": 32}
            found.add(f"{prefix.get('addr')}/{prefix.get('len')}")
    return frozenset(found)


def refuse(bridge: Bridge, tap: Tap, network: Seen) -> None:
    """Raise what stands in the way: CidrTaken, BridgeTaken or TapTaken, each naming who has it."""
    _refuse_cidr(bridge, network)
    doing = f"Failed to use bridge {bridge.name}"
    link = network.links.get(bridge.name)
    if link and link.kind != "bridge":
        raise Invalid(f"{doing}: there is another interface of this name. Give bridge another.", code="BridgeTaken")
    if link and (link.addresses or link.alias != OURS) and bridge.address not in link.addresses:
        has = ", ".join(str(address) for address in link.addresses) or "no address"
        raise Invalid(
            f"{doing}: it is there with {has}, and cidr {bridge.cidr} asks for {bridge.address}. Give another bridge, "
            "or the cidr that it has.",
            code="BridgeTaken",
        )
    end = network.links.get(tap.name)
    if end and end.alias != tap.alias:
        raise Conflict(
            f"Failed to connect machine {tap.machine}: the interface {tap.name} is there and "
            f"{f'belongs to {end.alias}' if end.alias else 'is not ours'}. Remove it: ip link delete {tap.name}.",
            code="TapTaken",
            retryable=False,
        )


def missing(bridge: Bridge, tap: Tap, network: Seen) -> list[list[str]]:
    """Return the arguments of `ip` that bring the bridge and the tap about, in order."""
    commands: list[list[str]] = []
    link = network.links.get(bridge.name)
    if link is None:
        mac = f"52:54:00:{':'.join(digest('bridge', bridge.name, bridge.cidr)[n : n + 2] for n in (0, 2, 4))}"
        commands.append(["link", "add", "name", bridge.name, "address", mac, "type", "bridge"])
        commands.append(["link", "set", "dev", bridge.name, "alias", OURS])
    if link is None or bridge.address not in link.addresses:
        commands.append(["address", "add", str(bridge.address), "dev", bridge.name])
    if link is None or not link.up:
        commands.append(["link", "set", "dev", bridge.name, "up"])
    end = network.links.get(tap.name)
    if end is None:
        commands.append(["tuntap", "add", "dev", tap.name, "mode", "tap"])
    if end is None or not end.up or end.master != bridge.name:
        commands.append(["link", "set", "dev", tap.name, "alias", tap.alias, "master", bridge.name, "up"])
    return commands


def leftover(bridge: Bridge, network: Seen) -> list[list[str]]:
    """Return the arguments of `ip` that remove the bridge: none when it is not ours or still has members."""
    link = network.links.get(bridge.name)
    has_members = any(other.master == bridge.name for other in network.links.values())
    ours = link is not None and link.alias == OURS and not has_members
    return [["link", "delete", "dev", bridge.name]] if ours else []


def masquerade(cidr: str) -> str:
    """Return the nft script that gives the machines of a CIDR a way out; running it again changes nothing."""
    chain = f"ip {TABLE} postrouting"
    return "\n".join(
        (
            f"add table ip {TABLE}",
            f"add set ip {TABLE} {_SET} {{ type ipv4_addr; flags interval; }}",
            f"add chain {chain} {{ type nat hook postrouting priority srcnat; policy accept; }}",
            f"flush chain {chain}",
            f"add rule {chain} ip saddr @{_SET} ip daddr != @{_SET} masquerade",
            f"add element ip {TABLE} {_SET} {{ {cidr} }}",
        )
    )


def unmasquerade(cidr: str, network: Seen) -> str:
    """Return the nft script that takes it back, with the whole table when nobody else is in it; "" for nothing."""
    if cidr not in network.masqueraded:
        return ""
    if network.masqueraded == {cidr}:
        return f"delete table ip {TABLE}"
    return f"delete element ip {TABLE} {_SET} {{ {cidr} }}"


def _refuse_cidr(bridge: Bridge, network: Seen) -> None:
    """A wider route elsewhere is fine, as ours is the nearer one; an interface's own network is not."""
    others = {name: link for name, link in network.links.items() if name != bridge.name}
    held = [(address.network, name) for name, link in others.items() for address in link.addresses]
    taken = [(net, name) for net, name in held if net.overlaps(bridge.network)]
    taken += [(net, name) for net, name in network.routes if name != bridge.name and net.subnet_of(bridge.network)]
    if taken:
        raise Invalid(
            f"Failed to use cidr {bridge.cidr} for bridge {bridge.name}: {taken[0][0]} is at interface {taken[0][1]} "
            "already. Give another cidr.",
            code="CidrTaken",
        )


def _link(item: Mapping[str, Any]) -> Link:
    addresses = [entry for entry in item.get("addr_info", ()) if entry.get("family") == "inet"]
    return Link(
        kind=str(item.get("linkinfo", {}).get("info_kind", "")),
        alias=str(item.get("ifalias", "")),
        master=str(item.get("master", "")),
        up="UP" in item.get("flags", ()),
        addresses=tuple(IPv4Interface(f"{entry['local']}/{entry['prefixlen']}") for entry in addresses),
    )


def _routes(routes: Sequence[Mapping[str, Any]]) -> list[tuple[IPv4Network, str]]:
    found = [(str(route.get("dst", "")), str(route.get("dev", ""))) for route in routes]
    return [(IPv4Network(dst), dev) for dst, dev in found if dst[:1].isdigit()]
