# SPDX-License-Identifier: Apache-2.0
"""Drains whose time is made up: who is evicted when, what is waited for, how it ends, who gets the Node back.

The same against a real API server is in tests/integration/test_node_action.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plugins.module_utils.fake_nodes import Evict, FakeNodes, accepted, evicted
from tests.unit.plugins.module_utils.test__node import node
from tests.unit.plugins.module_utils.test__pods import BUDGET, pod

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Denied, StargateError, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._kube_answer import Answer
from ansible_collections.stargate.core.plugins.module_utils._node import CORDONED_BY
from ansible_collections.stargate.core.plugins.module_utils._node_drain import Drain, Policy

BLOCKED = Answer(429, {"message": "no", "details": {"causes": [{"reason": "DisruptionBudget", "message": BUDGET}]}})
UNKNOWN = {"conditions": [{"type": "Ready", "status": "Unknown"}]}


def drain(world: FakeNodes, said: list[str] | None = None, **policy: Any) -> Drain:
    """Return a drain for the operation op."""
    assert world.node is not None
    return Drain(world, dict(world.node), Policy("op", **policy), (said if said is not None else []).append)  # type: ignore[arg-type]  # a fake


def cordons(world: FakeNodes) -> tuple[bool, str | None]:
    """Return whether the Node is cordoned, and by whom."""
    assert world.node is not None
    return bool(world.node["spec"].get("unschedulable")), world.node["metadata"]["annotations"].get(CORDONED_BY)


def test_a_drain() -> None:
    """The Node is cordoned, each pod is asked to leave once, by its uid, and all are waited for."""
    world = FakeNodes(node(), pod("a"), pod("b"), pod("d", kind="DaemonSet"))
    after, gone, left = drain(world, eviction="policy/v1beta1").run()
    assert (cordons(world), [str(one) for one in gone], left) == ((True, "op"), ["ns/a", "ns/b"], [])
    assert after["spec"]["unschedulable"]
    assert [path for path, _, _ in world.asked] == [f"/api/v1/namespaces/ns/pods/{name}/eviction" for name in "ab"]
    body = world.asked[0][2]
    assert (body["apiVersion"], body["deleteOptions"]) == ("policy/v1beta1", {"preconditions": {"uid": "u-a"}})
    assert world.clock.now == 1003.0


def test_pods_that_come_and_go_meanwhile() -> None:
    """A pod that is ending already is waited for and not evicted; one that comes after the cordon is evicted too."""
    world = FakeNodes(node(), pod("going", deletionTimestamp="now"))
    world.at(2, "ADDED", pod("late"))
    world.pods["late"] = pod("late")
    world.at(9, "DELETED", world.pods["going"])
    gone = drain(world).run()[1]
    assert [str(one) for one in gone] == ["ns/late"]
    assert world.clock.now == 1009.0


def answers(*script: Answer) -> Evict:
    """Return what answers evictions by a script before it lets the pod go."""
    rest = list(script)

    def act(world: FakeNodes, name: str) -> Answer:
        return rest.pop(0) if rest else evicted(world, name)

    return act


@pytest.mark.parametrize(
    ("refusals", "times"),
    [
        ([BLOCKED, BLOCKED], [0, 5, 10]),
        ([Answer(429, BLOCKED.body, 12.0)], [0, 12]),
        ([Answer(500, {"message": "This pod has more than one PodDisruptionBudget"})], [0, 5]),
        ([Answer(409, {"message": "the uid does not match"})], [0, 5]),
        ([Answer(403, {"details": {"causes": [{"reason": "NamespaceTerminating"}]}})], [0, 5]),
    ],
)
def test_evictions_are_asked_again(refusals: list[Answer], times: list[float]) -> None:
    """A pod that may not leave yet is asked again when the API server says, or after five seconds."""
    world = FakeNodes(node(), pod("a"), evict=answers(*refusals))
    assert [str(one) for one in drain(world).run()[1]] == ["ns/a"]
    assert [when for _, when, _ in world.asked] == times


def test_a_pod_that_is_gone_already() -> None:
    """Nobody minds a pod that has gone between the list and its eviction."""
    world = FakeNodes(node(), pod("a"), evict=answers(Answer(404, {})))
    world.at(1, "DELETED", world.pods["a"])
    assert drain(world).run()[2] == []
    assert world.clock.now == 1001.0


def test_too_late() -> None:
    """When time is up, the pods and their budget are named, and the Node is given back."""
    said: list[str] = []
    world = FakeNodes(node(), pod("a"), pod("b"), evict=lambda w, name: BLOCKED if name == "a" else accepted(w, name))
    with pytest.raises(StargateError, match="PodDisruptionBudget web, or allow more time") as raised:
        drain(world, said, timeout=40).run()
    assert (raised.value.code, raised.value.retryable) == ("DrainBlocked", True)
    assert f"ns/a ({BUDGET}), ns/b (it is still ending)" in raised.value.details
    assert cordons(world) == (False, None)
    assert 1040 <= world.clock.now <= 1041
    assert (len(said), said[0]) == (2, f"Node w1: 2 pods are still there: ns/a ({BUDGET}), ns/b (is ending)")


def test_force() -> None:
    """With force a drain evicts what nobody makes again, goes on when time is up, and says who is left."""
    world = FakeNodes(
        node(), pod("a"), pod("bare", kind=None), evict=lambda w, n: BLOCKED if n == "a" else evicted(w, n)
    )
    _, gone, left = drain(world, timeout=12, force=True).run()
    assert ([str(one) for one in gone], [str(one) for one in left]) == (["ns/bare"], ["ns/a"])
    assert cordons(world) == (True, "op")


def test_refused_before_anything_is_changed() -> None:
    """A pod that nobody makes again is refused while planning."""
    world = FakeNodes(node(), pod("a"), pod("bare", kind=None))
    with pytest.raises(Conflict, match="ns/bare"):
        drain(world).plan()
    patch, pods = drain(world, force=True).plan()
    assert (patch["spec"], len(pods), world.patches) == ({"unschedulable": True}, 2, [])


def test_only_cordoned() -> None:
    """A drain that does not evict asks for no pods."""
    world = FakeNodes(node(), pod("a"))
    assert drain(world, evict=False).plan()[1] == []
    assert drain(world, evict=False).run()[1:] == ([], [])
    assert (cordons(world), world.asked) == ((True, "op"), [])


def test_nobody_home() -> None:
    """Where the kubelet is silent pods are told to leave, and nobody waits for what nobody would see."""
    world = FakeNodes(node(status=UNKNOWN), pod("a"), pod("going", deletionTimestamp="now"), evict=accepted)
    _, gone, left = drain(world).run()
    assert ([str(one) for one in gone], [str(one) for one in left]) == ([], ["ns/a", "ns/going"])
    assert world.clock.now == 1000.0


def test_a_budget_counts_where_nobody_is_home() -> None:
    """A budget is respected on a silent Node too."""
    world = FakeNodes(node(status=UNKNOWN), pod("a"), evict=lambda _w, _n: BLOCKED)
    with pytest.raises(StargateError) as raised:
        drain(world, timeout=10).run()
    assert raised.value.code == "DrainBlocked"


@pytest.mark.parametrize(("owner", "stays"), [(None, (True, None)), ("earlier", (False, None)), ("op", (False, None))])
def test_who_gets_the_node_back(owner: str | None, stays: tuple[bool, str | None]) -> None:
    """After a failure a person's cordon stands; ours, taken over or resumed, is taken away."""
    annotations = {CORDONED_BY: owner} if owner else {}
    world = FakeNodes(
        node(spec={"unschedulable": True}, annotations=annotations), pod("a"), evict=lambda _w, _n: BLOCKED
    )
    with pytest.raises(StargateError):
        drain(world, timeout=1).run()
    assert cordons(world) == stays


