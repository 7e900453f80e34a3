# SPDX-License-Identifier: Apache-2.0
"""The wording of statuses: pure functions from a decision or a result to a merge patch of `.status`.

Nothing is written here. Conditions follow `metav1.Condition`; Reconciling and Stalled follow kstatus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .model import FormerNode, Job, Operation, Outcome, Phase, Result, Server, formatted_time, profile_name
from .redact import redacted

Patch = dict[str, Any]

PROVISIONS = frozenset({"repave", "upgrade"})
"""Operations during which a Server is not what it was: its state says provisioning, and error when they fail."""

DISTURBS = PROVISIONS | {"reboot", "decommission"}
"""Operations after whose failure a Server cannot be taken for ready."""

TAKES_OUT = frozenset({"decommission"})
"""Operations after which a Server is no Node any more."""

REFERENCES = frozenset({"ServerNotFound", "ProfileNotFound", "SecretNotFound", "DatacenterUnknown"})
"""Reasons that say that an object or an endpoint is not there yet."""

RESULTS = ("os", "nodeName", "nodeUID", "kubeletVersion", "podCIDR")
"""What an Operation keeps of the facts that its run told."""


@dataclass(frozen=True)
class Note:
    """An Event: its reason is a word, its message a sentence."""

    reason: str
    message: str
    warning: bool = False


def is_news(old: Mapping[str, Any], patch: Patch) -> bool:
    """Whether a patch would change a status beyond saying that it was written again."""
    return any(old.get(key) != value for key, value in patch.items() if key != "lastUpdated")


def conditions(
    old: Any, wanted: Mapping[str, tuple[bool | str, str, str] | None], now: datetime, generation: int
) -> list[Patch]:
    """Return the condition list with `wanted` in it.

    `wanted` maps a type to (status, reason, message), or to None to take the condition away; a status is True, False
    or "Unknown". The time of transition stays as it was where the status stays. Source: metav1.Condition.
    """
    known = (
        [c for c in old if isinstance(c, Mapping) and isinstance(c.get("type"), str)]
        if isinstance(old, Sequence)
        else []
    )
    kept = {c["type"]: c for c in known}
    for kind, value in wanted.items():
        if value is None:
            kept.pop(kind, None)
            continue
        status, reason, message = value
        text = str(status)
        before = kept.get(kind, {})
        moment = before.get("lastTransitionTime") if before.get("status") == text else None
        kept[kind] = {
            "type": kind,
            "status": text,
            "reason": reason,
            "message": message,
            "lastTransitionTime": moment or formatted_time(now),
            "observedGeneration": generation,
        }
    return [dict(kept[kind]) for kind in sorted(kept)]


def _operation_patch(
    operation: Operation, wanted: Mapping[str, tuple[bool, str, str] | None], now: datetime, **fields: Any
) -> Patch:
    listed = conditions(operation.status.get("conditions"), wanted, now, operation.generation)
    return {"observedGeneration": operation.generation, "conditions": listed, **fields}


def waiting(operation: Operation, reason: str, message: str, now: datetime) -> Patch:
    """Return the patch for an Operation that cannot start yet."""
    lacks = reason in REFERENCES
    wanted: dict[str, tuple[bool, str, str] | None] = {
        "Complete": (False, reason, message),
        "Reconciling": (True, reason, message),
    }
    if lacks or operation.condition("ReferencesResolved"):
        resolved = (False, reason, message) if lacks else (True, "Resolved", "All that is named exists.")
        wanted["ReferencesResolved"] = resolved
    return _operation_patch(operation, wanted, now, phase=str(Phase.PENDING), message=message)


def running(operation: Operation, run_id: str, job: Job, now: datetime) -> Patch:
    """Return the patch for an Operation whose next attempt begins."""
    profile, former = job.profile, job.former_node
    attempt = operation.attempts + 1
    again = " goes on after an interruption" if operation.phase is Phase.RUNNING else " runs"
    message = f"Attempt {attempt}{again}."
    wanted: dict[str, tuple[bool, str, str] | None] = {
        "Complete": (False, "Running", message),
        "Reconciling": (True, "Running", message),
        "ReferencesResolved": (True, "Resolved", "All that is named exists."),
    }
    name = profile.name if profile else operation.profile
    accepted = {"server": operation.server, "operation": operation.act, **({"profile": name} if name else {})}
    return _operation_patch(
        operation,
        wanted,
        now,
        phase=str(Phase.RUNNING),
        startTime=operation.status.get("startTime") or formatted_time(now),
        attempts=attempt,
        runID=run_id,
        stage="Starting",
        retryAfter=None,
        message=message,
        acceptedSpec=accepted,
        **({"formerNode": _former(former)} if former else {}),
    )


def _former(node: FormerNode) -> Patch:
    """Return what is kept of the Node of before. An empty text is left out: old API servers merge it as a null."""
    return {**({"uid": node.uid} if node.uid else {}), "cordoned": node.cordoned}


def retrying(operation: Operation, result: Result, delay: float, now: datetime) -> Patch:
    """Return the patch for a failed attempt that another one follows."""
    left = operation.retry_limit - operation.failures
    again = f"Tries again in {delay:.0f} s ({left} of {operation.retry_limit} retries left)."
    message = redacted(f"Attempt {operation.attempts} failed: {said(result)} {again}")
    wanted: dict[str, tuple[bool, str, str] | None] = {
        "Complete": (False, "BackOff", message),
        "Reconciling": (True, "BackOff", message),
    }
    return _operation_patch(
        operation,
        wanted,
        now,
        phase=str(Phase.PENDING),
        failures=operation.failures + 1,
        stage="BackOff",
        retryAfter=formatted_time(now + timedelta(seconds=delay)),
        message=message,
        **_job_after(operation, result),
    )


def ended(operation: Operation, result: Result, now: datetime) -> Patch:
    """Return the patch for the end of an Operation."""
    good = result.outcome is Outcome.SUCCEEDED
    reason = "Succeeded" if good else (result.reason or "Failed")
    message = redacted(_success(operation, result) if good else said(result))
    wanted: dict[str, tuple[bool, str, str] | None] = {
        "Complete": (good, reason, message),
        "Failed": None if good else (True, reason, message),
        "Reconciling": None,
        "Stalled": None if good else (True, reason, message),
    }
    learned = {key: result.facts[key] for key in RESULTS if result.facts.get(key)}
    return _operation_patch(
        operation,
        wanted,
        now,
        phase=str(Phase.SUCCEEDED if good else Phase.FAILED),
        completionTime=formatted_time(now),
        stage="Done" if good else (result.task or operation.status.get("stage") or None),
        retryAfter=None,
        message=message,
        **({"result": learned} if learned else {}),
        **_job_id(result),
    )


def _job_after(operation: Operation, result: Result) -> Patch:
    """After a job that has failed the next attempt asks for another; any other failure goes on with the same."""
    if result.job_ended:
        return {"dcJobID": None, "jobRequests": operation.job_requests + 1}
    return _job_id(result)


def _job_id(result: Result) -> Patch:
    return {"dcJobID": result.facts["dcJobID"]} if result.facts.get("dcJobID") else {}


def staged(stage: str, job_id: str) -> Patch:
    """Return the patch that shows the step of a live run, and its job in the datacenter's API once there is one."""
    return {"stage": stage, **({"dcJobID": job_id} if job_id else {})}


