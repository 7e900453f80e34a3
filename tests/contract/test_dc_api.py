# SPDX-License-Identifier: Apache-2.0
"""The contract of the datacenter API, held against the mock always and against a real API when one is named.

STARGATE_DC_API_URL names it (STARGATE_DC_API_TOKEN_FILE, STARGATE_DC_API_CA_FILE if it wants them) and
STARGATE_DC_API_SERVER a server that may be rebooted. Every answer is checked against the OpenAPI document.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from tests.contract.first_contract import FirstContract

from ansible_collections.stargate.core.plugins.module_utils._dc_api import DatacenterAPI, Patience, Wanted
from ansible_collections.stargate.core.plugins.module_utils._errors import NotFound, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._http import HTTP, Answer, Call, Endpoint, read_token
from stargate_reconciler.mock_dc import openapi
from stargate_reconciler.mock_dc.server import MockDatacenter
from stargate_reconciler.mock_dc.settings import Settings

REAL = os.environ.get("STARGATE_DC_API_URL", "")
DOCUMENT = openapi.document("contract")


class Api:
    """The API under test; `send` checks each answer against the document."""

    def __init__(self, endpoint: Endpoint, server: str) -> None:
        """Keep where it is and which server may be rebooted."""
        self.http = HTTP(endpoint)
        self.server = server
        self.client = DatacenterAPI(self.http, Patience(deadline=900 if REAL else 20))

    def send(self, method: str, path: str, *, route: str = "", **more: Any) -> Answer:
        """Return the answer, once it is what the document promises for the route."""
        answer = self.http.send(Call("test", method, path, **more), limit=60)
        check(answer, method, route=route or path.partition("?")[0])
        return answer

    def reboot(self, key: str = "") -> Answer:
        """Ask for a reboot of the server with an idempotency key."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.send("POST", "/reboot", body={"serverId": self.server}, headers=headers)


def check(answer: Answer, method: str, *, route: str) -> None:
    """Fail when the document does not know the status, the media type or the body for this route."""
    promised = DOCUMENT["paths"][route][method.lower()]["responses"][str(answer.status)]
    if "$ref" in promised:
        promised = DOCUMENT["components"]["responses"]["Error"]
    media = answer.headers.get("content-type", "").partition(";")[0]
    assert media in promised["content"]
    schema = {**promised["content"][media]["schema"], "components": DOCUMENT["components"]}
    body = json.loads(answer.text) if media == "application/json" else answer.text
    jsonschema.validate(body, schema, format_checker=jsonschema.FormatChecker())


def new_api() -> Iterator[Api]:
    """Yield the real API when one is named, else a fresh mock."""
    if REAL:
        token = read_token(os.environ.get("STARGATE_DC_API_TOKEN_FILE"))
        endpoint = Endpoint(REAL, token, os.environ.get("STARGATE_DC_API_CA_FILE"))
        yield Api(endpoint, os.environ["STARGATE_DC_API_SERVER"])
        return
    mock = MockDatacenter(Settings(port=0, speed=20))
    mock.start()
    yield Api(Endpoint(mock.url), "server-001")
    mock.stop()


api = pytest.fixture(new_api)


@pytest.fixture
def first() -> Iterator[FirstContract]:
    """Return a server of the first contract."""
    server = FirstContract()
    yield server
    server.stop()


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
def test_health_says_which_datacenter(api: Api, path: str) -> None:
    """Each health path answers healthy."""
    assert api.send("GET", path).body["status"] == "healthy"


def test_a_job_goes_from_accepted_to_succeeded(api: Api) -> None:
    """A submission gives 202 and a job that one long poll sees the end of."""
    accepted = api.reboot()
    assert accepted.status == 202
    job_id = accepted.body["jobId"]
    assert accepted.headers["location"].endswith(f"/jobs/{job_id}")
    assert api.client.wait(job_id).phase == "succeeded"
    job = api.send("GET", f"/jobs/{job_id}", route="/jobs/{id}").body
    assert (job["progress"], job["serverId"], job["error"]) == (100, api.server, None)
    log = api.send("GET", f"/jobs/{job_id}/logs?follow=true", route="/jobs/{id}/logs").text
    assert log.strip()


def test_the_same_key_gives_the_same_job(api: Api) -> None:
    """A second submission with the key answers 200 with the first one's job, even when it has ended."""
    key = str(uuid.uuid4())
    first = api.reboot(key)
    again = api.reboot(key)
    assert (again.status, again.body) == (200, first.body)
    api.client.wait(first.body["jobId"])
    assert api.reboot(key).body == first.body


def test_one_job_at_a_time_on_a_server(api: Api) -> None:
    """While a job is active on the server, another is refused and the active one is named."""
    active = api.reboot().body["jobId"]
    refused = api.reboot()
    assert refused.status == 409
    assert (refused.body["code"], refused.body["jobId"]) == ("ServerBusy", active)
    api.client.wait(active)


def test_a_canceled_job_ends(api: Api) -> None:
    """Cancel is accepted once; a job that has ended cannot be canceled."""
    job_id = api.reboot().body["jobId"]
    assert api.send("POST", f"/jobs/{job_id}/cancel", route="/jobs/{id}/cancel").status == 202
    assert api.client.wait(job_id).phase == "canceled"
    assert api.send("POST", f"/jobs/{job_id}/cancel", route="/jobs/{id}/cancel").status == 409


