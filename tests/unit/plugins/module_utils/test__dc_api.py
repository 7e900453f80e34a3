# SPDX-License-Identifier: Apache-2.0
"""The client of the datacenter API, against a script of answers and a clock that only counts.

Sockets do not belong here: those are test__http.py's, and whole contracts are in tests/contract.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils._dc_api import (
    Clock,
    DatacenterAPI,
    Job,
    Patience,
    Wanted,
    failure_of,
    retry_after,
)
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._http import Answer, Call

WANTED = Wanted("repave", "s1", "key-1", {"osVersion": "2.0.0", "mac": "", "ipv4": None})
ACCEPTED = Answer(202, {"jobId": "job-1", "status": "accepted"})
GONE = Answer(404, {"code": "JobNotFound", "message": "no such job"})


class Script:
    """A Transport that gives the answers of a list, one per call, the last one for ever; and a clock beside it."""

    url = "http://dc"

    def __init__(self, *answers: Answer | Unreachable | Callable[[Call], Answer]) -> None:
        """Keep the answers."""
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self.time = 0.0

    def send(self, call: Call, *, limit: float) -> Answer:
        """Give the next answer; a long poll takes its time."""
        self.calls.append(call)
        self.time += 0.001
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Unreachable):
            raise answer
        if not isinstance(answer, Answer):
            return answer(call)
        if call.wait and answer.body.get("phase") == "running" and "createdAt" in answer.body:
            self.time += min(call.wait, limit)
        return answer

    def api(self, **patience: float) -> DatacenterAPI:
        """Return a client of this script."""

        def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            self.time += seconds

        return DatacenterAPI(self, Patience(**patience), clock=Clock(lambda: self.time, sleep, lambda: 1.0))

    @property
    def asked(self) -> list[str]:
        """Return what was asked, in order."""
        return [f"{call.method} {call.path}" for call in self.calls]


def job(phase: str, **more: Any) -> Answer:
    """Return the answer that shows a job of today's contract."""
    return Answer(200, {"jobId": "job-1", "phase": phase, "message": phase, "createdAt": "now", **more})


def lost(sent: bool = True) -> Unreachable:
    """Return a connection error, after or before the request was sent."""
    error = Unreachable("Failed to ask: no answer.")
    error.sent = sent
    return error


def test_a_submission_carries_its_key_twice() -> None:
    """The key is in the header and in the body, and what is not given is not sent."""
    script = Script(ACCEPTED)
    assert script.api().submit(WANTED) == ("job-1", True)
    assert script.calls[0].headers == {"Idempotency-Key": "key-1"}
    assert script.calls[0].body == {"serverId": "s1", "requestId": "key-1", "osVersion": "2.0.0"}


def test_a_known_key_is_no_new_job() -> None:
    """200 means that the server has seen the key."""
    assert Script(Answer(200, ACCEPTED.body)).api().submit(WANTED) == ("job-1", False)


def test_pauses_grow_to_a_minute() -> None:
    """Server errors are asked again, each pause twice the last, at most 60 s, until the deadline."""
    script = Script(*[Answer(503)] * 9, ACCEPTED)
    script.api(unreachable_after=3600).submit(WANTED)
    assert script.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(Answer(500, {}, "oh"), "ServerError"), (lost(sent=False), "Unreachable"), (Answer(429), "Throttled")],
)
def test_patience_ends(trouble: Answer | Unreachable, code: str) -> None:
    """Without one usable answer the last trouble is the failure, retryable, and time is not overdrawn."""
    script = Script(trouble)
    with pytest.raises(StargateError) as caught:
        script.api(deadline=100, unreachable_after=40).submit(WANTED)
    assert (caught.value.code, caught.value.retryable) == (code, True)
    assert script.time == pytest.approx(100 if code == "Throttled" else 40, abs=1)


@pytest.mark.parametrize(("header", "pause"), [("7", 7.0), ("", 1.0), ("soon", 1.0)])
def test_retry_after_is_honoured(header: str, pause: float) -> None:
    """429 waits as long as the server says."""
    script = Script(Answer(429, headers={"retry-after": header}), ACCEPTED)
    script.api().submit(WANTED)
    assert script.pauses == [pause]


