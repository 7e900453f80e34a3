# SPDX-License-Identifier: Apache-2.0
"""What a success claims of a Node, and what the Node has to say to it, as tables.

That the Node is read before anything is written is test_reconcile.py's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.reconciler.fakes import job, operation, raw_node

from stargate_reconciler.evidence import Claim, claim, is_version, judged
from stargate_reconciler.model import FormerNode, Job, Object, Outcome, Result

WORKED = Result(Outcome.SUCCEEDED, facts={"os": "k8s-1.34.2", "message": "Done."}, host_keys=("k",))
MINE = {"annotations": {"stargate.io/server": "dc-west/s1"}}
THEIRS = {"annotations": {"stargate.io/server": "dc-west/s2"}}


def doing(act: str, *, no_profile: bool = False, **server: Any) -> Job:
    """Return a job of an operation of this kind on a Server of provider ssh."""
    made = replace(job(**server), operation=operation(act=act))
    return replace(made, profile=None) if no_profile else made


HAVING = replace(doing("repave"), former_node=FormerNode("old"))


@pytest.mark.parametrize(
    ("target", "facts", "expected"),
    [
        (doing("repave"), {}, Claim("s1", "dc-west/s1", version="1.34.2")),
        (doing("repave"), {"nodeUID": "u"}, Claim("s1", "dc-west/s1", uid="u", version="1.34.2")),
        (doing("repave", nodeName="n"), {}, Claim("n", "dc-west/s1", version="1.34.2")),
        (doing("repave"), {"nodeName": "n"}, Claim("n", "dc-west/s1", version="1.34.2")),
        (HAVING, {}, Claim("s1", "dc-west/s1", not_uid="old", version="1.34.2")),
        (replace(HAVING, operation=operation(act="upgrade")), {}, Claim("s1", "dc-west/s1", version="1.34.2")),
        (doing("repave", provider="dc-api"), {"dcJobID": "j"}, None),
        (doing("repave", provider="dc-api"), {"nodeUID": "u"}, Claim("s1", "dc-west/s1", uid="u", version="1.34.2")),
        (doing("upgrade"), {"kubeletVersion": "v1.34.3"}, Claim("s1", "dc-west/s1", version="1.34.2")),
        (doing("repave", no_profile=True), {"kubeletVersion": "v1.2.3"}, Claim("s1", "dc-west/s1", version="v1.2.3")),
        (doing("reboot"), {}, None),
        (doing("reboot"), {"nodeUID": "u"}, Claim("s1", "dc-west/s1", uid="u")),
        (doing("mine"), {"os": "x"}, None),
        (doing("check"), {}, None),
        (doing("decommission"), {}, Claim("s1", "dc-west/s1", gone=True)),
        (doing("decommission"), {"nodeUID": "u"}, Claim("s1", "dc-west/s1", gone=True, uid="u")),
    ],
)
def test_claims(target: Job, facts: dict[str, str], expected: Claim | None) -> None:
    """Who makes a Node claims one; others only when they report its uid; who takes it away claims that it is gone."""
    assert claim(target, facts, {}) == expected


A_NODE, GONE = Claim("s1", "dc-west/s1", uid="n-s1", version="1.34"), Claim("s1", "dc-west/s1", gone=True)


@pytest.mark.parametrize(
    ("wanted", "node", "reason", "words", "node_ready"),
    [
        (A_NODE, raw_node(), "", "", True),
        (A_NODE, None, "NodeMissing", "does not exist", False),
        (A_NODE, raw_node(uid="other"), "NodeMissing", "(its uid is other)", False),
        (replace(A_NODE, uid="", not_uid="n-s1"), raw_node(), "NodeMissing", "(its uid is n-s1)", False),
        (replace(A_NODE, not_uid="n-s1"), raw_node(), "NodeMissing", "(its uid is n-s1)", False),
        (A_NODE, raw_node(ready="False"), "NodeNotReady", "container runtime network not ready", False),
        (A_NODE, raw_node(ready="Unknown"), "NodeNotReady", "Node s1 is not Ready", False),
        (A_NODE, {"metadata": {"uid": "n-s1"}}, "NodeNotReady", "it has not said so", False),
        (A_NODE, raw_node(version="v1.33.9"), "WrongVersion", "v1.33.9, and 1.34 was asked for", True),
        (replace(A_NODE, uid="", version=""), raw_node(version="v1.2.3"), "", "", True),
        (GONE, None, "", "", None),
        (GONE, raw_node(), "NodeStillThere", "Node s1 is still in the cluster", None),
        (GONE, raw_node(**MINE), "NodeStillThere", "still", None),
        (GONE, raw_node(**THEIRS), "", "", None),
        (replace(GONE, uid="n-s1"), raw_node(), "NodeStillThere", "still", None),
        (replace(GONE, uid="n-s1"), raw_node(uid="other"), "", "", None),
    ],
)
def test_judgements(wanted: Claim, node: Object | None, reason: str, words: str, node_ready: bool | None) -> None:
    """A claim that the Node does not bear out is a failure that is tried again, and says what was seen."""
    found = judged(wanted, node, WORKED)
    assert (found.outcome, found.reason) == (Outcome.FAILED if reason else Outcome.SUCCEEDED, reason)
    assert words in found.message
    assert (found.retryable, found.node_ready, found.host_keys) == (True, node_ready, ("k",))
    assert found.facts["os"] == "k8s-1.34.2"


def test_what_was_seen_is_kept() -> None:
    """What the Node itself says replaces what the play told of it."""
    told = replace(WORKED, facts={"kubeletVersion": "v1.34.1", "podCIDR": "10.0.0.0/24", "os": "x"})
    assert judged(A_NODE, raw_node(), told).facts == {
        "os": "x",
        "nodeName": "s1",
        "nodeUID": "n-s1",
        "kubeletVersion": "v1.34.2",
        "bootID": "b1",
        "podCIDR": "10.244.1.0/24",
    }


@pytest.mark.parametrize("odd", [{}, {"metadata": 5}, {"status": {"conditions": {}}}, {"status": {"conditions": [5]}}])
def test_odd_nodes_are_not_ready(odd: Object) -> None:
    """A Node of any shape gets an answer."""
    assert judged(replace(A_NODE, uid=""), odd, WORKED).reason == "NodeNotReady"
    assert judged(GONE, odd, WORKED).reason == "NodeStillThere"


@pytest.mark.parametrize(
    ("version", "asked", "same"),
    [
        ("v1.34.2", "1.34", True),
        ("v1.34.2", "v1.34.2", True),
        ("v1.34.2", "1.34.20", False),
        ("v1.34.20", "1.34.2", False),
        ("v1.3.4", "1.34", False),
        ("", "1.34", False),
    ],
)
def test_versions(version: str, asked: str, same: bool) -> None:
    """A version without a patch release stands for all of them, and for nothing else."""
    assert is_version(version, asked) is same
