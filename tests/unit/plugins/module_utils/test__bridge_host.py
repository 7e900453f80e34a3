# SPDX-License-Identifier: Apache-2.0
"""Bridges in network namespaces that the tests make: the kernel takes the commands, and nothing stays.

The host's own network is never touched. What is decided when is test__bridge.py's.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _bridge_host
from ansible_collections.stargate.core.plugins.module_utils._bridge import Bridge, Tap
from ansible_collections.stargate.core.plugins.module_utils._bridge_host import BridgeHost
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError

CIDR = "198.18.44.0/24"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def ip(netns: str, *arguments: str) -> str:
    """Run ip in a namespace."""
    command = ["ip", "-netns", netns, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def nft(netns: str, *arguments: str) -> str:
    """Run nft in a namespace."""
    command = ["nsenter", f"--net=/run/netns/{netns}", "nft", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.fixture
def netns() -> Iterator[str]:
    """Return the name of a namespace that is not there yet; it is removed after the test."""
    name = f"stargate-{secrets.token_hex(4)}"
    yield name
    if Path("/run/netns", name).exists():
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=20)


@pytest.fixture
def warnings() -> list[str]:
    """Return what users were told."""
    return []


@pytest.fixture
def hosts(netns: str, warnings: list[str]) -> list[BridgeHost]:
    """Return two machines' sides of one bridge."""
    bridge = Bridge("sgbr0", CIDR, netns)
    return [BridgeHost(bridge, Tap(f"sgtap{n}", f"dc/w{n}"), warnings.append) for n in (1, 2)]


@needs_root
def test_made_and_taken_away(hosts: list[BridgeHost], netns: str) -> None:
    """Bridge, taps, forwarding and NAT come with the first machine and go with the last, the namespace too."""
    for host in hosts:
        host.examine()
        host.ensure()
    links = {link["ifname"]: link for link in json.loads(ip(netns, "-json", "address"))}
    assert links["sgbr0"]["addr_info"][0]["local"] == "198.18.44.1"
    assert {links[name]["master"] for name in ("sgtap1", "sgtap2")} == {"sgbr0"}
    assert CIDR in nft(netns, "list", "ruleset")
    sysctl = ["nsenter", f"--net=/run/netns/{netns}", "cat", "/proc/sys/net/ipv4/ip_forward"]
    assert subprocess.run(sysctl, capture_output=True, check=True, timeout=5).stdout == b"1\n"
    hosts[0].remove(last=False)
    assert "sgtap1" not in ip(netns, "link")
    hosts[1].remove(last=True)
    assert not Path("/run/netns", netns).exists()
    hosts[1].remove(last=True)


@needs_root
def test_again_changes_nothing(hosts: list[BridgeHost], netns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time only looks."""
    hosts[0].ensure()
    before = (ip(netns, "-json", "address"), nft(netns, "list", "ruleset"))
    ran: list[str] = []
    real = _bridge_host.run
    monkeypatch.setattr(_bridge_host, "run", lambda argv, **kwargs: ran.append(" ".join(argv)) or real(argv, **kwargs))
    hosts[0].ensure()
    assert all("show" in command or "list" in command for command in ran)
    assert before == (ip(netns, "-json", "address"), nft(netns, "list", "ruleset"))


@needs_root
def test_what_is_not_ours_stays(hosts: list[BridgeHost], netns: str) -> None:
    """In a namespace and on a bridge that somebody else has made, only the tap and the NAT are ours."""
    subprocess.run(["ip", "netns", "add", netns], check=True, timeout=20)
    ip(netns, "link", "add", "sgbr0", "type", "bridge")
    ip(netns, "address", "add", "198.18.44.1/24", "dev", "sgbr0")
    hosts[0].ensure()
    hosts[0].remove(last=True)
    assert "sgbr0" in ip(netns, "link")
    assert "sgtap1" not in ip(netns, "link")


@needs_root
def test_a_network_that_is_taken(hosts: list[BridgeHost], netns: str) -> None:
    """An interface that has the CIDR already is named, and nothing is made."""
    subprocess.run(["ip", "netns", "add", netns], check=True, timeout=20)
    ip(netns, "link", "add", "lan7", "type", "bridge")
    ip(netns, "address", "add", "198.18.44.9/24", "dev", "lan7")
    for act in (hosts[0].examine, hosts[0].ensure):
        with pytest.raises(Invalid, match="lan7") as caught:
            act()
        assert caught.value.code == "CidrTaken"
    assert "sgbr0" not in ip(netns, "link")


@needs_root
def test_a_firewall_that_drops(hosts: list[BridgeHost], netns: str, warnings: list[str]) -> None:
    """Where another program's rules drop what is forwarded, users are told what to do."""
    hosts[0].ensure()
    assert warnings == []
    nft(netns, "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    hosts[0].ensure()
    assert "iptables -I FORWARD -i sgbr0" in warnings[0]


def test_without_root(hosts: list[BridgeHost], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else than root is refused before anything is looked at, and has nothing to remove."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Invalid, match="become") as caught:
        hosts[0].examine()
    assert caught.value.code == "RootNeeded"
    hosts[0].remove(last=True)


@needs_root
def test_errors_of_nft_are_errors(hosts: list[BridgeHost], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a thing that is not there counts as nothing."""

    def refuse(argv: list[str], **_: object) -> str:
        raise StargateError("Failed to list: no.", details="Operation not permitted")

    monkeypatch.setattr(_bridge_host, "run", refuse)
    with pytest.raises(StargateError, match="Failed to list"):
        hosts[0]._listed("set", "ip", "stargate", "networks")
