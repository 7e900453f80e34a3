# SPDX-License-Identifier: Apache-2.0
"""What is known of one Server at one moment, and what can be decided about it: frozen values.

Who decides is `plan.py`; who acts is `reconcile.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .model import Credentials, Job, Operation, Profile, Result, Server, ServerKey


@dataclass(frozen=True)
class Live:
    """A run, or a place in the next batch, that an Operation now has."""

    operation: Operation
    run_id: str = ""
    stage: str = ""
    job_id: str = ""
    stopping: str = ""
    result: Result | None = None
    job: Job | None = field(default=None, repr=False)
    """What the run was given, once it has one."""


@dataclass(frozen=True)
class Policy:
    """The settings that decisions depend on."""

    playbooks: Mapping[str, str]
    datacenters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    default_deadline: float = 3600.0
    retry_base: float = 10.0
    retry_cap: float = 300.0


@dataclass(frozen=True)
class World:
    """All that is known of one Server at one moment."""

    key: ServerKey
    server: Server | None
    operations: Sequence[Operation]
    profiles: Mapping[str, Profile]
    secrets: Mapping[str, Credentials | None]
    live: Mapping[str, Live]
    now: datetime


@dataclass(frozen=True)
class Start:
    """Put the job into the next batch."""

    job: Job


@dataclass(frozen=True)
class Wait:
    """Keep it Pending and say why; look again after `recheck` seconds, or when something changes (None)."""

    operation: Operation
    reason: str
    message: str
    recheck: float | None = None


@dataclass(frozen=True)
class End:
    """Write the final phase. `touched` says whether a machine may have been changed."""

    operation: Operation
    result: Result
    touched: bool


@dataclass(frozen=True)
class Retry:
    """A failed attempt that is followed by another one after `delay` seconds."""

    operation: Operation
    result: Result
    delay: float


@dataclass(frozen=True)
class Stop:
    """Stop the live run of this Operation and remember why."""

    operation: Operation
    reason: str


@dataclass(frozen=True)
class Stage:
    """Show the step that the live run is at."""

    operation: Operation
    stage: str
    job_id: str = ""


@dataclass(frozen=True)
class Resume:
    """The run was interrupted through no fault of the Operation: it goes on in another run."""

    operation: Operation


@dataclass(frozen=True)
class Unlock:
    """The Server's lock names an Operation that holds it no more."""

    server: Server
    holder: Operation | None


@dataclass(frozen=True)
class Forget:
    """Delete a finished Operation whose time to live has passed."""

    operation: Operation


@dataclass(frozen=True)
class Recheck:
    """Look again after `after` seconds."""

    after: float


@dataclass(frozen=True)
class NoteEdit:
    """Say in an Event that an edit of the spec after the start is ignored."""

    operation: Operation


Decision = Start | Wait | End | Retry | Resume | Stop | Stage | Unlock | Forget | Recheck | NoteEdit


def described(decision: Decision) -> str:
    """Return a decision as a line for a person: what would be done, to which object, and why."""
    match decision:
        case Start(job):
            o = job.operation
            return f"start   {o.namespace}/{o.name}: {o.act} on Server {o.server} with {job.playbook}"
        case Wait(o, reason, message):
            return f"wait    {o.namespace}/{o.name}: {reason}: {message}"
        case End(o, result):
            return f"end     {o.namespace}/{o.name}: {result.reason or result.outcome}: {result.message}"
        case Unlock(server):
            return f"unlock  Server {server.namespace}/{server.name}: Operation {server.active_operation} has ended"
        case Forget(o):
            return f"delete  {o.namespace}/{o.name}: its ttlSecondsAfterFinished has passed"
        case Recheck(after):
            return f"later   look again in {after:.0f} s"
        case _:
            return f"{type(decision).__name__.lower()}"
