# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which port, addresses, hardware addresses, tap and pod CIDR a machine gets, given what others have; pure.

PRIVATE to the collection. A book maps "<namespace>/<name>" to what that machine holds. Reading, locking and writing
the book is _machine.py's business; whether a port is free is asked of the function that the caller gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, ip_network
from itertools import chain, count, islice
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Invalid

HOST = 1  # the host's own address on the network (bridge mode)
ROUTER = 2
FIRST_WORKER = 11
POD_PREFIX = 24
PORTS = range(20000, 30000)  # below what Linux gives to outgoing connections
SLIRP = IPv4Network("10.0.2.0/24")  # what user-mode networks use on the router's other side

Book = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """Who asks for leases, and on which network."""

    namespace: str
    name: str
    site: str
    role: str  # router | worker
    network: str  # user | bridge
    cidr: str
    pod_cidr: str = ""  # what the pod CIDRs of workers are cut from; "" for none
    netns: str = ""
    bridge: str = ""

    @property
    def key(self) -> str:
        """Return the machine's name in the book."""
        return f"{self.namespace}/{self.name}"

    @property
    def segment(self) -> str:
        """Return the name of the network on which addresses must differ."""
        site = f"{self.namespace}/{self.site}"
        return f"user:{site}" if self.network == "user" else f"bridge:{self.netns}:{self.bridge}"


@dataclass(frozen=True)
class Leases:
    """What a machine holds as long as it exists. `port` is 0 and `wan_mac`, `tap`, `pod_cidr` are "" when unused."""

    segment: str
    cidr: str
    address: str
    mac: str
    wan_mac: str
    tap: str
    port: int
    pod_cidr: str


def planned(book: Book, wanted: Wanted, *, salt: str, is_free: Callable[[int], bool]) -> Leases:
    """Return what the machine holds already, or what it is to hold. `salt` keeps two books on one host apart.

    A record made for another network or CIDR is no answer: a machine does not move.
    """
    network, pods = _networks(wanted)
    held = book.get(wanted.key)
    if held is not None:
        return _kept(held, wanted)
    others = [record for key, record in book.items() if key != wanted.key]
    router, seed = wanted.role == "router", f"{salt}|{wanted.key}"
    macs = _macs(seed, {str(record[field]) for record in others for field in ("mac", "wan_mac")})
    taken = {str(r["address"]) for r in others if (r["segment"], r["cidr"]) == (wanted.segment, wanted.cidr)}
    return Leases(
        segment=wanted.segment,
        cidr=wanted.cidr,
        address=_address(network, wanted, taken),
        mac=next(macs),
        wan_mac=next(macs) if router and wanted.network == "user" else "",
        tap=_tap(seed, {str(record["tap"]) for record in others}) if wanted.network == "bridge" else "",
        port=_port(seed, {int(r["port"]) for r in others}, is_free) if router and wanted.network == "user" else 0,
        pod_cidr="" if router or pods is None else _pod_cidr(pods, [str(r["pod_cidr"]) for r in others]),
    )


def with_lease(book: Book, key: str, leases: Leases) -> dict[str, Mapping[str, str | int]]:
    """Return the book with a machine's leases in it."""
    return {**book, key: asdict(leases)}


def without_lease(book: Book, key: str) -> dict[str, Mapping[str, str | int]]:
    """Return the book without a machine; one that is not in it is fine."""
    return {known: record for known, record in book.items() if known != key}


def gateway(wanted: Wanted) -> str:
    """Return where a machine's default route goes: the router, the host's bridge, or "" (by its other interface)."""
    network, __ = _networks(wanted)
    if wanted.network == "bridge":
        return str(network[HOST])
    return "" if wanted.role == "router" else str(network[ROUTER])


def digest(*words: str) -> str:
    """Return a short text that stands for the words, the same on every run."""
    return hashlib.sha256("|".join(words).encode()).hexdigest()