def test_retry_after_beyond_the_deadline_fails_at_once() -> None:
    """Nobody sleeps for a try that cannot come."""
    script = Script(Answer(429, headers={"retry-after": "1000"}))
    with pytest.raises(StargateError, match="come back later"):
        script.api(deadline=100).submit(WANTED)
    assert script.pauses == []


def test_retry_after_as_a_date() -> None:
    """A date counts from now, a past one means at once."""
    assert retry_after(formatdate(time.time() + 60)) == pytest.approx(60, abs=3)
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(400, {"code": "BadRequest", "message": "why"}), "BadRequest"),
        (Answer(400, {}, "bad request\n"), "BadRequest"),
        (Answer(401), "Unauthorized"),
        (Answer(403), "Unauthorized"),
        (Answer(404, {}, "404 page not found"), "NotFound"),
        (Answer(422, {"code": "<odd>"}), "BadRequest"),
        (Answer(302, headers={"location": "http://elsewhere"}), "Redirected"),
    ],
)
def test_refusals_are_final(answer: Answer, code: str) -> None:
    """Any other 4xx, and a redirect, is told at once and not retried."""
    script = Script(answer)
    with pytest.raises(StargateError, match=r"Failed to repave server s1: http://dc") as caught:
        script.api().submit(WANTED)
    assert (caught.value.code, caught.value.retryable, len(script.calls)) == (code, False, 1)


@pytest.mark.parametrize("body", [{}, {"jobId": 7}, {"jobId": "x" * 129}, {"jobId": "a\nb"}])
def test_a_strange_answer_is_named(body: dict[str, Any]) -> None:
    """An answer without a usable job id is not a datacenter API's."""
    with pytest.raises(StargateError, match="no jobId") as caught:
        Script(Answer(202, body)).api().submit(WANTED)
    assert caught.value.code == "BadAnswer"


def test_a_busy_server_is_waited_for() -> None:
    """409 waits for the active job's end, then submits again."""
    script = Script(Answer(409, {"jobId": "job-0"}), job("running"), job("failed"), ACCEPTED)
    assert script.api().submit(WANTED) == ("job-1", True)
    poll = "GET /jobs/job-0?wait=25.0"
    assert script.asked == ["POST /repave", poll, poll, "POST /repave"]


@pytest.mark.parametrize("body", [{"jobId": "job-0"}, {}])
def test_a_server_that_stays_busy(body: dict[str, Any]) -> None:
    """At the deadline the failure says that the server was busy, and with what."""
    script = Script(lambda call: Answer(409, body) if call.method == "POST" else job("running"))
    with pytest.raises(StargateError, match=body.get("jobId", "someone else")) as caught:
        script.api(deadline=100).submit(WANTED)
    assert (caught.value.code, caught.value.retryable) == ("ServerBusy", True)
    assert len(script.calls) < 40


def test_a_busy_server_whose_job_vanished() -> None:
    """A job that is not known any more is as good as ended."""
    script = Script(Answer(409, {"jobId": "job-0"}), GONE, ACCEPTED)
    assert script.api().submit(WANTED)[1] is True


def test_a_lost_answer_is_asked_for_again() -> None:
    """Where keys are known, a submission may be sent again."""
    script = Script(lost(), Answer(200, {"status": "healthy", "dc": "w"}), Answer(200, ACCEPTED.body))
    assert script.api().submit(WANTED) == ("job-1", False)
    assert script.asked == ["POST /repave", "GET /health", "POST /repave"]


def test_a_job_that_hangs_meets_the_deadline() -> None:
    """Long polls go on until the deadline and name the job's last message."""
    script = Script(job("running", message="Installing OS"))
    with pytest.raises(StargateError, match="Installing OS") as caught:
        script.api(deadline=100).wait("job-1")
    assert (caught.value.code, caught.value.retryable) == ("Deadline", True)
    assert script.time == pytest.approx(100, abs=1)
    assert script.pauses == []


@pytest.mark.parametrize("more", [{"createdAt": "now"}, {}])
def test_a_server_that_does_not_hold_is_polled(more: dict[str, str]) -> None:
    """Whoever answers at once is asked every interval, give or take a fifth."""
    answer = Answer(200, {"jobId": "job-1", "phase": "running", "message": "", **more})
    script = Script(lambda _: answer)
    with pytest.raises(StargateError):
        script.api(deadline=60, poll_interval=10).wait("job-1")
    assert script.pauses[:4] == pytest.approx([12.0] * 4)
    assert script.asked[1] == "GET /jobs/job-1"


