# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the datacenter API's modules, and from options to a result.

PRIVATE to the collection. The only place that turns the client's errors into a result with `failed` and `failure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._dc_api import (
    DatacenterAPI,
    Job,
    Patience,
    Wanted,
    failure_of,
)
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound, StargateError
from ansible_collections.stargate.core.plugins.module_utils._http import HTTP, Endpoint, read_token

CONNECTION_SPEC: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "required": True},
    "token_file": {"type": "path", "no_log": False},
    "ca_file": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 30.0},
}

_FIELDS = {  # option -> field of the API
    "mac": "mac",
    "ipv4": "ipv4",
    "os_version": "osVersion",
    "os_image": "osImage",
    "cloud_init": "cloudInit",
    "kubernetes_version": "kubernetesVersion",
    "force": "force",
}

JOB_SPEC: dict[str, Any] = {
    "argument_spec": {
        **CONNECTION_SPEC,
        "type": {"type": "str", "choices": ["repave", "reboot"]},
        "server_id": {"type": "str"},
        "mac": {"type": "str"},
        "ipv4": {"type": "str"},
        "os_version": {"type": "str"},
        "os_image": {"type": "str"},
        "cloud_init": {"type": "str", "no_log": True},
        "kubernetes_version": {"type": "str"},
        "force": {"type": "bool"},
        "strategy": {"type": "str", "default": "dcApi"},
        "request_id": {"type": "str"},
        "state": {"type": "str", "choices": ["submitted", "finished", "canceled"], "default": "finished"},
        "job_id": {"type": "str"},
        "deadline": {"type": "float", "default": 3600.0},
        "unreachable_after": {"type": "float", "default": 300.0},
        "poll_interval": {"type": "float", "default": 10.0},
        "report": {"type": "dict"},
    },
    "required_if": [
        ("state", "submitted", ("type", "server_id")),
        ("state", "finished", ("type", "job_id"), True),
        ("state", "canceled", ("job_id",)),
    ],
    "required_by": {"type": ("server_id",)},
}


