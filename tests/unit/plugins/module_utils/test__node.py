# SPDX-License-Identifier: Apache-2.0
"""Tables of Nodes: whose they are, who has cordoned them, whether they are as asked, and what is patched.

Drains and waits that use them are in test__node_drain.py and test__node_ready.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _node
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._node import CORDONED_BY, SERVER, Dress, Wanted, Whose

Object = dict[str, Any]
READY = {"type": "Ready", "status": "True", "message": "kubelet is posting ready status"}


def node(**parts: Any) -> Object:
    """Return a Node of uid n1 at resource version 7 whose kubelet v1.20.2 is ready, changed by annotations, spec, …"""
    status = {
        "conditions": [{"type": "MemoryPressure", "status": "False"}, READY],
        "nodeInfo": {"kubeletVersion": "v1.20.2", "bootID": "b1"},
        "addresses": [{"type": "Hostname", "address": "w1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
    }
    metadata = {"name": "w1", "uid": "n1", "resourceVersion": "7", "annotations": parts.get("annotations", {})}
    return {
        "metadata": {**metadata, "labels": parts.get("labels", {})},
        "spec": parts.get("spec", {}),
        "status": {**status, **parts.get("status", {})},
    }


@pytest.mark.parametrize("name", ["", "W1", "-w", "w_1", "w..1", "../w", "x" * 254])
def test_names(name: str) -> None:
    """What cannot be the name of a Node is refused before anybody is asked."""
    _node.check_name("dc-west-worker-1.example")
    with pytest.raises(Invalid):
        _node.check_name(name)


@pytest.mark.parametrize(
    ("found", "whose", "is_taken"),
    [
        (None, Whose("ns/w1"), False),
        (node(annotations={SERVER: "ns/w1"}), Whose("ns/w1", address="10.9.9.9"), False),
        (node(annotations={SERVER: "ns/w2"}), Whose("ns/w1", address="10.0.0.1"), True),
        (node(), Whose("ns/w1", address="10.0.0.1"), False),
        (node(), Whose("ns/w1", address="10.0.0.2"), True),
        (node(), Whose("ns/w1"), True),
        (node(status={"addresses": []}), Whose("ns/w1"), False),
        (node(annotations={SERVER: "ns/w2"}), Whose(), False),
    ],
)
def test_whose_it_is(found: Object | None, whose: Whose, is_taken: bool) -> None:
    """The annotation decides; without one the address does, and without any address the Node is free."""
    refusal = _node.taken(found, whose)
    assert (refusal is not None) == is_taken
    if refusal is not None:
        assert (refusal.code, refusal.retryable) == ("NodeNameTaken", False)
        assert "ns/w1" in refusal.message


def test_a_new_node_is_not_asked_for_its_address() -> None:
    """A machine that has just joined may have another address than the one that it is reached at."""
    assert _node.taken(node(), Whose("ns/w1", address="10.0.0.2"), by_address=False) is None
    assert _node.taken(node(annotations={SERVER: "ns/w2"}), Whose("ns/w1"), by_address=False) is not None


@pytest.mark.parametrize(
    ("kubelet", "server", "fits"),
    [
        ("1.20", "v1.20.2", True),
        ("1.20.15", "v1.20.2", True),
        ("1.18", "v1.20.2", True),
        ("1.17.3", "v1.20.2", False),
        ("1.21", "v1.20.2", False),
        ("v1.24.1", "v1.27.3-gke.100", False),
        ("1.25", "v1.27.3-gke.100", True),
        ("1.25", "v1.28.0", True),
        ("1.24", "v1.28.0", False),
        ("1.31", "v1.34.1+k3s1", True),
        ("1.35", "v1.34.1+k3s1", False),
        ("", "v1.20.2", True),
        ("1.34", "", True),
        ("1.34", "v0.0.0-master+$Format:%h$", True),
    ],
)
def test_version_skew(kubelet: str, server: str, fits: bool) -> None:
    """Not newer than the API server, three minor versions older at most, two for servers before 1.28."""
    refusal = _node.skewed(kubelet, server)
    assert (refusal is None) == fits
    if refusal is not None:
        assert (refusal.code, refusal.retryable) == ("VersionSkew", False)
        assert kubelet.removeprefix("v") in refusal.message
        assert server[1:7] in refusal.message


def test_the_range_is_said() -> None:
    """A refusal names both versions and what would be allowed."""
    refusal = _node.skewed("1.21", "v1.20.2")
    assert refusal is not None
    assert refusal.details == "kubelet v1.21, API server v1.20.2, allowed from 1.18 to 1.20"


NOT_READY = {"conditions": [{**READY, "status": "False", "message": "container runtime is down."}]}


@pytest.mark.parametrize(
    ("found", "wanted", "code", "details"),
    [
        (node(), Wanted(), "", ""),
        (node(), Wanted("1.20", "n0", "b0"), "", ""),
        (node(), Wanted("v1.20.2"), "", ""),
        (None, Wanted(), "NodeNotReady", "not registered"),
        (node(), Wanted(not_uid="n1"), "NodeNotReady", "uid n1"),
        (node(), Wanted(not_boot_id="b1"), "NodeNotReady", "boot id b1"),
        (node(status=NOT_READY), Wanted(), "NodeNotReady", "container runtime is down."),
        (node(status={"conditions": []}), Wanted(), "NodeNotReady", "not reported"),
        (node(), Wanted("1.20.3"), "WrongVersion", "v1.20.2"),
        (node(), Wanted("1.2"), "WrongVersion", "v1.20.2"),
    ],
)
def test_what_is_lacking(found: Object | None, wanted: Wanted, code: str, details: str) -> None:
    """What a Node still lacks is said in the words of its own condition where it has some."""
    lack = _node.lacking(found, "w1", wanted)
    assert ("" if lack is None else lack.code) == code
    if lack is not None:
        assert details in lack.details
        assert lack.retryable == (code == "NodeNotReady")


CORDONED = {"unschedulable": True}


@pytest.mark.parametrize(
    ("found", "patches"),
    [
        (node(), True),
        (node(annotations={CORDONED_BY: "op"}), True),
        (node(spec=CORDONED, annotations={CORDONED_BY: "op"}), False),
        (node(spec=CORDONED, annotations={CORDONED_BY: "earlier"}), True),
        (node(spec=CORDONED), False),
    ],
)
def test_cordon(found: Object, patches: bool) -> None:
    """A cordon is made ours, also when it is of an earlier Operation; a person's is left."""
    wanted = {
        "metadata": {"annotations": {CORDONED_BY: "op"}, "resourceVersion": "7"},
        "spec": {"unschedulable": True},
    }
    assert _node.cordon(found, "op") == (wanted if patches else {})


