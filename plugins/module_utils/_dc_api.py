# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The datacenter API: start a job on a server, follow it, cancel it.

PRIVATE to the collection. Speaks both contracts: today's (idempotency keys, long polls, errors in JSON) and the
first one (neither, errors in plain text). Options, files and results of a module belong to `_dc_api_module.py`.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    StargateError,
    Timeout,
    Unavailable,
    Unreachable,
    clipped,
)
from ansible_collections.stargate.core.plugins.module_utils._http import Answer, Call, Transport

LONG_POLL = 25.0
BACKOFF_BASE = 1.0
BACKOFF_CAP = 60.0
ENDED = frozenset({"succeeded", "failed", "canceled"})
FIELDS = (
    *("jobId", "serverId", "requestId", "type", "phase", "message", "progress", "stage"),
    *("createdAt", "startedAt", "finishedAt", "error"),
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Wanted:
    """A job as it is asked for. `fields` are those of the API, in its spelling; None and "" mean not given."""

    type: str
    server_id: str
    request_id: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a key that does not fit into a header."""
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", self.request_id):
            raise Invalid(f'Failed to use request_id "{clipped(self.request_id)}": not 1 to 255 visible characters.')

    def body(self) -> dict[str, Any]:
        """Return the request's body; the key is in it too, for servers that look there."""
        given = {name: value for name, value in self.fields.items() if value not in (None, "")}
        return {**given, "serverId": self.server_id, "requestId": self.request_id}


@dataclass(frozen=True)
class Job:
    """A job as the API shows it: `facts` are its known fields, foreign text cut short."""

    id: str
    phase: str
    facts: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        """Say whether the phase is final."""
        return self.phase in ENDED

    @property
    def of_first_contract(self) -> bool:
        """Say whether the server speaks the first contract, whose jobs carry three fields only."""
        return "createdAt" not in self.facts


@dataclass(frozen=True)
class Patience:
    """How long to try, in seconds: in all, without one usable answer, and between two plain polls."""

    deadline: float = 3600.0
    unreachable_after: float = 300.0
    poll_interval: float = 10.0


@dataclass(frozen=True)
class Clock:
    """Time and chance; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class DatacenterAPI:
    """One datacenter's API (contract: docs, "The datacenter API"). The deadline runs from the making of this object.

    Every method tries again by itself on connection errors, 5xx and 429 (honouring Retry-After), with growing pauses
    up to a minute, and raises one of StargateError: Unreachable or Unavailable when no usable answer came for
    `unreachable_after`, Timeout at the deadline, Denied on 401 and 403, Invalid on any other 4xx.
    """

    def __init__(self, http: Transport, patience: Patience, *, clock: Clock | None = None) -> None:
        """Keep the parts; nothing is contacted."""
        self._http = http
        self._patience = patience
        self._clock = clock or Clock()
        self._end = self._clock.now() + patience.deadline

    def submit(self, wanted: Wanted) -> tuple[str, bool]:
        """Return (job id, whether this call started it): False when the server has seen the request id before.

        Waits while another job is active on the server (409) and then asks again; at the deadline that is a
        Conflict. An answer that got lost is asked for again with the same key; a server of the first contract has
        no keys and might start the job twice, so there it is an Unreachable with the code SubmissionUnknown.
        """
        doing = f"{wanted.type} server {wanted.server_id}"
        key = {"Idempotency-Key": wanted.request_id}
        call = Call(doing, "POST", f"/{wanted.type}", body=wanted.body(), headers=key)
        while True:
            answer = self._ask(call)
            if answer.status in (200, 201, 202):
                return _text(answer.body, "jobId", call=call), answer.status != 200
            if answer.status != 409:
                raise refusal(answer, call, url=self._http.url)
            self._outlast(str(answer.body.get("jobId") or ""), call)

    def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """Return the job, after at most `wait` seconds if the server can wait for its end; NotFound when unknown."""
        query = f"?wait={min(wait, self._left()):.1f}" if wait else ""
        call = Call(f"read job {job_id}", "GET", f"/jobs/{quote(job_id, safe='')}{query}", wait=wait)
        answer = self._ask(call)
        if answer.status != 200:
            raise refusal(answer, call, url=self._http.url)
        return _job(answer.body, call)

    def wait(self, job_id: str) -> Job:
        """Return the job when it has ended, however it ended; Timeout at the deadline, NotFound when unknown.

        A server that does not hold the request until the job ends is polled, so that it is never asked in a rush.
        """
        long_poll = LONG_POLL
        while True:
            asked = self._clock.now()
            job = self.job(job_id, wait=long_poll)
            if job.ended:
                return job
            if self._left() <= 0:
                where = clipped(str(job.facts.get("message") or job.phase))
                raise Timeout(
                    f'Failed to see the end of job {job_id}: it is still {job.phase} ("{where}") after '
                    f"{self._patience.deadline:g} s. Look at it in the datacenter; a higher deadline waits longer.",
                    details=where,
                )
            if job.of_first_contract or self._clock.now() - asked < min(long_poll, 1.0):
                long_poll = 0.0
            if not long_poll:
                self._sleep(self._patience.poll_interval * (0.8 + 0.4 * self._clock.chance()))

    def finish(self, wanted: Wanted | None, job_id: str = "") -> tuple[Job, bool]:
        """Return (the ended job, whether this call started it), submitting it unless it is known already.

        A job that the server does not know any more is submitted once more with the same key, if `wanted` says
        how; when that one vanishes too it is a NotFound with the code JobVanished.
        """
        started = False
        for last in (False, True):
            if not job_id and wanted:
                job_id, new = self.submit(wanted)
                started = started or new
            try:
                return self.wait(job_id), started
            except NotFound as error:
                if last or not wanted:
                    raise NotFound(
                        f"Failed to follow job {job_id}: {self._http.url} does not know it any more. "
                        "Check in the datacenter what became of the server, then start a new operation.",
                        code="JobVanished",
                        details=error.details,
                        retryable=False,
                    ) from error
                job_id = ""
        raise AssertionError("unreachable: the second round returns or raises")

    def cancel(self, job_id: str) -> bool:
        """Return whether this call canceled the job: False when it had ended, or is not known (nothing to cancel).

        A server of the first contract cannot cancel: Invalid with the code CancelUnsupported.
        """
        call = Call(f"cancel job {job_id}", "POST", f"/jobs/{quote(job_id, safe='')}/cancel")
        answer = self._ask(call)
        if answer.status in (200, 202):
            return True
        if answer.status not in (404, 405, 409):
            raise refusal(answer, call, url=self._http.url)
        try:
            job = self.job(job_id)
        except NotFound:
            return False
        if not job.ended:
            text = f"Failed to cancel job {job_id}: {self._http.url} cannot cancel jobs. Wait for its end."
            raise Invalid(text, code="CancelUnsupported", details=answer.said)
        return False

    def known(self, server_id: str) -> list[Job]:
        """Return the server's jobs as far as the API lists them; [] from a server of the first contract."""
        query = urlencode({"serverId": server_id, "limit": 500})
        call = Call(f"list jobs of server {server_id}", "GET", f"/jobs?{query}")
        answer = self._ask(call)
        if answer.status in (401, 403):
            raise refusal(answer, call, url=self._http.url)
        items = answer.body.get("items") if answer.status == 200 else None
        return [_job(item, call) for item in items or [] if isinstance(item, Mapping)]

    def _outlast(self, other: str, call: Call) -> None:
        """Wait until the other job on the server has ended."""
        if self._left() <= 0:
            raise self._busy(other, call)
        try:
            if other:
                self.wait(other)
        except NotFound:
            pass  # gone: as good as ended
        except Timeout as error:
            raise self._busy(other, call) from error
        # Never in a rush: the server frees itself a moment after its job has ended, and others wait for it too.
        self._sleep((0.1 if other else self._patience.poll_interval) * (1 + self._clock.chance()))

    def _busy(self, other: str, call: Call) -> Conflict:
        text = f"Failed to {call.doing}: job {other or 'of someone else'} was active on it until the deadline"
        return Conflict(f"{text}. Wait for it or cancel it.", code="ServerBusy", details=other)

    def _ask(self, call: Call) -> Answer:
        """Return the first answer that is neither 429 nor 5xx."""
        quiet_since, tries = self._clock.now(), 0
        while True:
            try:
                answer = self._http.send(call, limit=max(1.0, self._left()) + call.wait)
                trouble: Unavailable | Unreachable | None = outage(answer, call, url=self._http.url)
                if trouble is None:
                    return answer
            except Unreachable as error:
                if error.sent and call.method == "POST" and call.body:
                    self._repeatable(call, error)
                trouble = error
            if trouble.code == "Throttled":
                quiet_since = self._clock.now()
            self._pause(trouble, tries=tries, give_up=quiet_since + self._patience.unreachable_after)
            tries += 1

    def _pause(self, trouble: Unavailable | Unreachable, *, tries: int, give_up: float) -> None:
        """Sleep before the next try, or raise the trouble when there is no time for one."""
        limit = min(self._end, give_up)
        asked_for = getattr(trouble, "retry_after", None)
        grown = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(tries, 10)) * (0.5 + 0.5 * self._clock.chance())
        now = self._clock.now()
        if now >= limit or now + (asked_for or 0.0) > self._end:
            raise trouble
        self._clock.sleep(max(asked_for, grown * 0.1) if asked_for is not None else min(grown, limit - now))

    def _repeatable(self, call: Call, error: Unreachable) -> None:
        """Return when a submission may be sent again; a server of the first contract might start it twice."""
        health = self._ask(Call(call.doing, "GET", "/health"))
        if "dc" in health.body or "version" in health.body:
            return
        raise Unreachable(
            f"Failed to {call.doing}: the answer of {self._http.url} got lost and the API has no idempotency keys, so "
            "the job may or may not run. Look at the server in the datacenter before you try again.",
            code="SubmissionUnknown",
            details=error.details,
            retryable=False,
        ) from error

    def _left(self) -> float:
        return max(0.0, self._end - self._clock.now())

    def _sleep(self, seconds: float) -> None:
        self._clock.sleep(min(seconds, self._left()))