def test_a_vanished_job_is_submitted_once_more() -> None:
    """404 on a known job submits again with the same key, and then follows the new one."""
    script = Script(GONE, ACCEPTED, job("succeeded"))
    ended, started = script.api().finish(WANTED, "job-0")
    assert (ended.id, ended.phase, started) == ("job-1", "succeeded", True)
    assert script.asked == ["GET /jobs/job-0?wait=25.0", "POST /repave", "GET /jobs/job-1?wait=25.0"]


@pytest.mark.parametrize(("wanted", "calls"), [(WANTED, 3), (None, 1)])
def test_a_job_that_vanishes_again(wanted: Wanted | None, calls: int) -> None:
    """When the second one vanishes too, or nothing says how to submit it, that is the failure."""
    script = Script(lambda call: ACCEPTED if call.method == "POST" else GONE)
    with pytest.raises(StargateError, match="does not know it any more") as caught:
        script.api().finish(wanted, "job-0")
    assert (caught.value.code, caught.value.retryable, len(script.calls)) == ("JobVanished", False, calls)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Answer(202)], True),
        ([Answer(409), job("succeeded")], False),
        ([GONE, GONE], False),
        ([Answer(404, {}, "404 page not found"), job("running")], "CancelUnsupported"),
        ([Answer(401)], "Unauthorized"),
    ],
)
def test_cancel(answers: list[Answer], expected: bool | str) -> None:
    """Cancel changes an active job only, and says so where it cannot."""
    try:
        result: bool | str = Script(*answers).api().cancel("job-1")
    except StargateError as error:
        result = error.code
    assert result == expected


def test_known_jobs() -> None:
    """Jobs are listed where the API can, and none elsewhere; a refused token is told."""
    assert [found.id for found in Script(Answer(200, {"items": [job("running").body, 7]})).api().known("s")] == [
        "job-1"
    ]
    assert Script(Answer(404)).api().known("s") == []
    with pytest.raises(StargateError, match="token_file"):
        Script(Answer(401)).api().known("s")


@pytest.mark.parametrize(
    ("facts", "failure"),
    [
        ({"phase": "succeeded"}, None),
        ({"phase": "canceled"}, ("JobCanceled", "", False)),
        ({"phase": "failed", "message": "disk"}, ("JobFailed", "disk", True)),
        ({"phase": "failed", "error": {"code": "NoPxe", "message": "m", "retryable": False}}, ("NoPxe", "m", False)),
        ({"phase": "failed", "error": {"code": "a b"}, "createdAt": "now"}, ("JobFailed", "no reason given", True)),
        ({"phase": "failed", "error": "text"}, ("JobFailed", "no reason given", True)),
    ],
)
def test_how_a_job_ended(facts: dict[str, Any], failure: tuple[str, str, bool] | None) -> None:
    """A failed job is retryable unless the API says otherwise; a canceled one is not."""
    error = failure_of(Job("job-1", facts["phase"], facts), "repave server s1", url="http://dc")
    assert (error and (error.code, error.details, error.retryable)) == failure


def test_foreign_text_is_cut_and_unknown_fields_are_dropped() -> None:
    """A job is shown by its known fields, and no text of it is long."""
    big = {"message": "m" * 5000, "error": {"code": "c", "secret": "s"}, "junk": ["x"] * 999, "progress": 5}
    facts = Script(job("failed", **big)).api().job("job-1").facts
    assert (len(facts["message"]), facts["error"], facts["progress"]) == (256, {"code": "c"}, 5)
    assert "junk" not in facts


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "é", "k" * 256])
def test_a_key_that_is_no_header_is_refused(key: str) -> None:
    """A request id never breaks out of its header."""
    with pytest.raises(Invalid, match="request_id"):
        Wanted("repave", "s1", key)


def test_names_stay_in_their_place() -> None:
    """A job id never breaks out of its path."""
    script = Script(GONE)
    with pytest.raises(StargateError):
        script.api().job("../admin?x=1#")
    assert script.asked == ["GET /jobs/..%2Fadmin%3Fx%3D1%23"]
