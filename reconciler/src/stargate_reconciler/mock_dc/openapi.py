# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document of the datacenter API, as it is served at /openapi.json.

It describes and decides nothing; a test holds every answer of the mock against it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from stargate_reconciler import __version__
from stargate_reconciler.mock_dc.job import PHASES, STAGES, TYPES
from stargate_reconciler.mock_dc.settings import Faults

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
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
    knobs = {knob.name: {"type": _JSON_TYPES[type(getattr(Faults(), knob.name))]} for knob in fields(Faults)}
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


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


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


def _read(name: str, summary: str, responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def _paths() -> dict[str, Any]:
    wait: Schema = {"type": "number", "minimum": 0, "maximum": 30}
    faults_body = {"required": True, "content": {"application/json": {"schema": _ref("Faults")}}}
    common = (401, 429, 503)
    job_id = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]}
    health = _answers({200: _ref("Health")})
    listing = [
        _query("serverId", _TEXT, "Only jobs of this server."),
        _query("phase", {"enum": list(PHASES)}, "Only jobs in this phase."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}, "Jobs per page."),
        _query("cursor", _TEXT, "The `next` of the page before."),
    ]
    poll = _query("wait", wait, "Seconds to wait for the job to end; the answer comes at once when it has.")
    follow = _query("follow", {"type": "boolean"}, "Go on until the job has ended.")
    logs = _answers({200: "text/plain"}, *common, 404)
    return {
        **{
            f"/{name}": {"get": {**_read(name, "Is it up?", health), "security": []}}
            for name in ("health", "healthz", "readyz")
        },
        "/metrics": {"get": {**_read("metrics", "Prometheus text.", _answers({200: "text/plain"})), "security": []}},
        "/repave": {"post": _submission("repave")},
        "/reboot": {"post": _submission("reboot")},
        "/jobs": {
            "get": _read(
                "listJobs", "Jobs, oldest first.", _answers({200: _ref("JobList")}, *common, 400), parameters=listing
            )
        },
        "/jobs/{id}": {
            **job_id,
            "get": _read("job", "One job.", _answers({200: _ref("Job")}, *common, 400, 404), parameters=[poll]),
        },
        "/jobs/{id}/cancel": {
            **job_id,
            "post": _read(
                "cancelJob", "End a job; 409 when it has ended.", _answers({202: _ref("Job")}, *common, 404, 409)
            ),
        },
        "/jobs/{id}/logs": {**job_id, "get": _read("jobLogs", "The job's log.", logs, parameters=[follow])},
        "/servers": {
            "get": _read("listServers", "Servers, as last known.", _answers({200: _ref("ServerList")}, *common))
        },
        "/servers/{id}": {
            **job_id,
            "get": _read("server", "One server.", _answers({200: _ref("Server")}, *common, 404)),
        },
        "/admin/faults": {
            "get": _read("faults", "The fault knobs (mock only).", _answers({200: _ref("Faults")}, 401, 404)),
            "post": _read(
                "setFaults",
                "Turn the knobs that are named (mock only).",
                _answers({204: None}, 400, 401, 404, 422),
                requestBody=faults_body,
            ),
        },
        "/admin/jobs/{id}": {
            **job_id,
            "delete": _read("forgetJob", "Lose a job (mock only).", _answers({204: None}, 401, 404)),
        },
    }


def document(dc_name: str) -> dict[str, Any]:
    """Return the document for the datacenter of this name."""
    error = {"application/json": {"schema": _ref("Error")}}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Datacenter API of {dc_name}", "version": __version__, "license": {"name": "Apache-2.0"}},
        "security": [{}, {"bearer": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "responses": {"Error": {"description": "What went wrong; 429 carries Retry-After.", "content": error}},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
