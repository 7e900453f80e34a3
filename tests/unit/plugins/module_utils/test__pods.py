# SPDX-License-Identifier: Apache-2.0
"""Tables of pods: who has to leave a Node, who stays, who stands in the way, and how that is said.

Drains that use them are in test__node_drain.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _pods
from ansible_collections.stargate.core.plugins.module_utils._pods import Pod

Object = dict[str, Any]


def pod(name: str = "p", kind: str | None = "ReplicaSet", phase: str = "Running", **metadata: Any) -> Object:
    """Return a pod whose controller is of a kind, or that has none."""
    owners = [{"kind": kind, "controller": True}] if kind else []
    known = {"namespace": "ns", "name": name, "uid": f"u-{name}", "ownerReferences": owners}
    return {"metadata": {**known, **metadata}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("found", "leaves"),
    [
        (pod(), True),
        (pod(phase="Pending"), True),
        (pod(kind="DaemonSet"), False),
        (pod(kind="DaemonSet", ownerReferences=[{"kind": "DaemonSet"}]), True),
        (pod(annotations={"kubernetes.io/config.mirror": "abc"}), False),
        (pod(phase="Succeeded"), False),
        (pod(phase="Failed"), False),
        (pod(kind=None), True),
        ({"metadata": {"namespace": "ns", "name": "p", "uid": "u"}}, True),
    ],
)
def test_who_leaves(found: Object, leaves: bool) -> None:
    """All but pods of DaemonSets, static ones, and those that have ended."""
    assert bool(_pods.movable([found])) == leaves


def test_what_is_known_of_a_pod() -> None:
    """Pods come in the order of their names, each knows whether somebody makes it again and whether it is going."""
    found = _pods.movable([pod("b", kind=None), pod("a", deletionTimestamp="2026-01-01T00:00:00Z")])
    assert found == [Pod("ns", "a", "u-a", is_going=True), Pod("ns", "b", "u-b", is_bare=True)]
    assert [str(one) for one in found] == ["ns/a", "ns/b"]


def test_bare_pods_are_refused() -> None:
    """A pod that nobody makes again forbids a drain from the start, unless it is going anyway."""
    assert _pods.refusal("w1", _pods.movable([pod()])) is None
    assert _pods.refusal("w1", [Pod("ns", "a", "u", is_bare=True, is_going=True)]) is None
    refusal = _pods.refusal("w1", [Pod("ns", f"p{number}", "u", is_bare=True) for number in range(7)])
    assert refusal is not None
    assert (refusal.code, refusal.retryable) == ("DrainBlocked", False)
    assert refusal.details == "ns/p0, ns/p1, ns/p2, ns/p3, ns/p4 and 2 more"


BUDGET = "The disruption budget web needs 2 healthy pods and has 2 currently"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"message": "Cannot evict.", "details": {"causes": [{"reason": "DisruptionBudget", "message": BUDGET}]}},
            BUDGET,
        ),
        (
            {"message": "This pod has more than one PodDisruptionBudget, which is not supported."},
            "This pod has more than one PodDisruptionBudget, which is not supported",
        ),
        (
            {"message": "Cannot evict pod as it would violate the pod's disruption budget."},
            "Cannot evict pod as it would violate the pod's disruption budget",
        ),
        ({"message": "too many requests", "details": {"causes": [{"reason": "Other"}]}}, ""),
        ({}, ""),
    ],
)
def test_budgets(body: Object, said: str) -> None:
    """The API server's words about a budget are found wherever a version has them."""
    assert _pods.budget_said(body) == said


def test_a_drain_that_is_stuck() -> None:
    """Each pod is named with why it is still there, the budgets once more; a retry may go better."""
    reasons = {Pod("ns", "a", "1"): BUDGET, Pod("ns", "b", "2"): "it is still ending"}
    error = _pods.stuck("w1", 300, reasons)
    assert (error.code, error.retryable) == ("DrainBlocked", True)
    assert f"ns/a ({BUDGET}), ns/b (it is still ending)" in error.message
    assert "PodDisruptionBudget web," in error.message
    alone = _pods.stuck("w1", 0, {Pod("ns", "b", "2"): "it is still ending"}).message
    assert "1 pod is still there" in alone
    assert "PodDisruptionBudget" not in alone