def test_a_right_that_is_missing() -> None:
    """A forbidden eviction ends the drain at once, and the Node is given back."""
    world = FakeNodes(node(), pod("a"), evict=answers(Answer(403, {"message": "pods/eviction is forbidden"})))
    with pytest.raises(Denied, match="Failed to evict pod ns/a: pods/eviction is forbidden"):
        drain(world).run()
    assert cordons(world) == (False, None)


def test_a_node_that_cannot_be_given_back() -> None:
    """When the Node cannot be given back either, the failure says that it stays cordoned, and by whom."""
    world = FakeNodes(node(), pod("a"), evict=lambda _w, _n: BLOCKED)
    plan = drain(world, timeout=1)

    def lose(cluster: FakeNodes, _name: str) -> Answer:
        cluster.faults = [Unreachable("Failed to uncordon Node w1: no answer.")]
        return BLOCKED

    world.evict = lose
    with pytest.raises(
        StargateError, match=r"stays cordoned \(stargate.io/cordoned-by: op\). Failed to uncordon"
    ) as raised:
        plan.run()
    assert (raised.value.code, raised.value.retryable) == ("DrainBlocked", True)


def test_a_node_that_changes_all_the_time() -> None:
    """A change in between is no obstacle to a cordon; one that never ends is."""
    world = FakeNodes(node())
    world.faults = [Conflict("changed"), Conflict("changed")]
    assert drain(world).run()[0]["spec"]["unschedulable"]
    world = FakeNodes(node())
    world.faults = [Conflict("changed") for _ in range(50)]
    with pytest.raises(Conflict, match="faster than it can be patched"):
        drain(world).run()


def test_a_node_that_vanishes() -> None:
    """A Node that is deleted while it is cordoned is told as such, and worth another try."""
    world = FakeNodes(node())
    plan = drain(world)
    world.node, world.faults = None, [Conflict("changed")]
    with pytest.raises(StargateError, match="deleted meanwhile") as raised:
        plan.run()
    assert raised.value.retryable