def told(result: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task tells of its host, in the form of ansible.builtin.set_stats; what is empty is left out."""
    job = result.get("job") or {}
    facts = {"dcJobID": job.get("jobId"), "message": result.get("msg"), **report}
    known = {key: value for key, value in facts.items() if value not in (None, "")}
    return {"data": {"stargate": known}, "per_host": True, "aggregate": False}


def perform(params: Mapping[str, Any], *, check_mode: bool, host: str) -> dict[str, Any]:
    """Return the result of one dc_job task: changed, msg, job, request_id; with failed and failure when it failed.

    `host` names the host in a request id that is made up because none was given.
    """
    wanted: Wanted | None = None
    try:
        wanted = _wanted(params, host)
        api = _client(params, check_mode=check_mode)
        result = _foretell(api, params, wanted=wanted) if check_mode else _act(api, params, wanted=wanted)
    except StargateError as error:
        result = failed(error)
    if wanted:
        result["request_id"] = wanted.request_id
    return result


def failed(error: StargateError) -> dict[str, Any]:
    """Return the part of a result that says what went wrong."""
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}


def _client(params: Mapping[str, Any], *, check_mode: bool) -> DatacenterAPI:
    if not params["url"]:
        raise Invalid(
            "Failed to find the datacenter API: no url is known for this host. Configure the datacenter of the "
            "Server's namespace, or name one in its annotation stargate.io/datacenter.",
            code="DatacenterUnknown",
        )
    endpoint = Endpoint(
        url=params["url"],
        token=read_token(params["token_file"]),
        ca_file=params["ca_file"],
        validate_certs=params["validate_certs"],
        timeout=params["timeout"],
    )
    patience = Patience(
        deadline=min(params["deadline"], params["timeout"]) if check_mode else params["deadline"],
        unreachable_after=params["unreachable_after"],
        poll_interval=params["poll_interval"],
    )
    return DatacenterAPI(HTTP(endpoint), patience)


def _wanted(params: Mapping[str, Any], host: str) -> Wanted | None:
    if params["strategy"] != "dcApi":
        raise Invalid(
            f'Failed to {params["type"] or "act on"} server {params["server_id"]}: the strategy "{params["strategy"]}" '
            "does not go through a datacenter API and is not supported here. Set spec.repave.strategy of the profile "
            "to dcApi.",
            code="UnsupportedStrategy",
        )
    if not params["type"]:
        return None
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    request_id = params["request_id"] or f"{host}-{params['type']}-{moment}"
    fields = {field: params[option] for option, field in _FIELDS.items()}
    return Wanted(params["type"], params["server_id"], request_id, fields)


def _act(api: DatacenterAPI, params: Mapping[str, Any], *, wanted: Wanted | None) -> dict[str, Any]:
    if params["state"] == "canceled":
        return _cancel(api, params["job_id"])
    if params["state"] == "submitted" and wanted:
        return _submit(api, wanted)
    return _finish(api, params, wanted=wanted)


def _submit(api: DatacenterAPI, wanted: Wanted) -> dict[str, Any]:
    job_id, new = api.submit(wanted)
    facts = {"jobId": job_id, "serverId": wanted.server_id, "type": wanted.type, "phase": "pending"}
    if new:
        return {"changed": True, "msg": f"Job {job_id} accepted", "job": {**facts, "message": "accepted"}}
    try:
        facts = dict(api.job(job_id).facts)
    except NotFound:
        facts["message"] = "known by its request id only"
    return {"changed": False, "msg": f"Job {job_id} was submitted before", "job": facts}


def _finish(api: DatacenterAPI, params: Mapping[str, Any], *, wanted: Wanted | None) -> dict[str, Any]:
    job, started = api.finish(wanted, params["job_id"] or "")
    result: dict[str, Any] = {"changed": started, "msg": job.facts.get("message", ""), "job": dict(job.facts)}
    subject = params["server_id"] or job.facts.get("serverId")
    doing = f"{wanted.type if wanted else 'act on'} server {subject}" if subject else f"finish job {job.id}"
    error = failure_of(job, doing, url=params["url"].rstrip("/"))
    return {**result, **failed(error), "changed": started} if error else result


def _cancel(api: DatacenterAPI, job_id: str) -> dict[str, Any]:
    canceled = api.cancel(job_id)
    text = "canceled" if canceled else "had ended before, or is not known"
    return {"changed": canceled, "msg": f"Job {job_id} {text}", "job": {"jobId": job_id}}


def _foretell(api: DatacenterAPI, params: Mapping[str, Any], *, wanted: Wanted | None) -> dict[str, Any]:
    """Say what would be done, by reading only."""
    if params["job_id"]:
        try:
            return _foretold(api.job(params["job_id"]), params["state"])
        except NotFound:
            pass
    if not wanted or params["state"] == "canceled":
        return {"changed": False, "msg": f"Job {params['job_id']} is not known", "job": {}}
    jobs = api.known(wanted.server_id)
    for job in jobs:
        if job.facts.get("requestId") == wanted.request_id:
            return _foretold(job, params["state"])
    doing = f"Would {wanted.type} server {wanted.server_id}"
    busy = next((job.id for job in jobs if not job.ended), "")
    facts = {"serverId": wanted.server_id, "type": wanted.type, "phase": "pending", "message": "not submitted"}
    return {"changed": True, "msg": doing + (f" after job {busy} has ended" if busy else ""), "job": facts}


def _foretold(job: Job, state: str) -> dict[str, Any]:
    cancels = state == "canceled" and not job.ended
    would = "cancel" if cancels else "not change" if job.ended or state != "finished" else "wait for"
    text = f"Would {would} job {job.id}, which is {job.phase}"
    return {"changed": cancels, "msg": text, "job": dict(job.facts)}
