# SPDX-License-Identifier: Apache-2.0
"""Hostile custom resources on the bench: no exception, a clear status for each, no run with what is not fit.

The same cases against a real API server and a real daemon are in tests/integration/test_hostile.py.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.hostile import ACT, Case, Maker
from tests.unit.reconciler import bench as benches
from tests.unit.reconciler.bench import Bench
from tests.unit.reconciler.fakes import NAMESPACE, stamp

from stargate_reconciler.model import Object, Operation

Make = Callable[..., Bench]


def stored(case: Case) -> list[Object]:
    """Return the objects of a case as an API server would give them."""
    found = []
    for number, item in enumerate(copy.deepcopy(case.objects)):
        item["metadata"] |= {
            "namespace": NAMESPACE,
            "uid": f"u-{case.operation}-{number}",
            "creationTimestamp": stamp(),
            "resourceVersion": "1",
            "generation": 1,
        }
        if item["kind"] in case.statuses:
            item["status"] = case.statuses[item["kind"]]
        found.append(item)
    return found


def ended_on(bench: Bench, case: Case) -> Object:
    """Let the daemon see a case, look and launch; returns the Operation's status."""
    for item in stored(case):
        bench.kube.apply(item)
    bench.see()
    found = Operation.from_dict(bench.kube.items["Operation", case.operation])
    for _ in range(2):
        bench.daemon.look(found.key)
        if any(batch.jobs for batch in bench.daemon._batcher._batches.values()):
            bench.launch_batches()
    return bench.kube.status("Operation", case.operation)


def fault(status: Object) -> str:
    """Return what is not clear about a status, "" when nothing is."""
    conditions: dict[str, Any] = {c["type"]: c for c in status.get("conditions") or ()}
    if any(len(str(c["message"]).encode()) > 1024 for c in conditions.values()):
        return "a condition is longer than 1 KiB"
    if not 10 < len(str(status.get("message", "")).encode()) <= 1024:
        return f"the message has {len(str(status.get('message', '')))} characters"
    if not str(status["message"]).isprintable():
        return "the message is not printable"
    told = conditions.get("Failed" if status["phase"] == "Failed" else "Complete")
    return "" if told else "no condition tells"


@pytest.mark.parametrize("seed", range(3))
def test_hostile_objects(bench: Make, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Each of them ends, waits or runs, and its status says so in a printable kilobyte."""
    monkeypatch.setattr(benches, "PLAYBOOKS", {ACT: "/p/show.yml"})
    faults: list[str] = []
    for case in Maker(seed, "/nowhere/canary").cases(250):
        try:
            status = ended_on(bench(), case)
            said = fault(status)
            json.dumps(status)
        except Exception as error:  # noqa: BLE001 - what the worker of a Server would trip over
            said = f"{type(error).__name__}: {error}"[:100]
        faults += [f"{case.what}: {said}"] if said else []
    assert dict(Counter(faults)) == {}