@pytest.mark.parametrize(
    ("found", "patches"),
    [
        (None, False),
        (node(), False),
        (node(spec=CORDONED), False),
        (node(spec=CORDONED, annotations={CORDONED_BY: "other"}), False),
        (node(spec=CORDONED, annotations={CORDONED_BY: "op"}), True),
        (node(annotations={CORDONED_BY: "op"}), True),
    ],
)
def test_uncordon(found: Object | None, patches: bool) -> None:
    """Only what this very Operation has cordoned is given back, and what is left of its mark is wiped off."""
    wanted = {"metadata": {"annotations": {CORDONED_BY: None}, "resourceVersion": "7"}, "spec": {"unschedulable": None}}
    assert _node.uncordon(found, "op") == (wanted if patches else {})


def test_a_person_s_cordon_comes_back() -> None:
    """A new Node is cordoned without our mark when a person had cordoned the one of before."""
    assert _node.as_a_person(node(spec=CORDONED)) == {}
    for found in (node(), node(spec=CORDONED, annotations={CORDONED_BY: "op"})):
        assert _node.as_a_person(found)["spec"] == {"unschedulable": True}


def test_dressing() -> None:
    """Only what is missing is patched; taints of another key or effect stay."""
    has = node(labels={"a": "1", "b": "x"}, spec={"taints": [{"key": "k", "value": "old", "effect": "NoExecute"}]})
    taints = [{"key": "k", "value": "new", "effect": "NoExecute"}, {"key": "k", "value": "", "effect": "NoSchedule"}]
    patch = _node.dressing(has, Whose("ns/w1", "u1"), Dress({"a": "1", "b": 2, "c": True}, {"note": "n"}, taints))
    assert patch["metadata"]["labels"] == {"b": "2", "c": "true"}
    assert patch["metadata"]["annotations"] == {SERVER: "ns/w1", "stargate.io/server-uid": "u1", "note": "n"}
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["spec"]["taints"] == [
        {"key": "k", "value": "new", "effect": "NoExecute"},
        {"key": "k", "effect": "NoSchedule"},
    ]


