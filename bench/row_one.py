# SPDX-License-Identifier: Apache-2.0
"""One Operation, from apply to Succeeded, against bare ansible-playbook of the same play over the same host.

Two plays: the built-in repave through the mock datacenter, and five tasks over SSH.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path

from bench import objects, playbook, plays
from bench.api import Phases
from bench.results import Row, median
from bench.world import ROOT, World, say

BAR = "<= 1.15 x and <= 0.5 s more"
MOST_RATIO, MOST_EXTRA = 1.15, 0.5


@dataclass(frozen=True)
class Pair:
    """The two sides of a comparison: an operation in a namespace, and the same play without Stargate."""

    name: str
    namespace: str
    act: str
    bare: playbook.Playbook


def measure(world: World) -> list[Row]:
    """Return a row for each of the two plays."""
    rounds = 1 if world.small else 5
    url = world.start_datacenter(speed=10)
    operations = plays.write_playbooks(world.directory / "one-operations")
    daemon = world.start_daemon("--dc-api-url", url, "--operations-dir", str(operations))
    rows = [_compare(world, pair, rounds) for pair in (_by_datacenter(world, url), _by_ssh(world, operations))]
    world.end(daemon.process)
    return rows


def _by_datacenter(world: World, url: str) -> Pair:
    server, profile = objects.server(1), objects.profile()
    _create(world, "one-dc", server=server, profile=profile)
    inventory = plays.write_inventory(
        world.directory / "one-dc.json", [server], variables={"datacenters": {"*": {"url": url}}}, profile=profile
    )
    bare = playbook.Playbook(ROOT / "playbooks/operations/repave.yml", inventory, world.directory)
    return Pair("one repave by the datacenter API", "one-dc", "repave", bare)


def _by_ssh(world: World, operations: Path) -> Pair:
    hosts = world.start_hosts(1)
    server = objects.server(1, provider="ssh", ipv4="127.0.0.1", sshPort=hosts.ports[0])
    profile = objects.profile(sshCredentialsSecretRef="ssh")
    _create(world, "one-ssh", server=server, profile=profile)
    world.api.request("POST", "/api/v1/namespaces/one-ssh/secrets", hosts.secret())
    access = {"ansible_user": getpass.getuser(), "ansible_ssh_private_key_file": str(hosts.key)}
    inventory = plays.write_inventory(world.directory / "one-ssh.json", [server], variables=access, profile=profile)
    bare = playbook.Playbook(operations / "look-around.yml", inventory, world.directory)
    return Pair("one Operation of six tasks over SSH", "one-ssh", "look-around", bare)


def _create(world: World, namespace: str, *, server: objects.Object, profile: objects.Object) -> None:
    world.api.make_namespace(namespace)
    world.api.create(namespace, "provisioningprofiles", [profile])
    world.api.create(namespace, "servers", [server])


def _compare(world: World, pair: Pair, rounds: int) -> Row:
    ours, plain = [], []
    with Phases(world.api, pair.namespace) as phases:
        playbook.run(pair.bare)  # the first run of a play fills caches for both
        for number in range(rounds):
            plain.append(playbook.run(pair.bare))
            operation = objects.operation(f"{pair.act}-{number}", 1, act=pair.act)
            ours.append(phases.apply([operation], "Succeeded", seconds=60).seconds)
            say(f"{pair.act}: bare {plain[-1]:.2f} s, Operation {ours[-1]:.2f} s")
    ratio, more = median(ours) / median(plain), median(ours) - median(plain)
    return Row(
        f"{pair.name}, apply to Succeeded, against bare `ansible-playbook`",
        ratio,
        BAR,
        holds=ratio <= MOST_RATIO and more <= MOST_EXTRA,
        unit="x",
        detail={"operation_s": median(ours), "bare_s": median(plain), "more_s": more, "rounds": rounds},
    )
