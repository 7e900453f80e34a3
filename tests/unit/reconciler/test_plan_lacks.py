# SPDX-License-Identifier: Apache-2.0
"""The planner on what is missing or wrong: waited for by name until a deadline, or refused at once; and its words.

The other branches are test_plan.py's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.reconciler.fakes import began, operation, profile, server, stamp
from tests.unit.reconciler.worlds import BROKE, HELD, INTERRUPTED, LIMIT, O1, POLICY, WORKED, live, told, world

from stargate_reconciler import plan
from stargate_reconciler.decision import End, Forget, Recheck, Resume, Start, Unlock, Wait, World, described
from stargate_reconciler.model import Credentials, Operation, Server
from stargate_reconciler.plan import decisions

CLOUD_INIT = profile(cloudInitSecretRef="ci")
SECRET = profile(sshCredentialsSecretRef="ssh")
DC = server(provider="dc-api")


def noticed(seconds_ago: float) -> dict[str, Any]:
    """Return the status of an Operation that has waited for some seconds for what is missing."""
    lack = {"type": "ReferencesResolved", "status": "False", "lastTransitionTime": stamp(-seconds_ago)}
    return {"phase": "Pending", "conditions": [lack]}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(world(O1, no_server=True), ("Wait", "o1", "ServerNotFound", "3600"), id="no Server"),
        pytest.param(world(O1, profiles={}), ("Wait", "o1", "ProfileNotFound", "3600"), id="no Profile"),
        pytest.param(world(O1, profiles={"p1": SECRET}), ("Wait", "o1", "SecretNotFound", "5"), id="not read"),
        pytest.param(
            world(O1, profiles={"p1": SECRET}, secrets={"ssh": None}),
            ("Wait", "o1", "SecretNotFound", "5"),
            id="no Secret",
        ),
        pytest.param(
            world(O1, profiles={"p1": SECRET}, secrets={"ssh": Credentials("k")}), ("Start", "o1"), id="all is there"
        ),
        pytest.param(
            world(O1, profiles={"p1": SECRET}, secrets={"ssh": Credentials(user_data="x")}),
            ("Wait", "o1", "SecretNotFound", "5"),
            id="no key in the Secret",
        ),
        pytest.param(
            world(O1, profiles={"p1": CLOUD_INIT}, secrets={"ci": Credentials("k")}),
            ("Wait", "o1", "SecretNotFound", "5"),
            id="no cloud-init in the Secret",
        ),
        pytest.param(
            world(O1, profiles={"p1": CLOUD_INIT}, secrets={"ci": Credentials(user_data="x")}),
            ("Start", "o1"),
            id="cloud-init is there",
        ),
        pytest.param(
            world(operation(act="reboot"), profiles={"p1": CLOUD_INIT}), ("Start", "o1"), id="needs no cloud-init"
        ),
        pytest.param(world(O1, on=DC), ("Wait", "o1", "DatacenterUnknown", "3600"), id="no datacenter"),
        pytest.param(world(operation(act="mine"), on=DC), ("Start", "o1"), id="needs no datacenter"),
        pytest.param(
            world(operation(status=noticed(59), **LIMIT), no_server=True),
            ("Wait", "o1", "ServerNotFound", "1"),
            id="soon",
        ),
        pytest.param(
            world(operation(status=noticed(60), **LIMIT), no_server=True),
            ("End", "o1", "ServerNotFound", "untouched"),
            id="never came",
        ),
        pytest.param(
            world(operation(age=9999, status=noticed(59), **LIMIT), no_server=True),
            ("Wait", "o1", "ServerNotFound", "1"),
            id="missing since it was noticed",
        ),
        pytest.param(
            world(operation(age=9999), profiles={}),
            ("Wait", "o1", "ProfileNotFound", "3600"),
            id="noticed now, after a long wait for another Operation",
        ),
        pytest.param(
            world(operation(status=began(50, phase="Pending"), **LIMIT), profiles={}),
            ("Wait", "o1", "ProfileNotFound", "10"),
            id="the deadline of what has begun comes first",
        ),
        pytest.param(
            world(operation(status={**began(5, phase="Pending"), **noticed(60)}, **LIMIT), profiles={}),
            ("End", "o1", "ProfileNotFound", "touched"),
            id="never came back",
        ),
    ],
)
def test_what_is_missing(case: World, expected: tuple[str, ...]) -> None:
    """What is not there yet is waited for, by name, until the deadline that counts from when it was noticed."""
    assert told(decisions(case, POLICY)) == [expected]


@pytest.mark.parametrize(
    ("case", "reason", "words"),
    [
        (world(operation(act="dance")), "UnknownOperation", ["'dance'", "check, mine, reboot, repave, upgrade"]),
        (world(operation(act="dance"), no_server=True), "UnknownOperation", ["'dance'"]),
        (world(O1, on=server(ipv4="100.x.x.x")), "InvalidSpec", ["spec.ipv4", "100.x.x.x"]),
        (world(O1, on=server(ipv4=None)), "InvalidSpec", ["Server s1", "spec.mac"]),
        (world(O1, profiles={"p1": profile(adminUsername="; rm")}), "InvalidSpec", ["spec.adminUsername"]),
        (world(operation(provisioningProfileRef=None)), "InvalidSpec", ["o1 names no ProvisioningProfile"]),
        (world(operation(act="check", provisioningProfileRef=None)), "InvalidSpec", ["o1 names no Provisioning"]),
        (
            world(operation(act="upgrade"), profiles={"p1": profile(kubernetesVersion=None, osVersion="2")}),
            "InvalidSpec",
            ["ProvisioningProfile p1", "spec.kubernetesVersion"],
        ),
    ],
)
def test_mistakes(case: World, reason: str, words: list[str]) -> None:
    """What no waiting can mend ends at once, untouched, and says which value of which object it is."""
    (decision,) = decisions(case, POLICY)
    assert isinstance(decision, End)
    assert (decision.result.reason, decision.result.retryable, decision.touched) == (reason, False, False)
    assert [word for word in words if word not in decision.result.message] == []


def test_datacenter_of_its_own_or_for_all() -> None:
    """A datacenter for every namespace will do for a Server that names none."""
    policy = replace(POLICY, datacenters={"*": {"url": "http://127.0.0.1:8080"}})
    assert told(decisions(world(O1, on=DC), policy)) == [("Start", "o1")]


def test_job_carries_what_the_run_needs() -> None:
    """A start has the playbook, the Profile that applies and the credentials from its Secret."""
    credentials = Credentials("k", "root")
    (decision,) = decisions(world(O1, profiles={"p1": SECRET}, secrets={"ssh": credentials}), POLICY)
    assert isinstance(decision, Start)
    job = decision.job
    assert (job.playbook, job.profile, job.credentials) == ("/p/repave.yml", SECRET, credentials)
    assert job.group == ("dc-west", "/p/repave.yml", "p1")
    secrets = {"ci": Credentials(user_data="#cloud-config")}
    (decision,) = decisions(world(O1, profiles={"p1": CLOUD_INIT}, secrets=secrets), POLICY)
    assert isinstance(decision, Start)
    assert decision.job.user_data == "#cloud-config"
    assert "#cloud-config" not in repr(decision)


@pytest.mark.parametrize(
    ("there", "turn", "profiles", "expected"),
    [
        (None, O1, {"p1": SECRET}, set()),
        (server(), None, {"p1": SECRET}, set()),
        (server(), O1, {}, set()),
        (server(), O1, {"p1": profile()}, set()),
        (server(), O1, {"p1": SECRET}, {"ssh"}),
        (server(provisioningProfile="p1"), operation(provisioningProfileRef=None), {"p1": SECRET}, {"ssh"}),
    ],
)
def test_secret_names(there: Server | None, turn: Operation | None, profiles: Any, expected: set[str]) -> None:
    """Only the Secret of the Profile that applies is asked for."""
    assert plan.secret_names(there, turn, profiles) == expected


@pytest.mark.parametrize(
    ("attempts", "stage", "stopping", "words"),
    [
        (0, "", "", "before it ran"),
        (1, "", "", "half done"),
        (1, "join", "Cancelled", "at 'join'"),
        (1, "", "DeadlineExceeded", "activeDeadlineSeconds"),
    ],
)
def test_words_of_a_stop(attempts: int, stage: str, stopping: str, words: str) -> None:
    """The end of a stopped Operation says whether the machine may be half done, and where it was."""
    target = operation(cancel=True, status=began() if attempts else None)
    run = live(target, stage=stage, stopping=stopping, result=INTERRUPTED) if stopping else {}
    (decision,) = decisions(world(target, live=run), POLICY)
    assert isinstance(decision, End)
    assert words in decision.result.message


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (decisions(world(O1), POLICY)[0], "start   dc-west/o1: repave on Server s1 with /p/repave.yml"),
        (Wait(O1, "ServerBusy", "Waits."), "wait    dc-west/o1: ServerBusy: Waits."),
        (End(O1, BROKE, touched=True), "end     dc-west/o1: TaskFailed: It broke."),
        (End(O1, WORKED, touched=True), "end     dc-west/o1: succeeded: "),
        (Unlock(HELD, None), "unlock  Server dc-west/s1: Operation o1 has ended"),
        (Forget(O1), "delete  dc-west/o1: its ttlSecondsAfterFinished has passed"),
        (Recheck(4.4), "later   look again in 4 s"),
        (Resume(O1), "resume"),
    ],
)
def test_described(decision: plan.Decision, words: str) -> None:
    """A dry run says what would be done, to which object, and why."""
    assert described(decision) == words
