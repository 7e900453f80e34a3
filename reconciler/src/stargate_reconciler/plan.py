# SPDX-License-Identifier: Apache-2.0
"""What should happen now, for one Server: a pure function from what is known to a list of decisions.

Nothing is read, written or started here, and time is an argument.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from ansible_collections.stargate.core.plugins.module_utils import _server

from . import rules
from .decision import (
    Decision,
    End,
    Forget,
    Live,
    NoteEdit,
    Policy,
    Recheck,
    Resume,
    Retry,
    Stage,
    Start,
    Stop,
    Unlock,
    Wait,
    World,
)
from .model import Job, Operation, Outcome, Phase, Profile, Result, Server, parsed_time, profile_name

NEEDS_PROFILE = frozenset({"repave", "upgrade", "check"})
"""Operations that cannot do anything without a ProvisioningProfile."""

NEEDS_VERSION = frozenset({"upgrade"})
"""Operations whose ProvisioningProfile has to say which Kubernetes version is wanted."""

USES_CLOUD_INIT = frozenset({"repave", "check"})
"""Operations that give a new machine the cloud-init of its ProvisioningProfile, or say what that would change."""

NEEDS_DATACENTER = frozenset({"repave", "reboot"})
"""Operations that go to the datacenter API when the Server's strategy is dcApi."""


def head(operations: Iterable[Operation], holder: str, live: Container[str] = ()) -> Operation | None:
    """Return the Operation whose turn it is: one live, begun or holding the lock, else the oldest unfinished one.

    `live` has the uids of those that have a run or a place in a batch: another one must not come before them.
    """
    waiting = [operation for operation in operations if not operation.phase.is_final]
    return min(
        waiting,
        key=lambda o: (
            o.uid not in live,
            o.phase is not Phase.RUNNING and not o.attempts,
            o.name != holder,
            o.created,
            o.name,
        ),
        default=None,
    )


def secret_names(world_server: Server | None, operation: Operation | None, profiles: Mapping[str, Profile]) -> set[str]:
    """Return the names of the Secrets that have to be read before `decisions` can tell about `operation`."""
    if operation is None or world_server is None:
        return set()
    profile = profiles.get(profile_name(operation, world_server))
    if profile is None:
        return set()
    user_data = profile.user_data_secret if operation.act in USES_CLOUD_INIT else ""
    return {name for name in (profile.secret, user_data) if _server.is_name(name)}


def decisions(world: World, policy: Policy) -> list[Decision]:
    """Return what should happen now for one Server, in the order in which it should be done."""
    found: list[Decision] = []
    unfinished = [o for o in world.operations if not o.phase.is_final]
    turn = head(unfinished, world.server.active_operation if world.server else "", world.live)
    found += _of_vanished(world)
    if turn is not None:
        found += _of_head(world, policy, turn)
    for operation in unfinished:
        if operation is not turn:
            found += _of_waiting(operation, turn)
    return found + _of_finished(world)


def _of_vanished(world: World) -> list[Decision]:
    """Return what becomes of runs whose Operation was deleted, or ended by another hand, and of the lock they leave."""
    final = {operation.uid: operation.phase.is_final for operation in world.operations}
    gone = [live for uid, live in world.live.items() if final.get(uid, True)]
    found: list[Decision] = []
    for live in gone:
        deleted = live.operation.uid not in final
        if live.result is not None:
            result = _of_deleted(live.result) if deleted else live.result
            found.append(End(live.operation, result, touched=bool(live.run_id)))
        elif not live.stopping:
            found.append(Stop(live.operation, "Deleted" if deleted else "Ended"))
    server = world.server
    if server and server.active_operation and not gone:
        holder = next((o for o in world.operations if o.name == server.active_operation), None)
        if holder is None or holder.phase.is_final:
            found.append(Unlock(server, holder))
    return found


def _of_deleted(result: Result) -> Result:
    if result.outcome is Outcome.SUCCEEDED:
        return result
    message = "The Operation was deleted while it ran and was stopped; the machine may be half done. Apply a new one."
    return _refusal("Deleted", message)


def _of_finished(world: World) -> list[Decision]:
    found: list[Decision] = []
    for operation in world.operations:
        ttl = operation.seconds("ttlSecondsAfterFinished")
        ended = operation.time("completionTime")
        if not operation.phase.is_final or ttl is None or ended is None:
            continue
        left = (ended + timedelta(seconds=ttl) - world.now).total_seconds()
        found.append(Forget(operation) if left <= 0 else Recheck(left))
    return found


def _of_waiting(operation: Operation, turn: Operation | None) -> list[Decision]:
    if operation.cancel:
        return [End(operation, _refusal("Cancelled", "Cancelled before it started."), touched=False)]
    before = turn.name if turn else ""
    message = f"Waits for Operation {before} to end on Server {_fit(operation.server)}."
    return [Wait(operation, "ServerBusy", message)]


