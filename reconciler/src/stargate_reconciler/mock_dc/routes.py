# SPDX-License-Identifier: Apache-2.0
"""What each path of the mock datacenter answers: request in, answer out.

Sockets, authentication and faults are `server.py`'s; deciding about jobs is `book.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import AddressValueError, IPv4Address
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stargate_reconciler import __version__
from stargate_reconciler.mock_dc import metrics, openapi
from stargate_reconciler.mock_dc.book import JobBook, Refused, Wanted
from stargate_reconciler.mock_dc.job import PHASES, STAGES
from stargate_reconciler.mock_dc.settings import Faults

LONGEST_WAIT = 30.0
LONGEST_KEY = 255
JSON = "application/json"
_MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
_TEXTS = ("serverId", "mac", "ipv4", "osVersion", "osImage", "cloudInit", "kubernetesVersion", "requestId")


@dataclass(frozen=True)
class Request:
    """One request, its path already split off the query."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(cls, method: str, target: str, *, headers: Mapping[str, str], body: bytes) -> Request:
        """Return the request of a request line."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return cls(method, parts.path, query, headers, body)


@dataclass(frozen=True)
class Answer:
    """One answer. With `follow` the text goes on until the job named there has ended."""

    status: int
    body: str = ""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    follow: str = ""


def json_answer(status: int, body: Any, **headers: str) -> Answer:
    """Return an answer with a JSON body; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(body), headers=named)


def error_answer(status: int, code: str, *, message: str, job_id: str = "", **headers: str) -> Answer:
    """Return an error as the API words it."""
    retryable = code == "ServerBusy" or status == 429 or status >= 500
    body: dict[str, Any] = {"code": code, "message": message, "retryable": retryable}
    if job_id:
        body["jobId"] = job_id
    return json_answer(status, body, **headers)


