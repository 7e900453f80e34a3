# SPDX-License-Identifier: Apache-2.0
"""Waits for a Node whose time is made up: what counts, what the Node gets first and last, and when it is given up.

The same against a real API server is in tests/integration/test_node_action.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plugins.module_utils.fake_nodes import FakeNodes
from tests.unit.plugins.module_utils.test__node import CORDONED, NOT_READY, node

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, StargateError
from ansible_collections.stargate.core.plugins.module_utils._node import CORDONED_BY, SERVER, Dress, Wanted, Whose
from ansible_collections.stargate.core.plugins.module_utils._node_ready import Arrival, arrived

Object = dict[str, Any]


def wait(world: FakeNodes, said: list[str] | None = None, timeout: float = 100, **arrival: Any) -> Object:
    """Return the Node when it is ready."""
    given = {"wanted": Wanted(), "dress": Dress({"zone": "a"}), "operation_uid": "op", **arrival}
    waited = Arrival("w1", Whose("ns/w1"), **given)
    return dict(arrived(world, waited, timeout, (said if said is not None else []).append)[1])  # type: ignore[arg-type]  # a fake


def test_ready_at_once() -> None:
    """A Node that is ready gets what it lacks, and nothing is waited for; the second time nothing is patched."""
    world = FakeNodes(node())
    found = wait(world)
    assert found["metadata"]["labels"]["zone"] == "a"
    assert found["metadata"]["annotations"][SERVER] == "ns/w1"
    wait(world)
    assert (len(world.patches), world.clock.now) == (1, 1000.0)


def test_ready_later() -> None:
    """The Node of before does not count; the new one is dressed before it is ready, and uncordoned after."""
    annotations = {CORDONED_BY: "op"}
    world = FakeNodes(node())
    fresh = node(status=NOT_READY, spec=CORDONED, annotations=annotations)
    fresh["metadata"]["uid"] = "n2"
    ready = node(spec=CORDONED, annotations={**annotations, SERVER: "ns/w1"}, labels={"zone": "a"})
    ready["metadata"]["uid"] = "n2"
    world.at(5, "DELETED", node())
    world.at(20, "ADDED", fresh)
    world.at(31, "MODIFIED", ready)
    said: list[str] = []
    found = wait(world, said, wanted=Wanted("1.20", not_uid="n1"))
    assert (found["metadata"]["uid"], found["spec"]["unschedulable"]) == ("n2", None)
    assert [list(patch["metadata"]) for patch in world.patches] == [
        ["labels", "annotations", "resourceVersion"],
        ["annotations", "resourceVersion"],
    ]
    assert world.clock.now == 1031.0
    assert said == ["Node w1: container runtime is down."]


@pytest.mark.parametrize(
    ("found", "wanted", "code", "words"),
    [
        (None, Wanted(), "NodeNotReady", "has not registered"),
        (node(status=NOT_READY), Wanted(), "NodeNotReady", "container runtime is down"),
        (node(), Wanted("1.21"), "WrongVersion", "v1.20.2, and 1.21 was asked for"),
    ],
)
def test_never_ready(found: Object | None, wanted: Wanted, code: str, words: str) -> None:
    """When time is up, what is still missing is the failure."""
    world = FakeNodes(found)
    with pytest.raises(StargateError, match=words) as raised:
        wait(world, wanted=wanted)
    assert raised.value.code == code
    assert 1100 <= world.clock.now <= 1101


def test_another_machine_s() -> None:
    """A Node that says that it is another Server's is not waited for, and not touched."""
    world = FakeNodes(node(annotations={SERVER: "ns/other"}))
    with pytest.raises(StargateError) as raised:
        wait(world)
    assert (raised.value.code, world.patches) == ("NodeNameTaken", [])


def test_a_cordon_that_stays() -> None:
    """A new Node is cordoned in the end as a person had cordoned the one of before."""
    found = wait(FakeNodes(node()), keep_cordon=True)
    assert (found["spec"]["unschedulable"], found["metadata"]["annotations"].get(CORDONED_BY)) == (True, None)
    person = FakeNodes(node(spec={"unschedulable": True}))
    assert wait(person)["spec"]["unschedulable"]


def test_a_node_that_changes_meanwhile() -> None:
    """A conflict is planned anew."""
    world = FakeNodes(node())
    world.faults = [Conflict("changed")]
    assert wait(world)["metadata"]["labels"] == {"zone": "a"}