def said(result: Result) -> str:
    """Return a failure as a sentence that names its task."""
    where = f"Task '{result.task}' failed: " if result.task and result.outcome is Outcome.FAILED else ""
    text = result.message or "No reason was given."
    return f"{where}{text}" if text.endswith((".", "!", "?")) else f"{where}{text}."


def _success(operation: Operation, result: Result) -> str:
    if result.facts.get("message"):
        return result.facts["message"]
    tail = f"; the machine runs {result.facts['os']}" if result.facts.get("os") else ""
    return f"{operation.act.capitalize()} completed successfully{tail}."


def claimed(server: Server, operation: Operation, now: datetime) -> Patch:
    """Return the Server's patch when an Operation takes it."""
    patch: Patch = {
        "activeOperation": operation.name,
        "lastUpdated": formatted_time(now),
        "message": f"Operation {operation.name} ({operation.act}) runs.",
    }
    if operation.act in PROVISIONS:
        patch["state"] = "provisioning"
        wanted = {"Provisioned": (False, "Provisioning", patch["message"])}
        patch["conditions"] = conditions(server.status.get("conditions"), wanted, now, _generation(server))
    return patch


def _generation(server: Server) -> int:
    generation = server.raw.get("metadata", {}).get("generation", 0)
    return generation if isinstance(generation, int) else 0