def _fit(name: str) -> str:
    """Return a name fit for a sentence, also one that no object can have."""
    return name if _server.is_name(name) else _server.shown(name)


def _refusal(reason: str, message: str) -> Result:
    return Result(Outcome.FAILED, reason=reason, message=message, retryable=False)


def _of_head(world: World, policy: Policy, operation: Operation) -> list[Decision]:
    live = world.live.get(operation.uid)
    notes: list[Decision] = [NoteEdit(operation)] if operation.edited else []
    if live is not None and live.result is not None:
        return [*notes, _after(operation, live, policy)]
    if live is not None:
        return notes + _of_live(world, policy, replace(live, operation=operation))
    still_there = next(iter(world.live.values()), None)
    if still_there is not None:
        return notes + _of_waiting(operation, still_there.operation)
    return notes + _of_idle(world, policy, operation)


def _after(operation: Operation, live: Live, policy: Policy) -> Decision:
    result = live.result or Result(Outcome.EMPTY)
    if live.run_id and operation.phase is Phase.PENDING:  # the retry was written, only the answer was lost
        return Resume(operation)
    if live.stopping in ("Cancelled", "DeadlineExceeded") and result.outcome is not Outcome.SUCCEEDED:
        return End(operation, _stopped(live), touched=bool(live.run_id))
    if result.outcome is Outcome.INTERRUPTED:
        return Resume(operation)
    if result.outcome is Outcome.SUCCEEDED or not result.retryable or operation.failures >= operation.retry_limit:
        return End(operation, result, touched=True)
    delay = min(policy.retry_cap, policy.retry_base * 2.0 ** min(operation.failures, 60))
    return Retry(operation, result, delay)


def _stopped(live: Live) -> Result:
    at = f" at '{live.stage}'" if live.stage else ""
    job = live.job_id or str(live.operation.status.get("dcJobID") or "")
    beyond = f" Job {job} of the datacenter goes on by itself: look there before you do." if job else ""
    if live.stopping == "Cancelled":
        message = f"Cancelled{at}: the run was stopped and the machine may be half done.{beyond}"
        return _refusal("Cancelled", f"{message} Apply a new Operation to mend it.")
    message = f"Ran longer than its activeDeadlineSeconds and was stopped{at}.{beyond}"
    return _refusal(live.stopping, f"{message} Apply a new Operation, with more time.")


def _of_live(world: World, policy: Policy, live: Live) -> list[Decision]:
    operation = live.operation
    if live.stopping:
        return []
    if operation.cancel:
        return [Stop(operation, "Cancelled")]
    found: list[Decision] = []
    left = _seconds_left(operation, policy, world.now)
    if left is not None and left <= 0:
        return [Stop(operation, "DeadlineExceeded")]
    if left is not None:
        found.append(Recheck(left))
    shown = operation.status.get("stage"), operation.status.get("dcJobID") or ""
    if live.stage and (live.stage, live.job_id or shown[1]) != shown and operation.phase is Phase.RUNNING:
        found.append(Stage(operation, live.stage, live.job_id))
    return found


def _seconds_left(operation: Operation, policy: Policy, now: datetime) -> float | None:
    limit = operation.seconds("activeDeadlineSeconds")
    started = operation.time("startTime")
    if started is None:
        return None
    return (started + timedelta(seconds=limit or policy.default_deadline) - now).total_seconds()


def _of_idle(world: World, policy: Policy, operation: Operation) -> list[Decision]:
    if operation.cancel:
        return [End(operation, _refusal("Cancelled", _cancelled(operation)), touched=operation.attempts > 0)]
    left = _seconds_left(operation, policy, world.now)
    if left is not None and left <= 0:
        message = "Did not end within its activeDeadlineSeconds. Apply a new Operation, with more time."
        return [End(operation, _refusal("DeadlineExceeded", message), touched=operation.attempts > 0)]
    again = operation.time("retryAfter")
    if again is not None and again > world.now and operation.phase is Phase.PENDING:
        pause = (again - world.now).total_seconds()
        return [Recheck(pause if left is None else min(pause, left))]
    for check in (_mistake, _missing):
        found = check(world, policy, operation)
        if found:
            return found
    return [Start(_job(world.server, world, policy, operation))] if world.server else []


def _cancelled(operation: Operation) -> str:
    if not operation.attempts:
        return "Cancelled before it ran."
    return "Cancelled between two attempts; the machine may be half done. Apply a new Operation to mend it."


def _job(server: Server, world: World, policy: Policy, operation: Operation) -> Job:
    profile = world.profiles.get(profile_name(operation, server))
    credentials = world.secrets.get(profile.secret) if profile and profile.secret else None
    cloud_init = world.secrets.get(profile.user_data_secret) if profile and profile.user_data_secret else None
    user_data = cloud_init.user_data if cloud_init else ""
    return Job(operation, server, profile, policy.playbooks[operation.act], credentials, user_data)