class Routes:
    """The table of paths over one book."""

    def __init__(self, book: JobBook, *, dc_name: str, admin: bool) -> None:
        """Build the table; the admin paths are in it only when asked for."""
        self._book = book
        self._dc_name = dc_name
        self.metrics = metrics.Metrics(book.jobs)
        table: list[tuple[str, str, Callable[..., Answer]]] = [
            *[("GET", path, self._health) for path in ("/health", "/healthz", "/readyz")],
            ("GET", "/metrics", lambda _: Answer(200, self.metrics.text(), metrics.CONTENT_TYPE)),
            ("GET", "/openapi.json", lambda _: json_answer(200, openapi.document(dc_name))),
            ("POST", "/repave", partial(self._submit, "repave")),
            ("POST", "/reboot", partial(self._submit, "reboot")),
            ("GET", "/jobs", self._jobs),
            ("GET", "/jobs/{id}", self._job),
            ("POST", "/jobs/{id}/cancel", self._cancel),
            ("GET", "/jobs/{id}/logs", self._logs),
            ("GET", "/servers", lambda _: json_answer(200, {"items": book.servers()})),
            ("GET", "/servers/{id}", self._server),
        ]
        if admin:
            table += [
                ("GET", "/admin/faults", lambda _: json_answer(200, book.faults.wire())),
                ("POST", "/admin/faults", self._set_faults),
                ("DELETE", "/admin/jobs/{id}", self._forget),
            ]
        self._table = [
            (method, route, re.compile(re.escape(route).replace(r"\{id\}", "([^/]*)"))) for method, route, _ in table
        ]
        self._act = {(method, route): act for method, route, act in table}

    def answer(self, request: Request) -> tuple[Answer, str]:
        """Return the answer and the route that gave it ("" when no route fits)."""
        allowed = []
        for method, route, pattern in self._table:
            match = pattern.fullmatch(request.path)
            if not match:
                continue
            if method == request.method:
                return self._answered(self._act[method, route], request, *map(unquote, match.groups())), route
            allowed.append(method)
        if allowed:
            text = f"{request.method[:16]} is not allowed on this path"
            return error_answer(405, "MethodNotAllowed", message=text, Allow=", ".join(sorted(set(allowed)))), ""
        return error_answer(404, "NotFound", message=f'There is no "{request.path[:64]}" here'), ""

    def _answered(self, act: Callable[..., Answer], request: Request, *names: str) -> Answer:
        try:
            return act(request, *names)
        except Refused as refused:
            headers = {"Retry_After": "1"} if refused.status in (429, 503) else {}
            return error_answer(refused.status, refused.code, message=str(refused), job_id=refused.job_id, **headers)

    def _health(self, _: Request) -> Answer:
        return json_answer(200, {"status": "healthy", "dc": self._dc_name, "version": __version__})

    def _submit(self, kind: str, request: Request) -> Answer:
        body = _object(request.body)
        problems = _problems(body)
        if problems:
            raise Refused(422, "Invalid", message="; ".join(problems))
        key, same = request.headers.get("Idempotency-Key", ""), body.get("requestId") or ""
        if key and same and key != same:
            raise Refused(400, "BadRequest", message="Idempotency-Key and requestId differ")
        if len(key or same) > LONGEST_KEY:
            raise Refused(422, "Invalid", message=f"The idempotency key is longer than {LONGEST_KEY} characters")
        known = {name: body[name] for name in (*_TEXTS, "force") if body.get(name) is not None}
        known.pop("cloudInit", None)  # may hold secrets, and no machine is there to use it
        job, new = self._book.submit(Wanted(kind, body["serverId"], key or same, known))
        answer = {"jobId": job["jobId"], "status": "accepted"}
        return json_answer(202 if new else 200, answer, Location=f"/jobs/{job['jobId']}")

    def _job(self, request: Request, job_id: str) -> Answer:
        if not job_id:
            raise Refused(400, "BadRequest", message="The job id is missing")
        return json_answer(200, self._book.wait(job_id, _number(request, "wait", most=LONGEST_WAIT)))

    def _jobs(self, request: Request) -> Answer:
        phase = request.query.get("phase", "")
        if phase and phase not in PHASES:
            raise Refused(400, "BadRequest", message=f"phase must be one of {', '.join(PHASES)}")
        limit = int(_number(request, "limit", most=500, otherwise=100))
        if limit < 1:
            raise Refused(400, "BadRequest", message="limit must be at least 1")
        server_id, cursor = request.query.get("serverId", ""), request.query.get("cursor", "")
        found = self._book.jobs(server_id=server_id, phase=phase, after=cursor)
        page = found[:limit]
        return json_answer(200, {"items": page, "next": page[-1]["jobId"] if len(found) > limit else None})

    def _cancel(self, _: Request, job_id: str) -> Answer:
        return json_answer(202, self._book.cancel(job_id))

    def _logs(self, request: Request, job_id: str) -> Answer:
        lines, ended = self._book.log(job_id)
        follow = request.query.get("follow", "") not in ("", "0", "false") and not ended
        text = "".join(f"{line}\n" for line in lines)
        return Answer(200, "" if follow else text, "text/plain; charset=utf-8", follow=job_id if follow else "")

    def _server(self, _: Request, server_id: str) -> Answer:
        for server in self._book.servers():
            if server["serverId"] == server_id:
                return json_answer(200, server)
        raise Refused(404, "ServerNotFound", message=f'There is no server "{server_id[:64]}"')

    def _set_faults(self, request: Request) -> Answer:
        body = _object(request.body)
        names = {spelled: name for name, spelled in Faults.wire_names().items()}
        changes = {}
        for spelled, value in body.items():
            if spelled not in names:
                raise Refused(
                    422, "Invalid", message=f'There is no fault "{spelled[:32]}"; there are {", ".join(names)}'
                )
            kind = type(getattr(Faults(), names[spelled]))
            if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
                raise Refused(422, "Invalid", message=f"{spelled} must be of type {kind.__name__}")
            if spelled == "failStage" and value and value not in STAGES:
                raise Refused(422, "Invalid", message=f"failStage must be one of {', '.join(STAGES)}")
            changes[names[spelled]] = kind(value)
        self._book.set_faults(changes)
        return Answer(204)

    def _forget(self, _: Request, job_id: str) -> Answer:
        self._book.forget(job_id)
        return Answer(204)


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "BadRequest", message=f"The body is not JSON: {str(error)[:100]}") from error
    if not isinstance(parsed, dict):
        raise Refused(400, "BadRequest", message="The body is not a JSON object")
    return parsed


def _problems(body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a submission. An empty text means not given, as first-contract clients send it."""
    given = {name: body[name] for name in _TEXTS if body.get(name) not in (None, "")}
    found = [f"{name} must be a string" for name, value in given.items() if not isinstance(value, str)]
    if found:
        return found
    if not given.get("serverId", "").strip():
        found.append("serverId is missing")
    elif len(given["serverId"]) > 253 or not given["serverId"].isprintable():
        found.append("serverId must be printable and at most 253 characters long")
    if "mac" in given and not _MAC.fullmatch(given["mac"]):
        found.append("mac must be six pairs of hexadecimal digits")
    if "ipv4" in given and not _is_ipv4(given["ipv4"]):
        found.append("ipv4 must be an IPv4 address")
    if not isinstance(body.get("force") or False, bool):
        found.append("force must be true or false")
    return found


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _number(request: Request, name: str, *, most: float, otherwise: float = 0) -> float:
    text = request.query.get(name, "")
    if not text:
        return otherwise
    try:
        value = float(text)
    except ValueError as error:
        raise Refused(400, "BadRequest", message=f"{name} must be a number") from error
    if not 0 <= value <= most:
        raise Refused(400, "BadRequest", message=f"{name} must be between 0 and {most:g}")
    return value
