# SPDX-License-Identifier: Apache-2.0
"""API objects as the daemon sees them: odd or missing fields become empty ones, and what was accepted stays.

Decisions about them are test_plan.py's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.unit.reconciler.fakes import NOW, began, job, operation, profile, raw_operation, server, stamp

from stargate_reconciler.model import Credentials, Operation, Phase, Profile, Server, formatted_time, parsed_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("2026-03-01T12:00:00Z", NOW),
        ("2026-03-01T12:00:00.000000Z", NOW),
        ("2026-03-01T14:00:00+02:00", NOW),
    ],
)
def test_parsed_time(text: str | None, expected: datetime | None) -> None:
    """A timestamp of the API is read in any of its forms, what is none is no time."""
    assert parsed_time(text) == expected


@pytest.mark.parametrize("moment", [NOW, NOW.astimezone(timezone(timedelta(hours=9))), NOW.replace(microsecond=999999)])
def test_formatted_time(moment: datetime) -> None:
    """A timestamp is written in UTC and whole seconds, as the API server does."""
    assert formatted_time(moment) == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("phase", "final"),
    [(Phase.PENDING, False), (Phase.RUNNING, False), (Phase.SUCCEEDED, True), (Phase.FAILED, True)],
)
def test_final_phases(phase: Phase, final: bool) -> None:
    """Succeeded and Failed are final."""
    assert phase.is_final is final


@pytest.mark.parametrize("raw", [{}, {"metadata": None, "spec": [], "status": "x"}, {"metadata": {"name": 7}}])
def test_odd_objects_are_empty(raw: dict[str, Any]) -> None:
    """An object of any shape is read; what is not as it should be is empty."""
    found = Operation.from_dict(raw)
    assert (found.name, found.server, found.phase, found.attempts) == ("", "", Phase.PENDING, 0)
    assert found.created == datetime.fromtimestamp(0, UTC)
    assert (found.cancel, found.edited, found.retry_limit, found.condition("Failed")) == (False, False, 2, {})
    assert (Server.from_dict(raw).active_operation, Server.from_dict(raw).status) == ("", {})
    assert (Profile.from_dict(raw).name, Profile.from_dict(raw).secret) == ("", "")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("attempts", 3, 3),
        ("attempts", True, 0),
        ("attempts", "3", 0),
        ("failures", 1, 1),
        ("phase", "Running", Phase.RUNNING),
        ("phase", "Dancing", Phase.PENDING),
        ("phase", None, Phase.PENDING),
    ],
)
def test_status_fields(field: str, value: object, expected: object) -> None:
    """Numbers and phases are taken when they are such."""
    assert getattr(operation(status={field: value}), field) == expected


@pytest.mark.parametrize(
    ("spec", "status", "edited", "seen"),
    [
        ({}, {}, False, ("s1", "p1", "repave")),
        ({}, began(), False, ("s1", "p1", "repave")),
        ({"serverRef": {"name": "s2"}}, began(), True, ("s1", "p1", "repave")),
        ({"operation": "reboot"}, began(), True, ("s1", "p1", "repave")),
        ({"provisioningProfileRef": {"name": "p2"}}, began(), True, ("s1", "p1", "repave")),
        ({"provisioningProfileRef": None}, began(), False, ("s1", "p1", "repave")),
        ({}, began(acceptedSpec={"server": "s1", "operation": "repave"}), True, ("s1", "", "repave")),
        ({"provisioningProfileRef": None}, began(acceptedSpec={"server": "s1"}), True, ("s1", "", "")),
    ],
)
def test_accepted_spec_wins(spec: dict[str, Any], status: Any, edited: bool, seen: tuple[str, str, str]) -> None:
    """What was accepted at the start holds; another value in the spec is an edit, a default from the Server is none."""
    found = Operation.from_dict(raw_operation(status=status, **spec))
    assert (found.server, found.profile, found.act) == seen
    assert found.edited is edited
    assert found.key == ("dc-west", "s1")


@pytest.mark.parametrize(("value", "expected"), [(None, None), (5, 5.0), (0, 0.0), (True, None), ("5", None)])
def test_seconds(value: object, expected: float | None) -> None:
    """A duration is a number or not set."""
    assert operation(activeDeadlineSeconds=value).seconds("activeDeadlineSeconds") == expected


@pytest.mark.parametrize(("value", "expected"), [(None, 2), (0, 0), (5, 5), ("5", 2)])
def test_retry_limit(value: object, expected: int) -> None:
    """Two retries unless the spec says otherwise; none is a choice."""
    assert operation(retryLimit=value).retry_limit == expected


def test_times_and_conditions() -> None:
    """Timestamps and conditions of the status are found by name, malformed ones are not there."""
    conditions = ["odd", {"type": "Complete", "status": "False"}]
    found = operation(status={"startTime": stamp(), "retryAfter": "soon", "conditions": conditions})
    assert (found.time("startTime"), found.time("retryAfter"), found.time("completionTime")) == (NOW, None, None)
    assert found.condition("Complete") == {"type": "Complete", "status": "False"}
    assert found.condition("Failed") == {}
    assert operation(status={"conditions": "odd"}).condition("Complete") == {}


def test_cancel_is_true_only() -> None:
    """Only the boolean cancels."""
    assert [operation(cancel=value).cancel for value in (True, False, "true", 1)] == [True, False, False, False]


def test_group_of_a_job() -> None:
    """Jobs of one namespace, playbook and Profile are of one group."""
    made = job()
    assert made.group == ("dc-west", "/playbooks/repave.yml", "p1")
    assert type(made)(made.operation, made.server, None, "x").group == ("dc-west", "x", "")


def test_nothing_secret_is_printed() -> None:
    """Neither credentials nor raw objects are part of a printed value."""
    shown = repr([Credentials("canary-key", "root"), job(key="canary-key"), server(), profile()])
    assert "canary" not in shown
    assert "kubernetesVersion" not in shown


def test_equality_ignores_the_raw_object() -> None:
    """Two readings of the same object are equal."""
    assert operation() == operation()
    assert server() != server(provider="qemu")
