# SPDX-License-Identifier: Apache-2.0
"""What the tests of health are made of: machines, Nodes and sights in one line.

No test stands here.
"""

from __future__ import annotations

from typing import Any

from tests.unit.reconciler.fakes import NOW, raw_node, server, stamp

from stargate_reconciler import health, machines
from stargate_reconciler.health import Care, Sight, Verdict
from stargate_reconciler.machines import Machine, NodeView
from stargate_reconciler.model import Object

CARED = {"autoRepave": "onNotReady"}
CARE = Care(share=0.4, limit=3, pause=600.0)


def machine(*, status: Object | None = None, **spec: Any) -> Machine:
    """Return Server s1, which is Node s1 and is repaved when that is not Ready."""
    known = {"maintenance": CARED, "provisioningProfile": "p1", **spec}
    return machines.machine(server(status={"nodeName": "s1"} if status is None else status, **known))


def node(ready: str = "False", *, taken: bool = False, owner: str = "", **changes: Any) -> NodeView:
    """Return Node s1."""
    notes = {"annotations": {"stargate.io/server": owner}} if owner else {}
    raw = raw_node(ready=ready, **notes)
    raw["spec"]["unschedulable"] = taken
    raw["status"]["addresses"] = [{"type": "InternalIP", "address": changes.pop("address", "10.9.9.9")}]
    return machines.node_view(raw)


def said(kind: str, status: str, reason: str, ago: float = 60.0) -> Object:
    """Return a status that has said one thing of a machine some seconds ago."""
    item = {"type": kind, "status": status, "reason": reason, "message": "m", "lastTransitionTime": stamp(-ago)}
    return {"nodeName": "s1", "conditions": [item]}


def repaved(times: int, ago: float, **more: Any) -> Object:
    """Return a status that accounts for automatic repaves, the last one some seconds ago."""
    return {"nodeName": "s1", "autoRepave": {"times": times, "lastTime": stamp(-ago), "operation": "auto"}, **more}


def sight(**parts: Any) -> Sight:
    """Return a machine whose Node has not been Ready for ten minutes and that answers, changed by `parts`."""
    usual = {"machine": machine(), "status": {"nodeName": "s1"}, "node": node(), "bad_for": 600.0}
    return Sight(**{**usual, "now": NOW, "answer": machines.Answer(good=True), **parts})


def judged(**parts: Any) -> Verdict:
    """Return what follows from a sight."""
    return health.assess(sight(**parts), CARE)


def told(verdict: Verdict, kind: str) -> tuple[str, str] | None:
    """Return status and reason of a condition that is news."""
    found = verdict.wanted.get(kind)
    return None if found is None else (str(found[0]), found[1])
