# SPDX-License-Identifier: Apache-2.0
"""The wording of statuses: phases, conditions and their times of transition, and what a Server hears.

That they are written, and how often, is test_reconcile.py's.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.reconciler.fakes import NOW, began, ended, job, operation, server, stamp

from stargate_reconciler import status
from stargate_reconciler.model import FormerNode, Operation, Outcome, Result

LATER = NOW + timedelta(seconds=100)
WORKED = Result(Outcome.SUCCEEDED, facts={"os": "k8s-1.34", "nodeName": "n1", "podCIDR": "10.244.1.0/24"})
NO_PROFILE = replace(job(), profile=None)
BROKE = Result(Outcome.FAILED, "TaskFailed", "It broke", "Join")


def shown(patch: status.Patch) -> dict[str, tuple[str, str]]:
    """Return the conditions of a patch as type: (status, reason)."""
    return {c["type"]: (c["status"], c["reason"]) for c in patch["conditions"]}


def after(before: Operation, patch: status.Patch) -> Operation:
    """Return the Operation as it is when a patch has been written."""
    merged = {**before.status, **patch}
    return Operation.from_dict({**before.raw, "status": {k: v for k, v in merged.items() if v is not None}})


OLD = {"type": "A", "status": "True", "reason": "Old", "message": "m", "lastTransitionTime": stamp(-50)}


@pytest.mark.parametrize(
    ("old", "wanted", "expected"),
    [
        (None, {"A": (True, "R", "m")}, [("A", "True", "R", stamp())]),
        ([OLD], {"A": (True, "R", "m")}, [("A", "True", "R", stamp(-50))]),
        ([OLD], {"A": (False, "R", "m")}, [("A", "False", "R", stamp())]),
        ([OLD], {"A": None}, []),
        ([OLD], {"B": None}, [("A", "True", "Old", stamp(-50))]),
        ([OLD], {"B": (True, "R", "m")}, [("A", "True", "Old", stamp(-50)), ("B", "True", "R", stamp())]),
        ([{**OLD, "lastTransitionTime": None}], {"A": (True, "R", "m")}, [("A", "True", "R", stamp())]),
        (["odd", {"status": "True"}], {}, []),
    ],
)
def test_conditions(old: Any, wanted: Any, expected: list[tuple[str, str, str, str]]) -> None:
    """A condition's time is that of its last change of status, others are kept, and they come in order."""
    found = status.conditions(old, wanted, NOW, 3)
    assert [(c["type"], c["status"], c["reason"], c["lastTransitionTime"]) for c in found] == expected


@pytest.mark.parametrize(
    ("old", "patch", "news"),
    [
        ({}, {}, False),
        ({"a": 1}, {"a": 1}, False),
        ({"a": 1}, {"a": 2}, True),
        ({}, {"a": None}, False),
        ({"a": 1}, {"a": None}, True),
        ({"lastUpdated": "x"}, {"lastUpdated": "y"}, False),
    ],
)
def test_is_news(old: dict[str, Any], patch: status.Patch, news: bool) -> None:
    """A patch that would only say again what stands there, later, is no news."""
    assert status.is_news(old, patch) is news


@pytest.mark.parametrize(
    ("before", "reason", "resolved"),
    [
        (operation(), "ServerBusy", None),
        (operation(), "ProfileNotFound", ("False", "ProfileNotFound")),
        (operation(status=began()), "ServerNotFound", ("False", "ServerNotFound")),
    ],
)
def test_waiting(before: Operation, reason: str, resolved: tuple[str, str] | None) -> None:
    """What waits is Pending and Reconciling, and says which reference is not there."""
    patch = status.waiting(before, reason, "Waits.", NOW)
    assert (patch["phase"], patch["message"], patch["observedGeneration"]) == ("Pending", "Waits.", 1)
    found = shown(patch)
    assert (found["Complete"], found["Reconciling"]) == (("False", reason), ("True", reason))
    assert found.get("ReferencesResolved") == resolved


def test_time_since_something_is_missing() -> None:
    """The time since which something is missing stays when another thing is missing next, and begins anew later."""
    first = after(operation(), status.waiting(operation(), "ServerNotFound", "m", NOW))
    second = after(first, status.waiting(first, "ProfileNotFound", "m", LATER))
    assert second.condition("ReferencesResolved")["lastTransitionTime"] == stamp()
    there = after(second, status.waiting(second, "ServerBusy", "m", LATER))
    assert there.condition("ReferencesResolved")["status"] == "True"
    gone = after(there, status.waiting(there, "ServerNotFound", "m", LATER))
    assert gone.condition("ReferencesResolved")["lastTransitionTime"] == stamp(100)