def test_dressed_already() -> None:
    """A Node that has everything is not patched; a taint that somebody else has set is none of ours."""
    taints = [{"key": "k", "value": "v", "effect": "NoSchedule"}, {"key": "other", "effect": "NoExecute"}]
    has = node(labels={"a": "1"}, annotations={SERVER: "ns/w1"}, spec={"taints": taints})
    assert _node.dressing(has, Whose("ns/w1"), Dress({"a": "1"}, {}, taints[:1])) == {}
    assert _node.dressing(has, Whose(), Dress()) == {}
    more = [{"key": "new", "value": "", "effect": "NoSchedule"}]
    spec = _node.dressing(has, Whose(), Dress(taints=more))["spec"]
    assert spec["taints"] == [*taints, {"key": "new", "effect": "NoSchedule"}]


def test_told() -> None:
    """A result has the whole Node in one flat dictionary, also when there is none."""
    told = _node.told(node(spec={**CORDONED, "podCIDR": "10.244.1.0/24"}, annotations={CORDONED_BY: "op"}), "w1", "op")
    assert (told["exists"], told["uid"], told["version"], told["ready"]) == (True, "n1", "v1.20.2", True)
    assert (told["address"], told["pod_cidr"], told["boot_id"]) == ("10.0.0.1", "10.244.1.0/24", "b1")
    assert (told["unschedulable"], told["cordoned_by_us"], told["cordoned_by_person"]) == (True, True, False)
    nothing = _node.told(None, "w1", "op")
    assert nothing["name"] == "w1"
    assert not any(value for key, value in nothing.items() if key != "name")
    assert set(nothing) == set(told)


def test_cordons_told_apart() -> None:
    """A cordon is ours, another Operation's, or a person's."""
    other = _node.told(node(spec=CORDONED, annotations={CORDONED_BY: "other"}), "w1", "op")
    person = _node.told(node(spec=CORDONED), "w1", "op")
    assert [(told["cordoned_by_us"], told["cordoned_by_person"]) for told in (other, person)] == [
        (False, False),
        (False, True),
    ]


@pytest.mark.parametrize(("status", "silent"), [("True", False), ("False", False), ("Unknown", True), (None, True)])
def test_silence(status: str | None, silent: bool) -> None:
    """A kubelet that says that it is not ready still does what it is told; one that says nothing does not."""
    conditions = [{"type": "Ready", "status": status}] if status else []
    assert _node.is_silent(node(status={"conditions": conditions})) == silent


def test_difference() -> None:
    """A diff shows what a patch touches, before and after, and nothing else."""
    has = node(labels={"a": "1", "z": "9"}, spec=CORDONED)
    patch = {"metadata": {"labels": {"a": "2"}, "annotations": {"n": "x"}, "resourceVersion": "7"}, "spec": CORDONED}
    assert _node.difference(has, patch) == {
        "before": {"label a": "1", "annotation n": None, "unschedulable": True},
        "after": {"label a": "2", "annotation n": "x", "unschedulable": True},
    }
    assert _node.difference(None, {}) == {"before": {}, "after": {}}
