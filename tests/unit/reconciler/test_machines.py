# SPDX-License-Identifier: Apache-2.0
"""Which Server is which Node, which of them are ill, what is probed, and when a circuit opens, as tables.

What follows for one machine is test_health.py's.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.reconciler.fakes import raw_node, server, stamp
from tests.unit.reconciler.wards import machine, node, said

from stargate_reconciler import machines
from stargate_reconciler.machines import Answer, Count, NodeView, Target
from stargate_reconciler.model import Object

JOINED: Object = {"nodeName": "s1"}
NEVER: Object = {}


@pytest.mark.parametrize(
    ("status", "spec", "seen", "member", "bad"),
    [
        (NEVER, {}, None, False, False),
        (NEVER, {}, node("True"), False, False),
        (NEVER, {"ipv4": "10.9.9.9"}, node("False"), True, True),
        (NEVER, {"nodeName": "s1"}, node("False"), True, True),
        (NEVER, {}, node("False", owner="dc-west/s1"), True, True),
        (JOINED, {}, node("True"), True, False),
        (JOINED, {}, node("Unknown"), True, True),
        (JOINED, {}, node("False", owner="dc-east/s1"), False, False),
        (JOINED, {}, None, True, True),
        (said("NodeReady", "True", "Ready") | {"nodeName": None}, {}, None, True, True),
        (said("NodeReady", "False", "NodeMissing") | {"nodeName": None}, {}, None, False, False),
    ],
)
def test_whose_node_it_is(status: Object, spec: Object, seen: NodeView | None, member: bool, bad: bool) -> None:
    """A Node is a machine's by status, annotation, declared name or address; a mere equal name is not enough."""
    known = machine(status=status, **spec)
    assert (machines.is_member(known, seen), machines.is_bad(known, seen)) == (member, bad)


@pytest.mark.parametrize(
    ("spec", "target", "place"),
    [
        ({"ipv4": "10.0.0.1"}, Target("10.0.0.1", 22), ""),
        ({"ipv4": "10.0.0.1", "sshPort": 2222}, Target("10.0.0.1", 2222), ""),
        ({"routerIP": "r.example", "routerPort": 2200}, Target("r.example", 2200, is_router=True), "r.example:2200"),
        ({"routerIP": "fd00::1"}, Target("fd00::1", 22, is_router=True), "[fd00::1]:22"),
        ({"ipv4": None, "mac": "aa:bb:cc:dd:ee:01"}, None, ""),
        ({"ipv4": "-oProxyCommand=x"}, None, ""),
        ({"routerIP": "-x", "ipv4": "10.0.0.1"}, None, ""),
    ],
)
def test_what_is_probed(spec: Object, target: Target | None, place: str) -> None:
    """A machine is probed itself, or its router where it has one; nothing is where a value is not fit."""
    known = machine(**spec)
    assert (known.target, known.place) == (target, ("dc-west", place))


@pytest.mark.parametrize(
    ("care", "heals", "patience"),
    [
        ({}, False, 300.0),
        ({"autoRepave": "never", "notReadySeconds": 5}, False, 5.0),
        ({"autoRepave": "onNotReady", "notReadySeconds": 0}, True, 0.0),
        ({"autoRepave": "onNotReady", "notReadySeconds": 10**40}, True, 315360000.0),
        ({"autoRepave": "onNotReady", "notReadySeconds": -1}, True, 300.0),
        ({"autoRepave": "onNotReady", "notReadySeconds": "9"}, True, 300.0),
        ({"autoRepave": ["onNotReady"], "notReadySeconds": True}, False, 300.0),
        ("onNotReady", False, 300.0),
    ],
)
def test_policy_is_read_with_care(care: Any, heals: bool, patience: float) -> None:
    """Only the word onNotReady allows a repave; odd values count as the default."""
    known = machine(maintenance=care)
    assert (known.heals, known.patience) == (heals, patience)


def test_a_server_that_is_deleted_is_not_healed() -> None:
    """A Server that waits for its finalizers is left alone."""
    made = server(maintenance={"autoRepave": "onNotReady"})
    made.raw["metadata"]["deletionTimestamp"] = stamp()
    assert not machines.machine(made).heals


@pytest.mark.parametrize(
    ("total", "bad", "router", "opens"),
    [
        (1, 1, None, False),
        (2, 1, None, False),
        (2, 2, None, True),
        (5, 2, None, False),
        (10, 4, Answer(good=True), False),
        (10, 5, Answer(good=True), True),
        (100, 0, Answer(good=False, text="refused"), True),
    ],
)
def test_circuits(total: int, bad: int, router: Answer | None, opens: bool) -> None:
    """A circuit opens for more than the share and at least two machines, or for a router that does not answer."""
    why = machines.circuit(("dc-west", "r:22"), Count(total, bad), router, 0.4)
    assert bool(why) == opens


@pytest.mark.parametrize("odd", [{}, {"metadata": None}, {"status": {"conditions": "x", "addresses": 5}}, raw_node()])
def test_odd_nodes_are_read(odd: Object) -> None:
    """A Node without the usual parts is one that has not said that it is Ready; a whole one is read."""
    assert machines.node_view(odd).ready == ("True" if "spec" in odd else "Unknown")


def test_a_cordon_of_ours_is_no_persons() -> None:
    """A Node that an Operation cordoned was not taken out by a person."""
    ours = {"annotations": {"stargate.io/cordoned-by": "u-o1"}}
    raw = raw_node(**ours)
    raw["spec"]["unschedulable"] = True
    assert (machines.node_view(raw).taken, node(taken=True).taken) == (False, True)


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        (said("NodeReady", "False", "NodeNotReady", 90), 90),
        (said("NodeReady", "True", "Ready", 90), None),
        (NEVER, None),
    ],
)
def test_since_when_it_is_not_ready(status: Object, seconds: int | None) -> None:
    """What an earlier leader wrote counts, and nothing that it did not see."""
    since = machines.not_ready_since(status, None)
    assert (since.strftime("%Y-%m-%dT%H:%M:%SZ") if since else None) == (stamp(-seconds) if seconds else None)