def test_running() -> None:
    """The first attempt sets the start, what was accepted and the run; back-off is over."""
    patch = status.running(operation(status={"retryAfter": stamp()}), "r1", job(), NOW)
    assert (patch["phase"], patch["attempts"], patch["runID"], patch["stage"]) == ("Running", 1, "r1", "Starting")
    assert (patch["startTime"], patch["retryAfter"], patch["message"]) == (stamp(), None, "Attempt 1 runs.")
    assert patch["acceptedSpec"] == {"server": "s1", "profile": "p1", "operation": "repave"}
    assert shown(patch)["ReferencesResolved"] == ("True", "Resolved")


def test_the_node_of_before_is_kept() -> None:
    """What the machine was before is written with the first attempt, and nothing where nobody looked."""
    met = replace(job(), former_node=FormerNode("u", cordoned=True))
    patch = status.running(operation(), "r1", met, NOW)
    assert patch["formerNode"] == {"uid": "u", "cordoned": True}
    assert operation(status=patch).former_node == met.former_node
    none = status.running(operation(), "r1", replace(job(), former_node=FormerNode()), NOW)
    assert none["formerNode"] == {"cordoned": False}
    assert operation(status=none).former_node == FormerNode()
    assert "formerNode" not in status.running(operation(), "r1", job(), NOW)
    assert operation().former_node is None


@pytest.mark.parametrize(
    ("phase", "words"), [("Running", "Attempt 2 goes on after an interruption."), ("Pending", "Attempt 2 runs.")]
)
def test_running_again(phase: str, words: str) -> None:
    """Another attempt keeps the first start, and says whether it follows a failure or an interruption."""
    patch = status.running(operation(status=began(60, phase=phase)), "r2", NO_PROFILE, NOW)
    assert (patch["startTime"], patch["attempts"], patch["message"]) == (stamp(-60), 2, words)


def test_accepted_without_a_profile() -> None:
    """An Operation that needs no Profile accepts none."""
    patch = status.running(operation(act="reboot", provisioningProfileRef=None), "r1", NO_PROFILE, NOW)
    assert patch["acceptedSpec"] == {"server": "s1", "operation": "reboot"}


def test_retrying() -> None:
    """A failed attempt counts, says why, when the next one comes and how many are left."""
    patch = status.retrying(operation(status=began(failures=1)), BROKE, 20.0, NOW)
    assert (patch["phase"], patch["failures"], patch["retryAfter"]) == ("Pending", 2, stamp(20))
    assert patch["message"] == (
        "Attempt 1 failed: Task 'Join' failed: It broke. Tries again in 20 s (1 of 2 retries left)."
    )
    assert shown(patch)["Complete"] == ("False", "BackOff")


@pytest.mark.parametrize(
    ("result", "phase", "conditions", "message"),
    [
        (
            WORKED,
            "Succeeded",
            {"Complete": ("True", "Succeeded")},
            "Repave completed successfully; the machine runs k8s-1.34.",
        ),
        (Result(Outcome.SUCCEEDED), "Succeeded", {"Complete": ("True", "Succeeded")}, "Repave completed successfully."),
        (
            Result(Outcome.SUCCEEDED, facts={"message": "Nothing to do."}),
            "Succeeded",
            {"Complete": ("True", "Succeeded")},
            "Nothing to do.",
        ),
        (
            BROKE,
            "Failed",
            {k: ("False" if k == "Complete" else "True", "TaskFailed") for k in ("Complete", "Failed", "Stalled")},
            "Task 'Join' failed: It broke.",
        ),
        (
            Result(Outcome.EMPTY),
            "Failed",
            {k: ("False" if k == "Complete" else "True", "Failed") for k in ("Complete", "Failed", "Stalled")},
            "No reason was given.",
        ),
    ],
)
def test_ended(result: Result, phase: str, conditions: dict[str, tuple[str, str]], message: str) -> None:
    """The end is Complete or Failed and Stalled, no more Reconciling, with one sentence."""
    running = operation(status=began(stage="Fail", conditions=[{"type": "Reconciling", "status": "True"}]))
    patch = status.ended(running, result, NOW)
    assert (patch["phase"], patch["completionTime"], patch["message"]) == (phase, stamp(), message)
    assert shown(patch) == conditions
    assert patch["stage"] == ("Done" if phase == "Succeeded" else result.task or "Fail")


