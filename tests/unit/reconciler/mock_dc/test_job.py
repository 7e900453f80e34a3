# SPDX-License-Identifier: Apache-2.0
"""One job's way through its steps, as tables; time is passed in.

Clocks, threads and files do not belong here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stargate_reconciler.mock_dc.job import Job, timestamp


def job(**more: Any) -> Job:
    """Return a repave of 30 s, accepted at 0."""
    plain = Job("job-1", "repave", "s", request={}, request_id="", created_at=0.0, duration=30.0)
    return replace(plain, **more)


def test_messages_come_when_the_first_contract_said_them() -> None:
    """A repave of 30 s says the messages of the first contract at their times."""
    repave, seen = job(), []
    while (due := repave.due()) is not None:
        repave.advance(due)
        seen.append((round(due), repave.log[-1 if not repave.ended else -2].partition(" ")[2]))
    assert seen == [
        (0, "Repave in progress"),
        (5, "Initiating PXE boot"),
        (10, "Downloading OS image"),
        (20, "Installing OS"),
        (25, "Configuring system"),
        (30, "Finalizing"),
    ]
    assert (repave.phase, repave.message) == ("succeeded", "Repave completed successfully")


def test_a_job_fails_in_its_stage() -> None:
    """A job that is to fail ends in the stage, with an error that says so."""
    repave = job(fail_stage="install")
    while (due := repave.due()) is not None:
        repave.advance(due)
    view = repave.view(99.0)
    assert (view["phase"], view["stage"], view["progress"]) == ("failed", "install", 66)
    assert view["error"]["code"] == "StageFailed"


def test_a_hanging_job_never_ends() -> None:
    """A job that hangs stops before its last step and stays there."""
    repave = job(hangs=True)
    while (due := repave.due()) is not None:
        repave.advance(due)
    assert (repave.phase, repave.view(10_000.0)["progress"]) == ("running", 99)


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        ({"osVersion": "2.0.0", "kubernetesVersion": "1.34"}, "2.0.0"),
        ({"kubernetesVersion": "1.34"}, "k8s-1.34"),
        ({}, ""),
    ],
)
def test_os(request_body: dict[str, str], expected: str) -> None:
    """The system after a job is the one that was asked for."""
    assert job(request=request_body).os == expected


def test_a_saved_job_comes_back() -> None:
    """What is saved makes the same job again."""
    repave = job()
    repave.advance(0.5)
    assert Job(**repave.saved()) == repave


@pytest.mark.parametrize(("moment", "expected"), [(None, None), (0.0015, "1970-01-01T00:00:00.001Z")])
def test_timestamp(moment: float | None, expected: str | None) -> None:
    """Times are RFC 3339 in UTC."""
    assert timestamp(moment) == expected
