# SPDX-License-Identifier: Apache-2.0
"""A reconciler on a bench: its cluster a dictionary, its runs told by the test, its batches and looks driven by hand.

No test stands here; what happens on it is test_reconcile.py's and test_reconcile_faults.py's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.reconciler.fakes import (
    KEY,
    FakeKube,
    FakeRun,
)

from stargate_reconciler.metrics import Metrics
from stargate_reconciler.model import Job, Object, Outcome, Result
from stargate_reconciler.reconcile import Reconciler
from stargate_reconciler.settings import Settings

WORKED = Result(Outcome.SUCCEEDED, facts={"os": "k8s-1.34", "nodeName": "s1"})
BROKE = Result(Outcome.FAILED, "TaskFailed", "It broke.")
INTERRUPTED = Result(Outcome.INTERRUPTED, "Interrupted")
PLAYBOOKS = {"repave": "/p/repave.yml", "reboot": "/p/reboot.yml"}


class Bench:
    """A reconciler whose batches and workers are driven by hand."""

    def __init__(self, directory: Path, *items: Object, **settings: Any) -> None:
        self.kube = FakeKube(*items)
        self.runs: list[FakeRun] = []
        chosen = Settings(runs_dir=directory / "runs", metrics_address="0", health_address="0", **settings)
        self.daemon = Reconciler(self.kube, chosen, metrics=Metrics(), playbooks=lambda: PLAYBOOKS)
        self.see()

    def see(self) -> None:
        """Let the store see the cluster as it is, as a watch does."""
        for (kind, _), item in list(self.kube.items.items()):
            self.daemon.store.put(kind, {**item, "metadata": dict(item["metadata"])})

    def look(self, times: int = 1) -> Bench:
        """Look at Server s1 so many times."""
        for _ in range(times):
            self.daemon.look(KEY)
        return self

    def launch(self) -> FakeRun:
        """Look, and launch what has been put into a batch; returns the run."""
        self.look()
        self.launch_batches()
        return self.runs[-1]

    def launch_batches(self) -> None:
        """Launch what is in the batches."""
        jobs: list[Job] = []
        for batch in self.daemon._batcher._batches.values():
            jobs += [batch.jobs.pop(uid) for uid in list(batch.jobs)]
        self.daemon._launch(jobs)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and let the store see it."""
        self.daemon.store.drop(kind, self.kube.items.pop((kind, name)))

    def operation(self, name: str = "o1") -> Object:
        """Return an Operation's status."""
        return self.kube.status("Operation", name)

    @property
    def server(self) -> Object:
        """The status of Server s1."""
        return self.kube.status("Server", "s1")