def test_result_is_kept() -> None:
    """What was learned of the machine stands in the end's status; an end without it has none."""
    assert status.ended(operation(), WORKED, NOW)["result"] == dict(WORKED.facts)
    assert "result" not in status.ended(operation(), BROKE, NOW)


def test_what_is_known_of_the_node_is_kept() -> None:
    """The Node's identity and version stay with the Operation, the address that was seen with the Server."""
    seen = {"nodeName": "n1", "nodeUID": "u", "kubeletVersion": "v1.34.2", "ipv4": "10.0.0.9", "bootID": "b"}
    result = Result(Outcome.SUCCEEDED, facts=seen)
    kept = {"nodeName": "n1", "nodeUID": "u", "kubeletVersion": "v1.34.2"}
    assert status.ended(operation(), result, NOW)["result"] == kept
    patch = status.released(server(), operation(), result, NOW)
    assert (patch["nodeName"], patch["ipv4"]) == ("n1", "10.0.0.9")
    assert {"nodeUID", "bootID", "kubeletVersion"}.isdisjoint(patch)


LEFT = Result(Outcome.SUCCEEDED, facts={"nodeName": "n1", "nodeUID": "u", "message": "The machine was not reset."})


def test_decommissioned() -> None:
    """A Server that was taken out is pending and has no Node any more; what was not done is said."""
    before = server(status={"state": "ready", "nodeName": "n1", "currentOS": "k8s-1.34", "conditions": READY})
    patch = status.released(before, operation(act="decommission"), LEFT, NOW)
    assert (patch["state"], patch["nodeName"], patch["podCIDR"]) == ("pending", None, None)
    assert (patch["os"], patch["currentOS"], patch["appliedProvisioningProfile"]) == (None, None, None)
    assert patch["message"] == "Decommissioned by Operation o1. The machine was not reset."
    assert shown(patch) == {"Provisioned": ("False", "Decommissioned")}


READY = [{"type": "NodeReady", "status": "True"}]


@pytest.mark.parametrize(
    ("state", "result", "expected", "node"),
    [
        ("error", replace(WORKED, node_ready=True, facts={}), "ready", ("True", "Ready")),
        ("error", Result(Outcome.SUCCEEDED), None, None),
        ("ready", replace(WORKED, node_ready=True, facts={}), None, ("True", "Ready")),
        ("ready", replace(BROKE, reason="NodeNotReady", node_ready=False), "error", ("False", "NodeNotReady")),
    ],
)
def test_a_node_that_was_seen(state: str, result: Result, expected: str | None, node: tuple[str, str] | None) -> None:
    """A Node that was seen to be Ready makes a Server ready again; whether it was seen is a condition."""
    patch = status.released(server(status={"state": state}), operation(act="reboot"), result, NOW)
    assert (patch.get("state"), shown(patch).get("NodeReady")) == (expected, node)


def test_job_id_is_kept() -> None:
    """The datacenter's job is named in the end and in a step, when there is one."""
    result = replace(WORKED, facts={"dcJobID": "j1"})
    assert status.ended(operation(), result, NOW)["dcJobID"] == "j1"
    assert status.staged("step", "j1") == {"stage": "step", "dcJobID": "j1"}
    assert status.staged("step", "") == {"stage": "step"}


def test_a_failed_job_is_done_with() -> None:
    """After a job that has failed the next attempt asks for another; any other failure keeps the job."""
    before = operation(status=began(jobRequests=1))
    lost = replace(BROKE, facts={"dcJobID": "j1"})
    patch = status.retrying(before, replace(lost, job_ended=True), 1.0, NOW)
    assert (patch["dcJobID"], patch["jobRequests"]) == (None, 2)
    patch = status.retrying(before, lost, 1.0, NOW)
    assert (patch["dcJobID"], "jobRequests" in patch) == ("j1", False)