def test_a_long_poll_waits_no_longer_than_asked(api: Api) -> None:
    """An active job is shown after the time that was asked for."""
    job_id = api.reboot().body["jobId"]
    started = time.monotonic()
    job = api.send("GET", f"/jobs/{job_id}?wait=0.1", route="/jobs/{id}").body
    assert job["phase"] in ("pending", "running")
    assert 0.1 <= time.monotonic() - started < 2
    api.client.wait(job_id)


def test_jobs_come_in_pages(api: Api) -> None:
    """The list can be narrowed to a server, and `next` leads to the jobs after a page."""
    for _ in range(3):
        api.client.wait(api.reboot().body["jobId"])
    path, seen = f"/jobs?serverId={api.server}&limit=2", []
    page = api.send("GET", path).body
    while page["next"] and len(seen) < 1000:
        seen += page["items"]
        page = api.send("GET", f"{path}&cursor={page['next']}").body
    seen += page["items"]
    assert len({job["jobId"] for job in seen}) == len(seen) >= 3
    assert {job["serverId"] for job in seen} == {api.server}


def test_servers_are_known_after_a_job(api: Api) -> None:
    """A server that had a job is listed and shown."""
    api.client.wait(api.reboot().body["jobId"])
    assert api.server in [server["serverId"] for server in api.send("GET", "/servers").body["items"]]
    assert api.send("GET", f"/servers/{api.server}", route="/servers/{id}").body["activeJob"] is None


@pytest.mark.parametrize(
    ("call", "route", "status"),
    [
        (("GET", "/jobs/job-0"), "/jobs/{id}", 404),
        (("POST", "/jobs/job-0/cancel"), "/jobs/{id}/cancel", 404),
        (("GET", "/jobs/job-0/logs"), "/jobs/{id}/logs", 404),
        (("GET", "/jobs/job-0?wait=soon"), "/jobs/{id}", 400),
        (("GET", "/jobs?phase=odd"), "/jobs", 400),
        (("GET", "/jobs?limit=0"), "/jobs", 400),
        (("GET", "/servers/nobody"), "/servers/{id}", 404),
    ],
)
def test_mistakes_are_told(api: Api, call: tuple[str, str], route: str, status: int) -> None:
    """What is unknown or malformed gets its status and a body that says so."""
    answer = api.send(*call, route=route)
    assert (answer.status, answer.body["retryable"]) == (status, False)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"serverId": ""},
        {"serverId": 7},
        {"serverId": "a", "mac": "no"},
        {"serverId": "a", "ipv4": "100.x.x.x"},
        {"serverId": "a", "force": "yes"},
    ],
)
def test_a_malformed_submission_is_refused(api: Api, body: dict[str, Any]) -> None:
    """A submission that names no server, or misspells a field, starts nothing."""
    assert api.send("POST", "/reboot", body=body).status == 422


def test_first_contract_client(api: Api) -> None:
    """A client of the first contract, which sends four fields and no key, is served as before."""
    body = {"serverId": f"{api.server}-old", "mac": "", "ipv4": "", "osVersion": "2.0.0"}
    if REAL:
        pytest.skip("would repave a real server")
    accepted = api.send("POST", "/repave", body=body)
    assert accepted.status == 202
    assert accepted.body["jobId"].removeprefix("job-").isdecimal()
    job = api.client.wait(accepted.body["jobId"])
    assert (job.phase, job.facts["message"]) == ("succeeded", "Repave completed successfully")


def test_client_polls_a_server_of_the_first_contract(first: FirstContract) -> None:
    """Our client finishes a job there by plain polling, never in a rush."""
    api = DatacenterAPI(HTTP(Endpoint(first.url)), Patience(deadline=10, poll_interval=0.1))
    job, started = api.finish(Wanted("repave", "server-001", "key-1"))
    assert (job.phase, started, len(first.jobs)) == ("succeeded", True, 1)
    pauses = [after - before for before, after in zip(first.polls, first.polls[1:], strict=False)]
    assert min(pauses) > 0.07
    with pytest.raises(NotFound):
        api.job("job-1")
    assert api.known("server-001") == []


def test_client_never_starts_a_job_twice_there(first: FirstContract) -> None:
    """An answer that got lost is not asked for again where keys are unknown."""
    first.losses = 1
    api = DatacenterAPI(HTTP(Endpoint(first.url)), Patience(deadline=10))
    with pytest.raises(Unreachable) as caught:
        api.submit(Wanted("repave", "server-001", "key-1"))
    assert caught.value.code == "SubmissionUnknown"
    assert (caught.value.retryable, len(first.jobs)) == (False, 1)


def test_client_says_that_it_cannot_cancel_there(first: FirstContract) -> None:
    """Cancel of an active job fails with its own code, of an ended one is no change."""
    api = DatacenterAPI(HTTP(Endpoint(first.url)), Patience(deadline=10, poll_interval=0.1))
    job_id, _ = api.submit(Wanted("repave", "server-001", "key-1"))
    with pytest.raises(Exception, match=job_id) as caught:
        api.cancel(job_id)
    assert caught.value.code == "CancelUnsupported"
    api.wait(job_id)
    assert api.cancel(job_id) is False
