# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document of the datacenter API, as it is served at /openapi.json.

It describes and decides nothing; a test holds every answer of the mock against it.
"""

from __future__ import annotations

from typing import Any

from stargate_reconciler import __version__
from stargate_reconciler.mock_dc.job import PHASES, STAGES, TYPES
from stargate_reconciler.mock_dc.settings import Faults

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_COMMON = (401, 429, 503)
_ID: Schema = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]}
_JSON_TYPES = {float: "number", int: "integer", str: "string"}


def _object(properties: dict[str, Schema], *, required: str | None = None, closed: bool = True) -> Schema:
    """Return the schema of an object; all properties are required unless a list of names says otherwise."""
    names = list(properties) if required is None else required.split()
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": not closed}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Schema]:
    submit = dict.fromkeys(("mac", "ipv4", "requestId"), _TEXT)
    submit["serverId"] = {"type": "string", "minLength": 1, "maxLength": 253}
    repave = dict.fromkeys(("osVersion", "osImage", "cloudInit", "kubernetesVersion"), _TEXT)
    error: dict[str, Schema] = {"code": _TEXT, "message": _TEXT, "retryable": {"type": "boolean"}}
    health = {"status": {"const": "healthy"}, "dc": _TEXT, "version": _TEXT}
    knobs = {name: {"type": _JSON_TYPES[type(value)]} for name, value in Faults().wire().items()}
    reboot = {**submit, "force": {"type": "boolean"}}
    return {
        "Health": _object(health),
        "RepaveRequest": _object({**submit, **repave}, required="serverId", closed=False),
        "RebootRequest": _object(reboot, required="serverId", closed=False),
        "Accepted": _object({"jobId": _TEXT, "status": {"const": "accepted"}}),
        "Job": _object(_job(error)),
        "JobList": _object({"items": {"type": "array", "items": _ref("Job")}, "next": _MAYBE}),
        "Server": _object(_server()),
        "ServerList": _object({"items": {"type": "array", "items": _ref("Server")}}),
        "Faults": _object(knobs, required=""),
        "Error": _object({"jobId": _TEXT, **error}, required="code message retryable"),
    }


def _job(error: dict[str, Schema]) -> dict[str, Schema]:
    return {
        "jobId": {"type": "string", "pattern": "^job-[0-9]+$"},
        "serverId": _TEXT,
        "requestId": {"type": "string", "description": "The idempotency key; empty when none was sent."},
        "type": {"enum": list(TYPES)},
        "phase": {"enum": list(PHASES)},
        "message": _TEXT,
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "stage": {"enum": ["", *STAGES]},
        "createdAt": {"type": "string", "format": "date-time"},
        "startedAt": _TIME,
        "finishedAt": _TIME,
        "error": {"anyOf": [{"type": "null"}, _object(error)]},
    }


def _server() -> dict[str, Schema]:
    return {
        "serverId": _TEXT,
        "mac": _TEXT,
        "ipv4": _TEXT,
        "state": {"enum": ["unknown", "provisioning", "rebooting", "ready", "error"]},
        "currentOS": _TEXT,
        "activeJob": _MAYBE,
    }


def _answers(good: dict[int, Schema | str | None], *errors: int) -> dict[str, Any]:
    """Return responses: a schema means JSON, a text is a media type of plain text, None is an empty body."""
    found: dict[str, Any] = {}
    for status, body in good.items():
        found[str(status)] = {"description": "Done" if status != 202 else "Accepted"}
        if isinstance(body, str):
            found[str(status)]["content"] = {body: {"schema": _TEXT}}
        elif body is not None:
            found[str(status)]["content"] = {"application/json": {"schema": body}}
    for status in errors:
        found[str(status)] = {"$ref": "#/components/responses/Error"}
    return found


def _query(name: str, schema: Schema, *, about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": about}


def _submission(kind: str) -> dict[str, Any]:
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
    key["description"] = "The same key gives the same job (200); also accepted as requestId in the body."
    body = _ref(f"{kind.capitalize()}Request")
    responses = _answers({202: _ref("Accepted"), 200: _ref("Accepted")}, 400, 401, 405, 409, 411, 413, 422, 429, 503)
    for status in ("200", "202"):
        responses[status]["headers"] = {"Location": {"schema": _TEXT, "description": "Path of the job."}}
    return {
        "operationId": kind,
        "summary": f"Start a job that will {kind} a server. 409 ServerBusy while another job is active on it.",
        "parameters": [key],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses,
    }


def _act(name: str, summary: str, *, responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def _service_paths() -> dict[str, Any]:
    health = _answers({200: _ref("Health")})
    paths: dict[str, Any] = {
        f"/{name}": {"get": _act(name, "Is it up?", responses=health, security=[])}
        for name in ("health", "healthz", "readyz")
    }
    text = _answers({200: "text/plain"})
    paths["/metrics"] = {"get": _act("metrics", "Prometheus text.", responses=text, security=[])}
    return paths


def _job_paths() -> dict[str, Any]:
    listing = [
        _query("serverId", _TEXT, about="Only jobs of this server."),
        _query("phase", {"enum": list(PHASES)}, about="Only jobs in this phase."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}, about="Jobs per page."),
        _query("cursor", _TEXT, about="The `next` of the page before."),
    ]
    wait: Schema = {"type": "number", "minimum": 0, "maximum": 30}
    poll = [_query("wait", wait, about="Seconds to wait for the job to end; the answer comes at once when it has.")]
    follow = [_query("follow", {"type": "boolean"}, about="Go on until the job has ended.")]
    jobs = _answers({200: _ref("JobList")}, *_COMMON, 400)
    job = _answers({200: _ref("Job")}, *_COMMON, 400, 404)
    canceled = _answers({202: _ref("Job")}, *_COMMON, 404, 409)
    logs = _answers({200: "text/plain"}, *_COMMON, 404)
    cancel = _act("cancelJob", "End a job; 409 when it has ended.", responses=canceled)
    return {
        "/repave": {"post": _submission("repave")},
        "/reboot": {"post": _submission("reboot")},
        "/jobs": {"get": _act("listJobs", "Jobs, oldest first.", responses=jobs, parameters=listing)},
        "/jobs/{id}": {**_ID, "get": _act("job", "One job.", responses=job, parameters=poll)},
        "/jobs/{id}/cancel": {**_ID, "post": cancel},
        "/jobs/{id}/logs": {**_ID, "get": _act("jobLogs", "The log.", responses=logs, parameters=follow)},
    }


def _server_paths() -> dict[str, Any]:
    servers = _answers({200: _ref("ServerList")}, *_COMMON)
    server = _answers({200: _ref("Server")}, *_COMMON, 404)
    return {
        "/servers": {"get": _act("listServers", "Servers, as last known.", responses=servers)},
        "/servers/{id}": {**_ID, "get": _act("server", "One server.", responses=server)},
    }


def _admin_paths() -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": _ref("Faults")}}}
    shown = _answers({200: _ref("Faults")}, 401, 404)
    turned = _answers({204: None}, 400, 401, 404, 422)
    lost = _answers({204: None}, 401, 404)
    turn = _act("setFaults", "Turn the knobs that are named (mock only).", responses=turned, requestBody=body)
    return {
        "/admin/faults": {"get": _act("faults", "The fault knobs (mock only).", responses=shown), "post": turn},
        "/admin/jobs/{id}": {**_ID, "delete": _act("forgetJob", "Lose a job (mock only).", responses=lost)},
    }


def document(dc_name: str) -> dict[str, Any]:
    """Return the document for the datacenter of this name."""
    error = {"application/json": {"schema": _ref("Error")}}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Datacenter API of {dc_name}", "version": __version__, "license": {"name": "Apache-2.0"}},
        "security": [{}, {"bearer": []}],
        "paths": {**_service_paths(), **_job_paths(), **_server_paths(), **_admin_paths()},
        "components": {
            "schemas": _schemas(),
            "responses": {"Error": {"description": "What went wrong; 429 carries Retry-After.", "content": error}},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