def test_messages_are_short_and_without_secrets() -> None:
    """A failure's text is cut to a KiB and loses what looks secret, in the Operation's and the Server's status."""
    long = replace(BROKE, message="tskey-auth-canary " + "x" * 5000)
    patches = [
        status.ended(operation(), long, NOW),
        status.retrying(operation(), long, 1.0, NOW),
        status.released(server(), operation(), long, NOW),
    ]
    texts = [text for p in patches for text in (p["message"], *(c["message"] for c in p["conditions"]))]
    assert max(len(text.encode()) for text in texts) <= 1024
    assert "canary" not in "".join(texts)


@pytest.mark.parametrize(("act", "state"), [("repave", "provisioning"), ("upgrade", "provisioning"), ("reboot", None)])
def test_claimed(act: str, state: str | None) -> None:
    """A Server that is taken names its Operation; it is being provisioned only when that changes what it is."""
    patch = status.claimed(server(status={"state": "ready"}), operation(act=act), NOW)
    assert (patch["activeOperation"], patch.get("state"), patch["lastUpdated"]) == ("o1", state, stamp())


STOPPED = Result(Outcome.FAILED, "Cancelled", "Cancelled.")


@pytest.mark.parametrize(
    ("act", "result", "state", "conditions"),
    [
        ("repave", WORKED, "ready", {"Provisioned": ("True", "Repave"), "Reachable": ("True", "Reached")}),
        ("reboot", Result(Outcome.SUCCEEDED), None, {"Reachable": ("True", "Reached")}),
        ("reboot", Result(Outcome.SUCCEEDED, facts={"dcJobID": "j"}), None, {}),
        ("repave", BROKE, "error", {"Provisioned": ("False", "TaskFailed")}),
        ("reboot", BROKE, "error", {"Provisioned": ("False", "TaskFailed")}),
        ("check", BROKE, None, {}),
        ("check", STOPPED, "error", {"Provisioned": ("False", "Cancelled")}),
        ("check", Result(Outcome.UNREACHABLE, "Unreachable"), None, {"Reachable": ("False", "Unreachable")}),
    ],
)
def test_released(act: str, result: Result, state: str | None, conditions: dict[str, tuple[str, str]]) -> None:
    """A Server that is given back says what became of it; a failure of what changes nothing leaves it what it was."""
    patch = status.released(server(), operation(act=act), result, NOW)
    assert (patch["activeOperation"], patch.get("state"), patch["lastUpdated"]) == (None, state, stamp())
    assert shown(patch) == conditions


def test_released_with_what_was_learned() -> None:
    """Success tells the Server its OS, Node, pod range, Profile and host keys."""
    patch = status.released(server(), operation(), replace(WORKED, host_keys=("k",)), NOW)
    names = ("os", "currentOS", "nodeName", "podCIDR", "appliedProvisioningProfile", "sshHostKeys")
    assert [patch[name] for name in names] == ["k8s-1.34", "k8s-1.34", "n1", "10.244.1.0/24", "p1", ["k"]]


def test_changed_host_key_is_not_pinned() -> None:
    """The keys of a machine that was refused do not replace those that are pinned."""
    refused = Result(Outcome.UNREACHABLE, "HostKeyChanged", host_keys=("new",))
    assert "sshHostKeys" not in status.released(server(), operation(), refused, NOW)


@pytest.mark.parametrize(
    ("holder", "expected"),
    [
        (
            operation(status=ended(result={"os": "k8s"}, message="Done.")),
            Result(Outcome.SUCCEEDED, "", "Done.", retryable=False, facts={"os": "k8s"}),
        ),
        (
            operation(status=ended("Failed", message="No.", conditions=[{"type": "Failed", "reason": "Cancelled"}])),
            Result(Outcome.FAILED, "Cancelled", "No.", retryable=False),
        ),
        (operation(status=ended("Failed")), Result(Outcome.FAILED, "Failed", "", retryable=False)),
    ],
)
def test_remembered(holder: Operation, expected: Result) -> None:
    """A finished Operation's status is enough to tell its Server of the end."""
    assert status.remembered(holder) == expected


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (BROKE, "Task 'Join' failed: It broke."),
        (replace(BROKE, message="Why?"), "Task 'Join' failed: Why?"),
        (replace(BROKE, outcome=Outcome.UNREACHABLE, message="No route!"), "No route!"),
        (Result(Outcome.CRASHED), "No reason was given."),
    ],
)
def test_said(result: Result, text: str) -> None:
    """A failure is one sentence, which names its task when a task failed."""
    assert status.said(result) == text