def outage(answer: Answer, call: Call, *, url: str) -> Unavailable | None:
    """Return the error of an answer that says "not now" (429, 5xx), None for any other."""
    if answer.status == 429:
        error = Unavailable(
            f"Failed to {call.doing}: {url} asks to come back later (HTTP 429). Fewer hosts at once may help.",
            code="Throttled",
            details=answer.said,
        )
    elif answer.status >= 500:
        said = f": {answer.said}" if answer.said else ""
        error = Unavailable(
            f"Failed to {call.doing}: {url} is out of order (HTTP {answer.status}{said}). Look at its log.",
            details=answer.said,
        )
    else:
        return None
    error.retry_after = retry_after(answer.headers.get("retry-after", ""))
    return error


def retry_after(header: str) -> float | None:
    """Return the seconds of a Retry-After header, in digits or as a date; None when there is none or it is odd."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def refusal(answer: Answer, call: Call, *, url: str) -> StargateError:
    """Return the error of an answer that will not change by asking again; details are the API's own words."""
    status, said = answer.status, answer.said
    told = f' "{said}"' if said else ""
    if status in (401, 403):
        text = f"{url} does not accept our token (HTTP {status}{told}). Check token_file"
        return Denied(f"Failed to {call.doing}: {text}.", code="Unauthorized", details=said)
    if status == 404:
        return NotFound(f"Failed to {call.doing}: {url} does not know it{told}. Check the url.", details=said)
    if 300 <= status < 400:
        where = clipped(answer.headers.get("location", "elsewhere"))
        text = f"{url} redirects to {where}, which is not followed. Set the url to where the API is"
        return Invalid(f"Failed to {call.doing}: {text}.", code="Redirected", details=where)
    code = _CODE.fullmatch(str(answer.body.get("code", "")))
    text = f"{url} refuses the request (HTTP {status}{told}). Correct what it names"
    return Invalid(f"Failed to {call.doing}: {text}.", code=code[0] if code else "BadRequest", details=said)


