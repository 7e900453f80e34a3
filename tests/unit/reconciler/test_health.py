# SPDX-License-Identifier: Apache-2.0
"""What follows from what is seen of a machine: conditions, Events, and whether a repave is started, as tables.

Who looks and who acts is test_caretaker.py's.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.reconciler.fakes import NOW, stamp
from tests.unit.reconciler.wards import CARE, judged, machine, node, repaved, said, sight, told

from stargate_reconciler import health, rules
from stargate_reconciler import status as wording
from stargate_reconciler.health import Care
from stargate_reconciler.machines import Answer, NodeView

WAS_READY = said("NodeReady", "True", "Ready", 3600)
SAID_BAD = said("NodeReady", "False", "NodeNotReady")
SAID_UNSEEN = {"conditions": said("AutoRepave", "False", "NodeGoneUnseen")["conditions"] + SAID_BAD["conditions"]}
DEAD = Answer(good=False, text="refused")
BEHIND = machine(routerIP="r")
ROUTER_SAID = said("Reachable", "False", "RouterDown")


@pytest.mark.parametrize(
    ("seen", "status", "news"),
    [
        (node("True"), {"nodeName": "s1"}, ("True", "Ready")),
        (node("True"), WAS_READY, None),
        (node("False"), WAS_READY, ("False", "NodeNotReady")),
        (node("Unknown"), SAID_BAD, ("Unknown", "NodeStatusUnknown")),
        (None, SAID_BAD, ("False", "NodeGone")),
        (node("False"), SAID_BAD, None),
        (node("True", owner="dc-east/s1"), WAS_READY, ("Unknown", "NodeOfAnother")),
    ],
)
def test_node_ready(seen: NodeView | None, status: Any, news: tuple[str, str] | None) -> None:
    """NodeReady is what the Node says, and is written only when it is news."""
    assert told(judged(node=seen, status=status), "NodeReady") == news


@pytest.mark.parametrize(
    ("parts", "news"),
    [
        ({}, ("True", "Answers")),
        ({"answer": None}, None),
        ({"answer": DEAD}, ("False", "Unreachable")),
        ({"answer": DEAD, "node": node("True")}, None),
        ({"machine": BEHIND, "answer": DEAD}, ("False", "RouterDown")),
        ({"machine": BEHIND}, ("Unknown", "BehindRouter")),
        ({"machine": BEHIND, "node": node("True"), "status": ROUTER_SAID}, ("True", "NodeIsReady")),
        ({"node": node("True"), "status": said("Reachable", "False", "Unreachable")}, ("True", "Answers")),
        ({"node": node("True"), "status": said("Reachable", "True", "Reached"), "answer": DEAD}, None),
    ],
)
def test_reachable(parts: Any, news: tuple[str, str] | None) -> None:
    """Reachable is what a probe says, of a machine in doubt only; behind a router it takes a Ready Node."""
    assert told(judged(**parts), "Reachable") == news


@pytest.mark.parametrize(
    ("parts", "news"),
    [
        ({}, ("True", "Starting")),
        ({"machine": machine(maintenance={})}, None),
        ({"node": node("True")}, None),
        ({"bad_for": 299.0}, ("True", "Waiting")),
        ({"quiet_for": 10.0}, ("True", "Waiting")),
        ({"answer": None}, ("True", "Waiting")),
        ({"machine": machine(ipv4=None, mac="aa:bb:cc:dd:ee:01"), "answer": None}, ("True", "Starting")),
        ({"node": node(taken=True)}, ("False", "Cordoned")),
        ({"open": "Too many."}, ("False", "CircuitOpen")),
        ({"shared": True}, ("False", "NodeShared")),
        ({"machine": machine(provisioningProfile=None)}, ("False", "NoProfile")),
        ({"unfinished": "theirs"}, ("True", "OperationUnfinished")),
        ({"unfinished": "auto", "status": repaved(1, 5)}, ("True", "Started")),
        ({"answer": DEAD}, ("True", "Starting")),
        ({"answer": DEAD, "in_place": True}, ("False", "Unreachable")),
        ({"status": repaved(1, 599)}, ("True", "BackOff")),
        ({"status": repaved(1, 601)}, ("True", "Starting")),
        ({"status": repaved(2, 601)}, ("True", "BackOff")),
        ({"status": repaved(2, 1201)}, ("True", "Starting")),
        ({"status": repaved(3, 90000)}, ("False", "LimitReached")),
        ({"status": repaved(3, 90000, **said("NodeReady", "True", "Ready", 90000))}, ("True", "Starting")),
        ({"status": repaved(3, 90000, **said("NodeReady", "True", "Ready", 80000))}, ("False", "LimitReached")),
    ],
)
def test_auto_repave(parts: Any, news: tuple[str, str] | None) -> None:
    """A repave is started after the time that was asked for, and not where anything speaks against it."""
    verdict = judged(**parts)
    assert told(verdict, "AutoRepave") == news
    assert bool(verdict.start) == (news is not None and news[1] == "Starting")


@pytest.mark.parametrize(
    ("status", "last", "reason"),
    [
        (WAS_READY, None, "NodeGoneUnseen"),
        (WAS_READY, node("True"), "Starting"),
        (WAS_READY, node("True", taken=True), "Cordoned"),
        (SAID_BAD, None, "Starting"),
        (said("AutoRepave", "False", "Cordoned"), None, "Cordoned"),
        (SAID_UNSEEN, None, "NodeGoneUnseen"),
    ],
)
def test_nodes_that_are_gone(status: Any, last: NodeView | None, reason: str) -> None:
    """A Node that may have been taken away on purpose is not brought back."""
    verdict = judged(node=None, status=status, last=last)
    found = verdict.wanted.get("AutoRepave")
    assert (found[1] if found else status["conditions"][0]["reason"]) == reason
    assert bool(verdict.start) == (reason == "Starting")


def test_what_is_accounted_for_is_created_once() -> None:
    """A start that was written and then interrupted is made up for, under the same name and without another count."""
    starting = repaved(1, 5, conditions=said("AutoRepave", "True", "Starting")["conditions"])
    again = judged(status=starting)
    assert (again.start, again.fields) == ("auto", {})
    assert judged(status=starting, operations={"auto"}).start == ""
    assert judged(status=starting, open="Too many.").start == ""
    assert judged(status=starting, node=node("True")).start == ""


def test_the_first_start_is_accounted_for() -> None:
    """The status that goes before the Operation has its number, time and name, the same name for whoever asks."""
    verdict = judged()
    assert verdict.fields == {"autoRepave": {"times": 1, "lastTime": stamp(), "operation": verdict.start}}
    assert verdict.start == judged().start == health.operation_name(machine(), 1)
    assert verdict.start != health.operation_name(machine(), 2)


def test_earlier_repaves_are_forgotten_after_a_day() -> None:
    """When a Node that was well for a day falls ill, the account of its machine begins anew."""
    well = repaved(2, 90000, **said("NodeReady", "True", "Ready", 86400))
    assert judged(status=well, bad_for=0.0).fields == {"autoRepave": None}
    assert judged(status=well, node=node("True")).fields == {}


@pytest.mark.parametrize(("times", "seconds"), [(0, 0.0), (1, 600.0), (2, 1200.0), (3, 2400.0), (40, 86400.0)])
def test_pauses_grow(times: int, seconds: float) -> None:
    """Each repave that did not help doubles the pause, up to a day."""
    assert health.pause(Care(pause=600.0), times) == seconds


def test_looking_again_writes_nothing() -> None:
    """What was just written is not news, so a second look writes nothing and tells nobody."""
    first = judged(bad_for=1.0)
    kept = wording.conditions([], first.wanted, NOW, 1)
    again = judged(bad_for=2.0, status={"nodeName": "s1", "conditions": kept})
    assert (again.wanted, again.fields, again.notes) == ({}, {}, ())


def test_recovery_takes_the_condition_away() -> None:
    """A Node that is Ready again is told of, and AutoRepave is said no more."""
    waiting = said("AutoRepave", "True", "Waiting")
    ill = {**waiting, "conditions": [*waiting["conditions"], *SAID_BAD["conditions"]]}
    verdict = judged(node=node("True"), status=ill)
    assert (verdict.wanted["AutoRepave"], told(verdict, "NodeReady")) == (None, ("True", "Ready"))
    assert [note.reason for note in verdict.notes] == ["NodeReady"]


def test_events_are_for_changes() -> None:
    """A change of status has an Event each; a first Ready and a wait have none."""
    assert [n.reason for n in judged(status=WAS_READY).notes] == ["NodeNotReady", "AutoRepaveStarted"]
    assert judged(node=node("True")).notes == ()
    assert [n.reason for n in judged(status=WAS_READY, bad_for=1.0, answer=None).notes] == ["NodeNotReady"]
    assert [n.reason for n in judged(status=SAID_BAD, open="x").notes] == []


def test_the_operation_is_a_legal_one() -> None:
    """The Operation that is created breaks no rule, fits 253 characters, and tells no secret."""
    made = health.repave(machine(), health.operation_name(machine(), 1), "password=hunter2")
    assert rules.broken("Operation", made) == []
    assert made["metadata"]["labels"] == {"stargate.io/cause": "not-ready"}
    assert "hunter2" not in str(made)
    assert (made["spec"]["operation"], made["spec"]["provisioningProfileRef"]) == ("repave", {"name": "p1"})


def test_a_limit_of_nothing_is_never() -> None:
    """With --auto-repave-limit 0 no machine is repaved without being asked for."""
    assert health.assess(sight(), Care(limit=0)).start == ""
    assert health.assess(sight(), CARE).start
