# SPDX-License-Identifier: Apache-2.0
"""What the planner's tests are made of: worlds in one line, and decisions as short tuples.

No test stands here.
"""

from __future__ import annotations

from typing import Any

from tests.unit.reconciler.fakes import KEY, NOW, operation, profile, server

from stargate_reconciler import plan
from stargate_reconciler.model import Operation, Outcome, Result, Server
from stargate_reconciler.plan import (
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

POLICY = Policy(
    playbooks={act: f"/p/{act}.yml" for act in ("check", "mine", "reboot", "repave", "upgrade")},
    datacenters={"dc-east": {"url": "http://127.0.0.1:8081"}},
)
WORKED = Result(Outcome.SUCCEEDED)
BROKE = Result(Outcome.FAILED, "TaskFailed", "It broke.")
INTERRUPTED = Result(Outcome.INTERRUPTED, "Interrupted")
LIMIT = {"activeDeadlineSeconds": 60}
O1, O2 = operation("o1"), operation("o2")
HELD = server(status={"activeOperation": "o1"})


def world(*operations: Operation, on: Server | None = None, **parts: Any) -> World:
    """Return a world with Server s1, Profile p1 and these Operations; `no_server=True` takes the Server away."""
    there = None if parts.pop("no_server", False) else on or server()
    known = {"profiles": {"p1": profile()}, "secrets": {}, "live": {}, **parts}
    return World(KEY, there, operations, now=NOW, **known)


def live(target: Operation, **parts: Any) -> dict[str, Live]:
    """Return the map with a live run of one Operation."""
    return {target.uid: Live(target, **{"run_id": "r1", **parts})}


def told(found: list[plan.Decision]) -> list[tuple[str, ...]]:
    """Return decisions as short tuples: their name, and what tells them apart."""
    return [(type(decision).__name__, *_part(decision)) for decision in found]


def _part(decision: plan.Decision) -> tuple[str, ...]:
    match decision:
        case Start(job):
            return (job.operation.name,)
        case Wait(o, reason, _, recheck):
            return (o.name, reason, "" if recheck is None else f"{recheck:.0f}")
        case End(o, result, touched):
            return (o.name, result.reason or str(result.outcome), "touched" if touched else "untouched")
        case Retry(o, _, delay):
            return (o.name, f"{delay:.0f}")
        case Stop(o, reason):
            return (o.name, reason)
        case Stage(o, stage, job_id):
            return (o.name, stage, job_id)
        case Unlock(_, holder):
            return (holder.name if holder else "",)
        case Recheck(after):
            return (f"{after:.0f}",)
        case Resume(o) | Forget(o) | NoteEdit(o):
            return (o.name,)
