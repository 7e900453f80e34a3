# SPDX-License-Identifier: Apache-2.0
"""The mock datacenter on its socket: token, TLS, faults, metrics, many long polls, clients that misbehave.

What a well-behaved client sees is the contract suite's, in tests/contract.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stargate_reconciler.mock_dc.server import MockDatacenter
from stargate_reconciler.mock_dc.settings import Settings

Start = Callable[..., MockDatacenter]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts a mock datacenter with settings; all are stopped after the test."""
    started = []

    def begin(**settings: Any) -> MockDatacenter:
        server = MockDatacenter(Settings(port=0, **{"speed": 20, **settings}))
        server.start()
        started.append(server)
        return server

    yield begin
    for server in started:
        server.stop()


def ask(dc: MockDatacenter, method: str, path: str, **more: Any) -> tuple[int, Any, Any]:
    """Return (status, headers, body) of one request; body is parsed when it is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", dc.server_port, timeout=40)
    body = more.get("body")
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, more.get("headers", {}))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    is_json = answer.headers.get("Content-Type") == "application/json"
    return answer.status, answer.headers, json.loads(text) if is_json else text


def test_two_hundred_long_polls_at_once(start: Start) -> None:
    """Two hundred clients wait at once and all hear of the end soon, on a handful of threads afterwards."""
    dc = start(reboot_duration=40.0)
    ids = [ask(dc, "POST", "/reboot", body={"serverId": f"s{n}"})[2]["jobId"] for n in range(200)]
    phases: list[str] = []

    def poll(job_id: str) -> None:
        phases.append(ask(dc, "GET", f"/jobs/{job_id}?wait=30")[2]["phase"])

    started = time.monotonic()
    threads = [threading.Thread(target=poll, args=(job_id,)) for job_id in ids]
    for thread in threads:
        thread.start()
    assert ask(dc, "GET", "/health")[0] == 200
    for thread in threads:
        thread.join()
    assert phases == ["succeeded"] * 200
    assert time.monotonic() - started < 15


def test_a_token_is_asked_for(start: Start, tmp_path: Path) -> None:
    """Without the token, or with a wrong one, only the public paths answer."""
    token = tmp_path / "token"
    token.write_text("canary-token\n")
    dc = start(token_file=token)
    assert ask(dc, "GET", "/health")[0] == 200
    for given in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic canary-token"}):
        status, headers, body = ask(dc, "GET", "/jobs", headers=given)
        assert (status, headers["WWW-Authenticate"], body["code"]) == (401, "Bearer", "Unauthorized")
    assert ask(dc, "GET", "/jobs", headers={"Authorization": "Bearer canary-token"})[0] == 200


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    """A mock that was told to ask for a token never starts without one."""
    token = tmp_path / "token"
    token.write_text("\n")
    with pytest.raises(OSError, match="empty"):
        MockDatacenter(Settings(port=0, token_file=token))


@pytest.mark.parametrize(
    ("knobs", "status"),
    [({"unavailableEvery": 1}, 503), ({"throttleEvery": 1, "retryAfterSeconds": 7}, 429), ({"latencyMs": 50}, 200)],
)
def test_faults(start: Start, knobs: dict[str, int], status: int) -> None:
    """Knobs make every request fail, or late; the admin paths stay usable."""
    dc = start(admin=True)
    assert ask(dc, "POST", "/admin/faults", body=knobs)[0] == 204
    started = time.monotonic()
    answer = ask(dc, "GET", "/jobs")
    assert answer[0] == status
    assert answer[1]["Retry-After"] == ("7" if status == 429 else None)
    assert time.monotonic() - started >= knobs.get("latencyMs", 0) / 1000
    assert ask(dc, "GET", "/admin/faults")[2].items() >= knobs.items()


def test_dropped_connections(start: Start) -> None:
    """Every second request gets no answer at all."""
    dc = start(admin=True)
    ask(dc, "POST", "/admin/faults", body={"dropEvery": 2})
    assert ask(dc, "GET", "/jobs")[0] == 200
    with pytest.raises(http.client.RemoteDisconnected):
        ask(dc, "GET", "/jobs")


@pytest.mark.parametrize("body", [{"odd": 1}, {"failureRate": "high"}, {"dropEvery": True}, {"failStage": "lunch"}])
def test_unknown_faults_are_refused(start: Start, body: dict[str, Any]) -> None:
    """A knob that does not exist, or a value of another type, changes nothing."""
    dc = start(admin=True)
    assert ask(dc, "POST", "/admin/faults", body=body)[0] == 422


def test_admin_is_off_unless_asked_for(start: Start) -> None:
    """Nobody can turn knobs on a mock that was started plainly."""
    assert ask(start(), "POST", "/admin/faults", body={"failureRate": 1})[0] == 404


def test_a_failing_job_names_its_stage(start: Start) -> None:
    """A failure rate of one lets every job fail in the stage that is named."""
    dc = start(admin=True)
    ask(dc, "POST", "/admin/faults", body={"failureRate": 1, "failStage": "boot"})
    job_id = ask(dc, "POST", "/reboot", body={"serverId": "s"})[2]["jobId"]
    job = ask(dc, "GET", f"/jobs/{job_id}?wait=10")[2]
    assert (job["phase"], job["stage"], job["error"]["retryable"]) == ("failed", "boot", True)
    assert ask(dc, "GET", "/servers/s")[2]["state"] == "error"


def test_metrics_parse(start: Start) -> None:
    """Jobs and requests are counted, in a form that the official parser reads."""
    dc = start()
    ask(dc, "POST", "/reboot", body={"serverId": "s"})
    _, headers, text = ask(dc, "GET", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert headers["Content-Type"].startswith("text/plain")
    assert sum(sample.value for sample in families["stargate_mock_dc_jobs"].samples) == 1
    assert families["stargate_mock_dc_request_duration_seconds"].type == "histogram"


@pytest.mark.parametrize(
    ("call", "more", "status"),
    [
        (("GET", "/nothing"), {}, 404),
        (("PUT", "/jobs"), {}, 405),
        (("POST", "/repave"), {"body": b"{"}, 400),
        (("POST", "/repave"), {"body": b"[]"}, 400),
        (("POST", "/repave"), {"body": b"[" * 100_000}, 400),
        (("POST", "/repave"), {"body": b"x" * (1024 * 1024 + 1)}, 413),
        (("POST", "/repave"), {"headers": {"Content-Length": "many"}}, 411),
        (("POST", "/repave"), {"body": {"serverId": "s" * 254}}, 422),
        (("POST", "/repave"), {"body": {"serverId": "s", "requestId": "k" * 256}}, 422),
        (("POST", "/repave"), {"body": {"serverId": "s", "requestId": "a"}, "headers": {"Idempotency-Key": "b"}}, 400),
    ],
)
def test_bad_requests(start: Start, call: tuple[str, str], *, more: dict[str, Any], status: int) -> None:
    """Whatever is wrong with a request, the answer is JSON with a code and the server lives on."""
    dc = start()
    answer = ask(dc, *call, **more)
    assert answer[0] == status
    assert answer[2]["code"]
    assert ask(dc, "GET", "/health")[0] == 200


def test_connections_are_bounded(start: Start) -> None:
    """Connections beyond the limit are closed, and places become free again."""
    dc = start(max_connections=1)
    with socket.create_connection(("127.0.0.1", dc.server_port)) as idle:
        time.sleep(0.2)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(dc, "GET", "/health")
        idle.close()
    time.sleep(0.2)
    assert ask(dc, "GET", "/health")[0] == 200


def test_secrets_of_a_submission_are_not_kept(start: Start, tmp_path: Path) -> None:
    """Cloud-init may hold secrets: it is in no answer and not in the state file."""
    dc = start(state_file=tmp_path / "state.json")
    ask(dc, "POST", "/repave", body={"serverId": "s", "cloudInit": "canary-cloud-init"})
    assert "canary" not in (tmp_path / "state.json").read_text() + str(ask(dc, "GET", "/jobs")[2])


def test_the_log_can_be_followed(start: Start) -> None:
    """With follow the log goes on until the job has ended."""
    dc = start()
    job_id = ask(dc, "POST", "/reboot", body={"serverId": "s"})[2]["jobId"]
    assert "Reboot completed successfully" not in ask(dc, "GET", f"/jobs/{job_id}/logs")[2]
    assert "Reboot completed successfully" in ask(dc, "GET", f"/jobs/{job_id}/logs?follow=1")[2]