def released(server: Server, operation: Operation, result: Result, now: datetime, *, touched: bool = True) -> Patch:
    """Return the Server's patch when an Operation gives it back, with what it learned.

    Where the machine was not touched, it is what it was: ready when it runs an OS, else pending.
    """
    patch: Patch = {"activeOperation": None, "lastUpdated": formatted_time(now)}
    wanted: dict[str, tuple[bool, str, str] | None] = {}
    if result.outcome is Outcome.SUCCEEDED:
        patch.update(_succeeded(server, operation, result))
        wanted.update(_proven(operation, result, patch))
    elif not touched:
        patch["message"] = f"Operation {operation.name} ({operation.act}) ended before it began."
        if server.state == "provisioning":
            patch["state"] = "ready" if server.status.get("currentOS") else "pending"
    else:
        patch["message"] = redacted(f"Operation {operation.name} ({operation.act}) failed: {said(result)}")
        stopped = result.reason in ("Cancelled", "DeadlineExceeded", "Deleted")
        if operation.act in DISTURBS or stopped:
            patch["state"] = "error"
            wanted["Provisioned"] = (False, result.reason or "Failed", patch["message"])
        if result.outcome is Outcome.UNREACHABLE:
            wanted["Reachable"] = (False, "Unreachable", patch["message"])
    if result.node_ready is not None:
        wanted["NodeReady"] = _node_condition(operation, result)
    patch.update(pinned(result))
    patch["conditions"] = conditions(server.status.get("conditions"), wanted, now, _generation(server))
    return patch


def _succeeded(server: Server, operation: Operation, result: Result) -> Patch:
    """Return what a success says of a Server: its state, what it runs, its Node."""
    if operation.act in TAKES_OUT:
        gone = dict.fromkeys(("os", "currentOS", "nodeName", "podCIDR", "appliedProvisioningProfile"))
        told = result.facts.get("message", "")
        return {**gone, "state": "pending", "message": f"Decommissioned by Operation {operation.name}. {told}".strip()}
    patch: Patch = {"message": f"{operation.act.capitalize()} completed by Operation {operation.name}."}
    if result.node_ready and server.state == "error":
        patch["state"] = "ready"
    return {**patch, **_learned(result, profile_name(operation, server))}


def _proven(operation: Operation, result: Result, patch: Patch) -> dict[str, tuple[bool, str, str] | None]:
    """Return the conditions of a Server that a success settles."""
    wanted: dict[str, tuple[bool, str, str] | None] = {}
    if operation.act in TAKES_OUT:
        wanted["NodeReady"] = None
        wanted["Provisioned"] = (False, "Decommissioned", patch["message"])
    elif "state" in patch:
        wanted["Provisioned"] = (True, operation.act.capitalize(), patch["message"])
    if not result.facts.get("dcJobID") and operation.act not in TAKES_OUT:
        wanted["Reachable"] = (True, "Reached", f"Reached by Operation {operation.name}.")
    return wanted


def _node_condition(operation: Operation, result: Result) -> tuple[bool, str, str]:
    if result.node_ready:
        name = result.facts.get("nodeName", "")
        return True, "Ready", f"Operation {operation.name} left Node {name} Ready."
    return False, result.reason, redacted(result.message)


def pinned(result: Result) -> Patch:
    """Return the part of a Server's patch that pins host keys, also of a failed attempt; {} when none are known."""
    known = result.host_keys if result.reason != "HostKeyChanged" else ()
    return {"sshHostKeys": list(known)} if known else {}


def _learned(result: Result, profile: str) -> Patch:
    patch: Patch = {key: result.facts[key] for key in ("nodeName", "podCIDR", "ipv4") if result.facts.get(key)}
    if result.facts.get("os"):
        patch.update(state="ready", os=result.facts["os"], currentOS=result.facts["os"])
        patch["appliedProvisioningProfile"] = profile
    return patch


def remembered(holder: Operation) -> Result:
    """Return the result of a finished Operation as its status tells it, for a Server that did not hear of it."""
    good = holder.phase is Phase.SUCCEEDED
    kept = holder.status.get("result")
    facts = {str(k): str(v) for k, v in kept.items()} if isinstance(kept, Mapping) else {}
    reason = str(holder.condition("Failed").get("reason", "Failed"))
    message = str(holder.status.get("message", ""))
    outcome = Outcome.SUCCEEDED if good else Outcome.FAILED
    return Result(outcome, reason="" if good else reason, message=message, retryable=False, facts=facts)
