# SPDX-License-Identifier: Apache-2.0
"""The planner's table: what is known of one Server, and what should happen now. One row per branch.

What is missing or wrong has a table of its own, test_plan_lacks.py; what decisions do is test_reconcile.py's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.reconciler.fakes import NOW, began, ended, operation, server, stamp
from tests.unit.reconciler.worlds import BROKE, HELD, INTERRUPTED, LIMIT, O1, O2, POLICY, WORKED, live, told, world

from stargate_reconciler import plan
from stargate_reconciler.model import Operation, Outcome, Result
from stargate_reconciler.plan import World, decisions

HOPELESS = replace(BROKE, retryable=False)
OLD, NEW = operation("z-old", age=9), operation("a-new", age=1)
RUNS = operation("o1", status=began(10))
BACKOFF = operation("o1", status=began(10, phase="Pending", retryAfter=stamp(7)))
PATIENT = operation("o1", status=began(10, phase="Pending", retryAfter=stamp(-1)))
STARTED_LATER = operation("z", age=1, status=began(5))


@pytest.mark.parametrize(
    ("operations", "holder", "lively", "expected"),
    [
        ([], "", set(), None),
        ([operation(status=ended())], "o1", set(), None),
        ([NEW, OLD], "", set(), "z-old"),
        ([O2, O1], "", set(), "o1"),
        ([OLD, NEW], "a-new", set(), "a-new"),
        ([OLD, STARTED_LATER], "z-old", set(), "z"),
        ([OLD, replace(PATIENT, name="again")], "z-old", set(), "again"),
        ([OLD, replace(RUNS, name="one"), replace(RUNS, name="two")], "two", set(), "two"),
        ([OLD, NEW], "", {"u-a-new"}, "a-new"),
        ([OLD, NEW, replace(RUNS, name="r", uid="u-r")], "r", {"u-a-new"}, "a-new"),
    ],
)
def test_head(operations: list[Operation], holder: str, lively: set[str], expected: str | None) -> None:
    """It is the turn of whoever is live, then begun, then holds the lock, then is oldest, then first by name."""
    found = plan.head(operations, holder, lively)
    assert (found.name if found else None) == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(world(), [], id="nothing to do"),
        pytest.param(world(O1), [("Start", "o1")], id="new"),
        pytest.param(world(RUNS), [("Start", "o1")], id="begun before a crash"),
        pytest.param(world(RUNS, on=HELD), [("Start", "o1")], id="begun and holds the lock"),
        pytest.param(world(PATIENT, on=HELD), [("Start", "o1")], id="back-off has passed"),
        pytest.param(world(BACKOFF, on=HELD), [("Recheck", "7")], id="back-off"),
        pytest.param(world(operation(cancel=True)), [("End", "o1", "Cancelled", "untouched")], id="cancelled"),
        pytest.param(
            world(operation(cancel=True, status=began())),
            [("End", "o1", "Cancelled", "touched")],
            id="cancelled after a crash",
        ),
        pytest.param(
            world(operation(cancel=True, status=dict(BACKOFF.status))),
            [("End", "o1", "Cancelled", "touched")],
            id="cancelled in back-off",
        ),
        pytest.param(world(OLD, NEW), [("Start", "z-old"), ("Wait", "a-new", "ServerBusy", "")], id="two"),
        pytest.param(
            world(OLD, replace(NEW, cancel=True)),
            [("Start", "z-old"), ("End", "a-new", "Cancelled", "untouched")],
            id="cancelled while it waits for another",
        ),
        pytest.param(
            world(operation(status=began(61), **LIMIT)),
            [("End", "o1", "DeadlineExceeded", "touched")],
            id="deadline passed while nobody ran it",
        ),
        pytest.param(
            world(operation(status=began(3601))), [("End", "o1", "DeadlineExceeded", "touched")], id="default deadline"
        ),
        pytest.param(
            world(operation(status=began(55, phase="Pending", retryAfter=stamp(300)), **LIMIT)),
            [("Recheck", "5")],
            id="deadline before the back-off ends",
        ),
        pytest.param(world(operation(age=9999, **LIMIT)), [("Start", "o1")], id="deadline counts from the start"),
        pytest.param(
            world(operation(status=began(observedGeneration=1, acceptedSpec={"server": "s1", "operation": "mine"}))),
            [("NoteEdit", "o1"), ("Start", "o1")],
            id="edited after the start",
        ),
        pytest.param(
            world(operation(act="reboot", provisioningProfileRef=None), profiles={}),
            [("Start", "o1")],
            id="no profile needed",
        ),
        pytest.param(
            world(operation(provisioningProfileRef=None), on=server(provisioningProfile="p1")),
            [("Start", "o1")],
            id="the Server's profile",
        ),
    ],
)
def test_without_a_run(case: World, expected: list[tuple[str, ...]]) -> None:
    """An Operation that has no run starts, waits for its time, or ends."""
    assert told(decisions(case, POLICY)) == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(world(O1, live=live(O1, run_id="")), [], id="in a batch"),
        pytest.param(world(RUNS, live=live(O1)), [("Recheck", "3590")], id="runs"),
        pytest.param(
            world(RUNS, live=live(O1, stage="join")), [("Recheck", "3590"), ("Stage", "o1", "join", "")], id="new step"
        ),
        pytest.param(
            world(operation(status=began(stage="join")), live=live(O1, stage="join")), [("Recheck", "3600")], id="shown"
        ),
        pytest.param(
            world(operation(status=began(stage="join")), live=live(O1, stage="join", job_id="j")),
            [("Recheck", "3600"), ("Stage", "o1", "join", "j")],
            id="new job id",
        ),
        pytest.param(
            world(operation(status=began(stage="join", dcJobID="j")), live=live(O1, stage="join")),
            [("Recheck", "3600")],
            id="job id of an earlier attempt stays",
        ),
        pytest.param(world(O1, live=live(O1, stage="join")), [], id="step before Running is seen"),
        pytest.param(
            world(replace(RUNS, cancel=True), live=live(O1)),
            [("Stop", "o1", "Cancelled")],
            id="cancelled",
        ),
        pytest.param(
            world(operation(cancel=True), live=live(O1, run_id="")), [("Stop", "o1", "Cancelled")], id="in a batch, off"
        ),
        pytest.param(
            world(replace(RUNS, cancel=True), live=live(O1, stopping="Cancelled")), [], id="is being stopped already"
        ),
        pytest.param(
            world(operation(status=began(60), **LIMIT), live=live(O1)), [("Stop", "o1", "DeadlineExceeded")], id="late"
        ),
        pytest.param(
            world(operation(status=began(59), **LIMIT), live=live(O1)), [("Recheck", "1")], id="a second is left"
        ),
        pytest.param(
            world(RUNS, replace(O2, created=NOW), live=live(O1)),
            [("Recheck", "3590"), ("Wait", "o2", "ServerBusy", "")],
            id="another waits",
        ),
    ],
)
def test_with_a_run(case: World, expected: list[tuple[str, ...]]) -> None:
    """A live run is shown, or stopped once; nothing else happens on its Server."""
    assert told(decisions(case, POLICY)) == expected


def with_result(result: Result, failures: int = 0, limit: int | None = None, **parts: Any) -> World:
    """Return a world whose live run has just had a result."""
    target = operation(status=began(10, failures=failures), retryLimit=limit)
    return world(target, on=HELD, live=live(target, result=result, **parts))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (with_result(WORKED), ("End", "o1", "succeeded", "touched")),
        (with_result(BROKE), ("Retry", "o1", "10")),
        (with_result(BROKE, 1), ("Retry", "o1", "20")),
        (with_result(BROKE, 2), ("End", "o1", "TaskFailed", "touched")),
        (with_result(BROKE, 0, 0), ("End", "o1", "TaskFailed", "touched")),
        (with_result(BROKE, 9, 100), ("Retry", "o1", "300")),
        (with_result(HOPELESS), ("End", "o1", "TaskFailed", "touched")),
        (with_result(INTERRUPTED), ("Resume", "o1")),
        (with_result(INTERRUPTED, 2), ("Resume", "o1")),
        (with_result(INTERRUPTED, stopping="Shutdown"), ("Resume", "o1")),
        (with_result(BROKE, 2, stopping="LeaseLost"), ("End", "o1", "TaskFailed", "touched")),
        (with_result(INTERRUPTED, stopping="Cancelled"), ("End", "o1", "Cancelled", "touched")),
        (with_result(INTERRUPTED, stopping="Cancelled", run_id=""), ("End", "o1", "Cancelled", "untouched")),
        (with_result(BROKE, stopping="DeadlineExceeded"), ("End", "o1", "DeadlineExceeded", "touched")),
        (with_result(WORKED, stopping="Cancelled"), ("End", "o1", "succeeded", "touched")),
        (world(BACKOFF, on=HELD, live=live(BACKOFF, result=BROKE)), ("Resume", "o1")),
        (with_result(Result(Outcome.UNREACHABLE, "Unreachable")), ("Retry", "o1", "10")),
        (with_result(Result(Outcome.CRASHED, "RunCrashed")), ("Retry", "o1", "10")),
        (with_result(Result(Outcome.EMPTY, "NoResult", retryable=False)), ("End", "o1", "NoResult", "touched")),
    ],
)
def test_with_a_result(case: World, expected: tuple[str, ...]) -> None:
    """A result ends the Operation, is tried again, or goes on elsewhere; an interruption costs no retry."""
    assert told(decisions(case, POLICY)) == [expected]


GONE = operation("gone")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(world(live=live(GONE)), [("Stop", "gone", "Deleted")], id="deleted while it runs"),
        pytest.param(world(live=live(GONE, stopping="Deleted")), [], id="is being stopped"),
        pytest.param(
            world(live=live(GONE, result=INTERRUPTED)), [("End", "gone", "Deleted", "touched")], id="stopped now"
        ),
        pytest.param(
            world(live=live(GONE, run_id="", result=INTERRUPTED)),
            [("End", "gone", "Deleted", "untouched")],
            id="deleted in a batch",
        ),
        pytest.param(
            world(live=live(GONE, result=WORKED)), [("End", "gone", "succeeded", "touched")], id="had succeeded"
        ),
        pytest.param(
            world(O1, live=live(GONE)),
            [("Stop", "gone", "Deleted"), ("Wait", "o1", "ServerBusy", "")],
            id="the next one waits until the run of a deleted one has ended",
        ),
        pytest.param(
            world(O1, live=live(GONE, stopping="Deleted")), [("Wait", "o1", "ServerBusy", "")], id="and goes on waiting"
        ),
        pytest.param(
            world(replace(O1, cancel=True), live=live(GONE, stopping="Deleted")),
            [("End", "o1", "Cancelled", "untouched")],
            id="unless it is cancelled",
        ),
        pytest.param(
            world(operation("gone", age=-5), live=live(replace(GONE, uid="u-before"))),
            [("Stop", "gone", "Deleted"), ("Wait", "gone", "ServerBusy", "")],
            id="made anew under the same name",
        ),
        pytest.param(
            world(operation(status=ended()), live=live(O1)), [("Stop", "o1", "Ended")], id="ended by another hand"
        ),
        pytest.param(
            world(operation(status=ended()), O2, live=live(O1, result=WORKED)),
            [("End", "o1", "succeeded", "touched"), ("Wait", "o2", "ServerBusy", "")],
            id="its end was written and the answer lost",
        ),
        pytest.param(world(on=HELD), [("Unlock", "")], id="the lock's holder was deleted"),
        pytest.param(world(operation(status=ended()), on=HELD), [("Unlock", "o1")], id="the lock's holder has ended"),
        pytest.param(world(on=HELD, live=live(O1)), [("Stop", "o1", "Deleted")], id="no unlock before the run is over"),
        pytest.param(
            world(O2, on=HELD), [("Unlock", ""), ("Start", "o2")], id="the next one, while the lock is given back"
        ),
    ],
)
def test_vanished(case: World, expected: list[tuple[str, ...]]) -> None:
    """A run whose Operation is gone is stopped, its lock given back, and nothing starts beside it."""
    assert told(decisions(case, POLICY)) == expected


@pytest.mark.parametrize(
    ("status", "ttl", "expected"),
    [
        (ended(seconds_ago=60), None, []),
        (ended(seconds_ago=60), 60, [("Forget", "o1")]),
        (ended(seconds_ago=60), 0, [("Forget", "o1")]),
        (ended("Failed", 60), 90, [("Recheck", "30")]),
        (ended(completionTime=None), 0, []),
        (ended(completionTime="soon"), 0, []),
    ],
)
def test_time_to_live(status: dict[str, Any], ttl: int | None, expected: list[tuple[str, ...]]) -> None:
    """A finished Operation is deleted when its time to live has passed, and looked at again when it will have."""
    assert told(decisions(world(operation(status=status, ttlSecondsAfterFinished=ttl)), POLICY)) == expected


def test_forgetting_comes_last() -> None:
    """A deletion that the API refuses must not keep the next Operation from starting."""
    old = operation("o0", status=ended(), ttlSecondsAfterFinished=0)
    assert told(decisions(world(old, O1), POLICY)) == [("Start", "o1"), ("Forget", "o0")]