def _mistake(world: World, policy: Policy, operation: Operation) -> list[Decision]:
    """Return the End for what no waiting can mend: an unknown operation, or a value that must not reach a run."""
    broken = [*rules.malformed(operation.raw), *rules.broken("Operation", operation.raw)]
    if operation.act and operation.act not in policy.playbooks:
        known = ", ".join(sorted(policy.playbooks))
        message = f"Unknown operation {_server.shown(operation.act)}. Known operations: {known}."
        return [End(operation, _refusal("UnknownOperation", message), touched=False)]
    server = world.server
    profile = world.profiles.get(profile_name(operation, server))
    if server is not None:
        broken = [*broken, *rules.broken("Server", server.raw)]
        broken += _server.problems(server.raw, profile.raw if profile else None)
        if operation.act in NEEDS_PROFILE and not profile_name(operation, server):
            broken.append(
                f"Operation {operation.name} names no ProvisioningProfile and neither does Server {server.name}: "
                "set spec.provisioningProfileRef.name in a new Operation."
            )
        if operation.act in NEEDS_VERSION and profile is not None and not profile.version:
            broken.append(
                f"ProvisioningProfile {profile.name} does not say to which Kubernetes version Operation "
                f"{operation.name} is to {operation.act}: set its spec.kubernetesVersion, then apply a new Operation."
            )
    if broken:
        return [End(operation, _refusal("InvalidSpec", " ".join(broken)), touched=False)]
    return []


def _missing(world: World, policy: Policy, operation: Operation) -> list[Decision]:
    """Return the Wait, or the End at the deadline, for what is not there yet."""
    for check in (_missing_server, _missing_profile, _missing_secret, _missing_datacenter):
        lack = check(world, policy, operation)
        if lack is not None:
            return [_wait_or_end(world, policy, operation, lack)]
    return []


def _wait_or_end(world: World, policy: Policy, operation: Operation, lack: tuple[str, str]) -> Decision:
    reason, message = lack
    condition = operation.condition("ReferencesResolved")
    limit = operation.seconds("activeDeadlineSeconds") or policy.default_deadline
    noticed = parsed_time(str(condition.get("lastTransitionTime"))) if condition.get("status") == "False" else None
    left = ((noticed or world.now) + timedelta(seconds=limit) - world.now).total_seconds()
    if left <= 0:
        late = f"{message} It did not appear within {limit:.0f} s."
        return End(operation, _refusal(reason, late), touched=operation.attempts > 0)
    of_run = _seconds_left(operation, policy, world.now)
    recheck = left if of_run is None else min(left, of_run)
    return Wait(operation, reason, message, min(recheck, 5.0) if reason == "SecretNotFound" else recheck)


Lack = tuple[str, str] | None


def _missing_server(world: World, _policy: Policy, operation: Operation) -> Lack:
    if world.server is not None:
        return None
    name = operation.server
    message = f"Server {name} does not exist in namespace {operation.namespace}. Apply it and the Operation goes on."
    return "ServerNotFound", message


def _missing_profile(world: World, _policy: Policy, operation: Operation) -> Lack:
    name = profile_name(operation, world.server)
    if not name or name in world.profiles:
        return None
    message = (
        f"ProvisioningProfile {name} does not exist in namespace {operation.namespace}. "
        "Apply it and the Operation goes on."
    )
    return "ProfileNotFound", message


def _missing_secret(world: World, _policy: Policy, operation: Operation) -> Lack:
    profile = world.profiles.get(profile_name(operation, world.server))
    if profile is None:
        return None
    ssh, cloud_init = world.secrets.get(profile.secret), world.secrets.get(profile.user_data_secret)
    if profile.secret and not (ssh and ssh.private_key):
        name, key = profile.secret, "privateKey"
    elif profile.user_data_secret and operation.act in USES_CLOUD_INIT and not (cloud_init and cloud_init.user_data):
        name, key = profile.user_data_secret, "userData"
    else:
        return None
    message = (
        f"Secret {name} with a key {key} does not exist in namespace {operation.namespace}, "
        f"or may not be read. ProvisioningProfile {profile.name} names it. Create it and the Operation goes on."
    )
    return "SecretNotFound", message


def _missing_datacenter(world: World, policy: Policy, operation: Operation) -> Lack:
    server = world.server
    if server is None or operation.act not in NEEDS_DATACENTER:
        return None
    profile = world.profiles.get(profile_name(operation, server))
    raw_profile = profile.raw if profile else None
    if _server.strategy(server.raw, raw_profile, policy.datacenters) != "dcApi":
        return None
    if _server.datacenter(server.raw, policy.datacenters) is not None:
        return None
    known = ", ".join(sorted(policy.datacenters)) or "none"
    message = (
        f"No datacenter API is configured for Server {server.name} of namespace {server.namespace} "
        f"(there are: {known}). "
        "Start the reconciler with --dc-api-url NAME=URL, or name another one in the annotation stargate.io/datacenter."
    )
    return "DatacenterUnknown", message