def _networks(wanted: Wanted) -> tuple[IPv4Network, IPv4Network | None]:
    network = _network(wanted.cidr, wanted, longest=28)
    pods = _network(wanted.pod_cidr, wanted, longest=POD_PREFIX) if wanted.pod_cidr else None
    for other, why in ((SLIRP if wanted.network == "user" else None, "user-mode networks"), (pods, "pods")):
        if other is not None and network.overlaps(other):
            raise Invalid(
                f"Failed to lease an address for machine {wanted.key}: its network {network} overlaps {other}, "
                f"which is for {why}. Give it another cidr.",
                code="CidrInvalid",
            )
    return network, pods


def _network(cidr: str, wanted: Wanted, *, longest: int) -> IPv4Network:
    try:
        network = ip_network(cidr)
    except ValueError as error:
        raise Invalid(f"Failed to lease an address for machine {wanted.key}: {error}.", code="CidrInvalid") from error
    if not isinstance(network, IPv4Network) or network.prefixlen > longest:
        raise Invalid(
            f"Failed to lease an address for machine {wanted.key}: {cidr} is not an IPv4 network of /{longest} or "
            "larger.",
            code="CidrInvalid",
        )
    return network


def _kept(held: Mapping[str, str | int], wanted: Wanted) -> Leases:
    leases = Leases(
        **{field: str(held[field]) for field in Leases.__dataclass_fields__ if field != "port"}, port=int(held["port"])
    )
    if (leases.segment, leases.cidr) != (wanted.segment, wanted.cidr):
        raise Invalid(
            f"Failed to lease an address for machine {wanted.key}: it holds {leases.address} of {leases.cidr} on "
            f"{leases.segment}, and {wanted.cidr} on {wanted.segment} was asked for. Make it absent first.",
            code="AddressTaken",
        )
    return leases


def _macs(seed: str, taken: set[str]) -> Iterator[str]:
    """Return locally administered addresses with QEMU's first three bytes, made from the seed; there is no end."""
    tails = (digest("mac", seed, str(turn)) for turn in count())
    return (mac for tail in tails if (mac := f"52:54:00:{tail[:2]}:{tail[2:4]}:{tail[4:6]}") not in taken)


def _address(network: IPv4Network, wanted: Wanted, taken: set[str]) -> str:
    first, last = (ROUTER, FIRST_WORKER) if wanted.role == "router" else (FIRST_WORKER, network.num_addresses - 1)
    free = next((str(network[n]) for n in range(first, last) if str(network[n]) not in taken), None)
    if free is None:
        raise Invalid(
            f"Failed to lease an address for machine {wanted.key}: all {last - first} that {network} has for a "
            f"{wanted.role} are taken. Give the site a larger cidr, or another one.",
            code="AddressTaken",
        )
    return free


def _tap(seed: str, taken: set[str]) -> str:
    names = (f"sg{digest('tap', seed, str(turn))[:10]}" for turn in count())
    return next(name for name in names if name not in taken)


def _port(seed: str, taken: set[int], is_free: Callable[[int], bool]) -> int:
    start = int(digest("port", seed)[:8], 16) % len(PORTS)
    turns = chain(islice(PORTS, start, None), islice(PORTS, start))
    port = next((port for port in turns if port not in taken and is_free(port)), None)
    if port is None:
        raise Conflict(
            f"Failed to lease a port: none from {PORTS[0]} to {PORTS[-1]} is free on 127.0.0.1.", code="PortTaken"
        )
    return port


def _pod_cidr(base: IPv4Network, taken: list[str]) -> str:
    held = [IPv4Network(cidr) for cidr in taken if cidr]
    candidates = base.subnets(new_prefix=POD_PREFIX)
    if base.prefixlen < POD_PREFIX:
        next(candidates)  # the first one is left to the control plane
    free = next((str(cidr) for cidr in candidates if not any(cidr.overlaps(other) for other in held)), None)
    if free is None:
        raise Invalid(
            f"Failed to lease a pod CIDR: every /{POD_PREFIX} of {base} is taken. Give a larger pod_cidr.",
            code="AddressTaken",
        )
    return free
