# SPDX-License-Identifier: Apache-2.0
"""Whose cordon is taken away after a failure, when, and what is said when it is not.

What a Node has to be after a success is test_evidence.py's; that nothing is written before, test_reconcile.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.reconciler.bench import BROKE, Bench
from tests.unit.reconciler.fakes import FakeKube, cordoned, job, operation, raw_node, raw_operation, server

from stargate_reconciler.errors import Forbidden, Gone, UserError
from stargate_reconciler.evidence import CORDONED_BY
from stargate_reconciler.model import FormerNode, Object, Outcome, Result
from stargate_reconciler.witness import Witness

FAILED = Result(Outcome.FAILED, "Cancelled", "Cancelled.", retryable=False)
NOT_READY = raw_node(ready="False")


def told(kube: FakeKube, act: str = "repave", result: Result = FAILED) -> str:
    """Return the last word on an Operation of this kind."""
    return Witness(kube, {}).given_back(server(), operation(act=act), result).message  # type: ignore[arg-type]  # a fake


@pytest.mark.parametrize(
    ("node", "act", "given", "words"),
    [
        (cordoned(raw_node()), "repave", True, "Cancelled."),
        (cordoned(raw_node()), "decommission", True, "Cancelled."),
        (cordoned(raw_node()), "mine", False, "Cancelled."),
        (cordoned(raw_node(), "u-o2"), "repave", False, "Cancelled."),
        (raw_node(), "repave", False, "Cancelled."),
        (raw_node(annotations={CORDONED_BY: "u-o1"}), "repave", False, "Cancelled."),
        (None, "repave", False, "Cancelled."),
        (cordoned(NOT_READY), "repave", False, "stays cordoned (stargate.io/cordoned-by: u-o1)"),
    ],
)
def test_after_a_failure(node: Object | None, act: str, given: bool, words: str) -> None:
    """Only a cordon of this very Operation is taken away, from a Node that works; one that stays is said."""
    kube = FakeKube()
    kube.nodes["s1"] = node
    assert words in told(kube, act)
    assert kube.uncordoned == ([("s1", CORDONED_BY, "u-o1")] if given else [])


@pytest.mark.parametrize(("act", "revoked"), [("repave", ["s1"]), ("decommission", []), ("mine", [])])
def test_tokens_of_failures(act: str, revoked: list[str]) -> None:
    """A play that was stopped could not revoke the token of its join: it is done for it."""
    kube = FakeKube()
    kube.nodes["s1"] = None
    told(kube, act)
    assert kube.revoked == revoked


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("Node", Forbidden("No right."), "Cancelled. No right."),
        ("Uncordon", UserError("Somebody else was faster."), "Cancelled. Somebody else was faster."),
        ("Uncordon", Gone("404"), "Cancelled."),
    ],
)
def test_a_node_that_cannot_be_given_back(kind: str, error: Exception, words: str) -> None:
    """What stands in the way of giving a Node back is said with the failure."""
    kube = FakeKube()
    kube.nodes["s1"] = cordoned(raw_node())
    kube.refuse = lambda what, _: error if what == kind else None
    assert told(kube) == words


@pytest.mark.parametrize(
    ("node", "act", "spec", "expected"),
    [
        (raw_node(), "repave", {}, FormerNode("n-s1")),
        (None, "repave", {}, FormerNode()),
        ({**raw_node(), "spec": {"unschedulable": True}}, "reboot", {}, FormerNode("n-s1", cordoned=True)),
        (cordoned(raw_node(), "u-o0"), "reboot", {}, FormerNode("n-s1")),
        (raw_node(), "mine", {}, None),
        (raw_node(), "repave", {"provider": "dc-api"}, None),
    ],
)
def test_the_node_of_before(node: Object | None, act: str, spec: dict[str, str], expected: FormerNode | None) -> None:
    """The Node that a machine is before an Operation is known to its play, and whether a person had cordoned it."""
    kube = FakeKube()
    kube.nodes["s1"] = node
    target = replace(job(**spec), operation=operation(act=act))
    assert Witness(kube, {}).met(target).former_node == expected  # type: ignore[arg-type]  # a fake


def test_the_node_of_before_is_read_once() -> None:
    """A later attempt is told what the first one met; a missing right is left to the play."""
    kube = FakeKube()
    kube.refuse = lambda *_: Forbidden("No right.")
    witness = Witness(kube, {})  # type: ignore[arg-type]  # a fake
    later = operation(status={"formerNode": {"uid": "old", "cordoned": False}})
    assert witness.met(replace(job(), operation=later)).former_node == FormerNode("old")
    assert witness.met(job()).former_node is None


def test_a_success_is_not_looked_at() -> None:
    """After a success the play has given the Node back."""
    kube = FakeKube()
    kube.nodes["s1"] = cordoned(raw_node())
    assert told(kube, result=Result(Outcome.SUCCEEDED, message="Done.")) == "Done."
    assert (kube.uncordoned, kube.revoked) == ([], [])


def test_the_end_gives_the_node_back(bench: Callable[..., Bench]) -> None:
    """An attempt that is followed by another one keeps its cordon; the end takes it away."""
    b = bench(raw_operation(retryLimit=1), retry_base=0.0)
    b.kube.nodes["s1"] = cordoned(raw_node())
    b.launch().end(BROKE)
    b.look()
    assert b.kube.uncordoned == []
    b.launch().end(BROKE)
    b.look()
    assert (b.operation()["phase"], len(b.kube.uncordoned)) == ("Failed", 1)