def failure_of(job: Job, doing: str, *, url: str) -> StargateError | None:
    """Return the error of a job that ended badly, None when it succeeded. Retryable unless the API says otherwise."""
    if job.phase == "succeeded":
        return None
    if job.phase == "canceled":
        text = f"Failed to {doing}: job {job.id} was canceled in the datacenter. Start it again when it may run."
        return StargateError(text, code="JobCanceled", details=str(job.facts.get("message", "")))
    reported = job.facts.get("error")
    error: Mapping[str, Any] = reported if isinstance(reported, Mapping) else {}
    said = clipped(str(error.get("message") or job.facts.get("message") or "no reason given")).rstrip(".")
    remedy = "Look at the server in the datacenter" if job.of_first_contract else f"Read {url}/jobs/{job.id}/logs"
    code = _CODE.fullmatch(str(error.get("code", "")))
    return StargateError(
        f"Failed to {doing}: job {job.id} failed: {said}. {remedy}.",
        code=code[0] if code else "JobFailed",
        details=said,
        retryable=error.get("retryable") is not False,
    )


def _job(body: Mapping[str, Any], call: Call) -> Job:
    facts = {name: _short(body[name]) for name in FIELDS if name in body}
    return Job(_text(body, "jobId", call=call), _text(body, "phase", call=call), facts)


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _short(value[name]) for name in ("code", "message", "retryable") if name in value}
    return value if value is None or isinstance(value, (bool, int, float)) else clipped(str(value))


def _text(body: Mapping[str, Any], name: str, *, call: Call) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 128 or not value.isprintable():
        text = f"Failed to {call.doing}: the answer has no {name}. Is the url that of a datacenter API?"
        raise StargateError(text, code="BadAnswer", retryable=True)
    return value
