# SPDX-License-Identifier: Apache-2.0
"""The middle with a cluster in a dictionary and runs that wait: each step by hand, no thread of a worker.

What is decided is test_plan.py's; here it is what is written, how often, and what happens when writing fails.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.reconciler.fakes import (
    KEY,
    FakeKube,
    FakeRun,
    ended,
    job,
    raw_operation,
    raw_profile,
    raw_server,
    until,
)

from stargate_reconciler import reconcile
from stargate_reconciler.errors import Conflict, Forbidden, WorldError
from stargate_reconciler.metrics import Metrics
from stargate_reconciler.model import Credentials, Job, Object, Outcome, Phase, Result
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
        self.daemon._launch([item for batch in self.daemon._batcher._batches.values() for item in _taken(batch.jobs)])
        return self.runs[-1]

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


def _taken(jobs: dict[str, Job]) -> list[Job]:
    return [jobs.pop(uid) for uid in list(jobs)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Return a function that makes a bench with Server s1, Profile p1 and whatever else is given."""

    def make(*items: Object, **settings: Any) -> Bench:
        made = Bench(tmp_path, raw_server(), raw_profile(), *items, **settings)

        def run(order: Any, listener: Any) -> FakeRun:
            made.runs.append(FakeRun(order, listener))
            return made.runs[-1]

        monkeypatch.setattr(reconcile, "Run", run)
        return made

    return make


def test_from_apply_to_succeeded(bench: Callable[..., Bench]) -> None:
    """An Operation is claimed, runs, and ends with its Server's status written first and each write done once."""
    b = bench(raw_operation())
    run = b.launch()
    assert run.began
    assert (b.operation()["phase"], b.operation()["attempts"], b.server["activeOperation"]) == ("Running", 1, "o1")
    run.end(WORKED)
    b.look(3)
    assert b.operation()["phase"] == "Succeeded"
    assert (b.server["state"], b.server["nodeName"], b.server.get("activeOperation")) == ("ready", "s1", None)
    assert [(kind, name) for kind, name, _ in b.kube.writes] == [("Server", "s1"), ("Operation", "o1")] * 2
    assert b.daemon.report.ended_in == {Phase.SUCCEEDED: 1}
    assert len(b.daemon.live) == 0
    assert b.daemon.running() == 0


def test_a_second_look_starts_nothing_again(bench: Callable[..., Bench]) -> None:
    """However often a Server is looked at, an Operation has one place in one batch, and one run."""
    b = bench(raw_operation())
    b.look(3)
    b.launch()
    b.look(3)
    assert len(b.runs) == 1
    assert not any(batch.jobs for batch in b.daemon._batcher._batches.values())


@pytest.mark.parametrize("kind", ["Server", "Operation"])
def test_claim_conflict_decides_anew(bench: Callable[..., Bench], kind: str) -> None:
    """When an object has changed since the decision nothing runs; with the news seen it starts, once."""
    b = bench(raw_operation())
    b.look()
    name = {"Server": "s1", "Operation": "o1"}[kind]
    b.kube.apply(b.kube.items[kind, name])
    b.daemon._launch(_taken(next(iter(b.daemon._batcher._batches.values())).jobs))
    assert b.runs == []
    assert len(b.daemon.live) == 0
    assert b.operation() == {}
    b.see()
    b.launch()
    assert (b.operation()["phase"], b.operation()["attempts"]) == ("Running", 1)


def test_claim_of_a_deleted_operation_runs_nothing(bench: Callable[..., Bench]) -> None:
    """An Operation that was deleted while it waited for its batch is not run, and its Server is given back."""
    b = bench(raw_operation())
    b.look()
    del b.kube.items["Operation", "o1"]
    b.daemon._launch(_taken(next(iter(b.daemon._batcher._batches.values())).jobs))
    assert b.runs == []
    b.look()
    assert b.server.get("activeOperation") is None


def test_claim_that_fails_for_hours(bench: Callable[..., Bench]) -> None:
    """A right that is missing for two thousand attempts neither ends the batcher's thread nor is forgotten."""
    b = bench(raw_operation())
    b.kube.refuse = lambda *_: Forbidden("no")
    b.daemon._unclaimed_before["u-o1"] = 2000
    b.look()
    b.daemon._launch(_taken(next(iter(b.daemon._batcher._batches.values())).jobs))
    assert b.daemon.queue.depth(within=31) == 1


def test_halted_claims_nothing(bench: Callable[..., Bench]) -> None:
    """A process that is stopping, or no longer leads, writes no lock."""
    b = bench(raw_operation())
    b.look()
    b.daemon.halt()
    b.daemon._launch(_taken(next(iter(b.daemon._batcher._batches.values())).jobs))
    assert (b.runs, b.kube.writes) == ([], [])


@pytest.mark.parametrize("moment", ["halt", "cancel"])
def test_stop_during_the_preparation_reaches_the_run(bench: Callable[..., Bench], moment: str) -> None:
    """A lost Lease or a cancel that comes after the claim and before the run is known stops the run all the same."""
    b = bench(raw_operation())

    def claimed(kind: str, _item: Object) -> None:
        if kind == "Operation" and moment == "halt":
            b.daemon.halt()
            b.daemon.stop_runs("LeaseLost")
        elif kind == "Operation":
            b.daemon.live.update("u-o1", stopping="Cancelled")

    b.kube.on_write = claimed
    assert b.launch().stops == 1


def test_run_that_cannot_be_prepared_is_a_failure(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """A full disk is retried and said; the batch's thread goes on."""
    b = bench(raw_operation())
    (tmp_path / "runs").write_text("in the way")
    b.look()
    b.daemon._launch(_taken(next(iter(b.daemon._batcher._batches.values())).jobs))
    b.look()
    assert (b.operation()["phase"], b.operation()["failures"]) == ("Pending", 1)
    assert "Failed to prepare the run" in b.operation()["message"]


@pytest.mark.parametrize("refused", ["Server", "Operation"])
def test_result_outlives_an_api_that_is_down(bench: Callable[..., Bench], refused: str) -> None:
    """A result that cannot be written is kept, and written once when the API is back, to each object once."""
    b = bench(raw_operation())
    b.launch().end(WORKED)
    b.kube.refuse = lambda kind, _: WorldError("down") if kind == refused else None
    for _ in range(3):
        with pytest.raises(WorldError):
            b.look()
    assert b.operation()["phase"] == "Running"
    b.kube.refuse = lambda *_: None
    b.look(2)
    assert (b.operation()["phase"], b.server["state"]) == ("Succeeded", "ready")
    assert [kind for kind, _, _ in b.kube.writes] == ["Server", "Operation"] * 2


def test_end_whose_answer_is_lost_is_not_written_again(bench: Callable[..., Bench]) -> None:
    """An end that was written though no answer came is not written again; nothing stays live, the next one starts."""
    b = bench(raw_operation(), raw_operation("o2", age=-5))
    b.launch().end(WORKED)
    b.kube.refuse = lambda kind, _: setattr(b.kube, "lose_answer", kind == "Operation")
    with pytest.raises(WorldError):
        b.look()
    b.kube.refuse, b.kube.lose_answer = lambda *_: None, False
    count = len(b.kube.writes)
    b.see()
    b.look()
    assert b.kube.writes[count:] == []
    assert len(b.daemon.live) == 0
    assert b.launch().uids == {"u-o2"}


def test_retry_whose_answer_is_lost_counts_once(bench: Callable[..., Bench]) -> None:
    """A failed attempt is counted once, even when the answer to the write is lost."""
    b = bench(raw_operation())
    b.launch().end(BROKE)
    b.kube.lose_answer = True
    with pytest.raises(WorldError):
        b.look()
    b.kube.lose_answer = False
    b.see()
    b.look(3)
    assert (b.operation()["failures"], len(b.daemon.live)) == (1, 0)


def test_end_conflict_is_decided_anew(bench: Callable[..., Bench]) -> None:
    """A label that somebody sets on a running Operation delays its end, no more."""
    b = bench(raw_operation())
    b.launch().end(WORKED)
    b.kube.apply(b.kube.items["Operation", "o1"])
    with pytest.raises(Conflict):
        b.look()
    b.see()
    b.look()
    assert b.operation()["phase"] == "Succeeded"


def test_retry_keeps_the_lock_and_waits(bench: Callable[..., Bench]) -> None:
    """A failed attempt keeps the Server, counts, and the next one starts after its back-off only."""
    b = bench(raw_operation(), retry_base=60.0)
    b.launch().end(BROKE)
    b.look(3)
    assert (b.operation()["phase"], b.operation()["failures"], b.server["activeOperation"]) == ("Pending", 1, "o1")
    assert len(b.runs) == 1
    assert "AttemptFailed" in [entry[1]["reason"] for entry in list(b.daemon.recorder._waiting.queue) if entry]


def test_interrupted_goes_on_and_costs_nothing(bench: Callable[..., Bench]) -> None:
    """An interrupted run goes on in another one, counted as an attempt and not as a failure."""
    b = bench(raw_operation())
    b.launch().end(INTERRUPTED)
    b.look()
    b.launch()
    assert (len(b.runs), b.operation()["attempts"], b.operation().get("failures")) == (2, 2, None)


def test_deleted_while_it_runs(bench: Callable[..., Bench]) -> None:
    """The run of a deleted Operation is stopped once, the Server given back when it is over, and only then goes on."""
    b = bench(raw_operation(), raw_operation("o2", age=-5))
    run = b.launch()
    b.delete("Operation", "o1")
    b.look(2)
    assert (run.stops, len(b.runs), b.server["activeOperation"]) == (1, 1, "o1")
    assert not any(batch.jobs for batch in b.daemon._batcher._batches.values())
    run.end(INTERRUPTED)
    b.look()
    assert (b.server["state"], b.server.get("activeOperation")) == ("error", None)
    assert b.launch().uids == {"u-o2"}


def test_late_end_leaves_another_lock_alone(bench: Callable[..., Bench]) -> None:
    """The end of one Operation never takes the lock away from another one."""
    b = bench(raw_operation())
    run = b.launch()
    b.delete("Operation", "o1")
    b.kube.apply(raw_operation("other"))
    b.kube.apply(raw_server(status={"activeOperation": "other"}))
    b.see()
    run.end(WORKED)
    b.look()
    assert b.server == {"activeOperation": "other"}


def test_cancel_in_a_batch_and_in_a_run(bench: Callable[..., Bench]) -> None:
    """A cancelled Operation leaves its batch untouched, or has its run stopped; both end as Cancelled."""
    b = bench(raw_operation())
    b.look()
    b.kube.apply({**b.kube.items["Operation", "o1"], "spec": {**raw_operation()["spec"], "cancel": True}})
    b.see()
    b.look(2)
    assert (b.operation()["phase"], b.runs, b.server) == ("Failed", [], {})
    b.kube.apply(raw_operation("o2"))
    b.see()
    run = b.launch()
    b.kube.apply({**b.kube.items["Operation", "o2"], "spec": {**raw_operation()["spec"], "cancel": True}})
    b.see()
    b.look(2)
    run.end(INTERRUPTED)
    b.look()
    assert (run.stops, b.operation("o2")["phase"], b.server["state"]) == (1, "Failed", "error")


def test_waiting_is_written_once(bench: Callable[..., Bench]) -> None:
    """What waits says so once, and again when the reason has changed."""
    b = bench(raw_operation())
    b.delete("Server", "s1")
    b.look(3)
    assert [patch["phase"] for _, _, patch in b.kube.writes] == ["Pending"]
    b.kube.apply(raw_server())
    b.delete("ProvisioningProfile", "p1")
    b.see()
    b.look(3)
    reasons = [patch["conditions"][0]["reason"] for _, _, patch in b.kube.writes]
    assert reasons == ["ServerNotFound", "ProfileNotFound"]


def test_steps_are_shown_in_turn(bench: Callable[..., Bench]) -> None:
    """However many steps and looks there are, a step is written once a second, and the last one is not lost."""
    b = bench(raw_operation())
    run = b.launch()
    item = run.order.jobs[0]
    count = len(b.kube.writes)
    for number in range(50):
        b.daemon.staged(item, f"step {number}", {})
        b.look()
    assert [patch["stage"] for _, _, patch in b.kube.writes[count:]] == ["step 0"]
    assert b.daemon.queue.depth(within=1.1) == 1
    b.daemon.live._shown["u-o1"] = 0.0
    b.look()
    assert b.operation()["stage"] == "step 49"


def test_job_id_is_shown(bench: Callable[..., Bench]) -> None:
    """The datacenter's job stands in the status as soon as it is known."""
    b = bench(raw_operation())
    run = b.launch()
    b.daemon.staged(run.order.jobs[0], "waiting", {"dcJobID": "j1"})
    b.look()
    assert (b.operation()["stage"], b.operation()["dcJobID"]) == ("waiting", "j1")


@pytest.mark.parametrize("holder", ["o1", "", "of-another-daemon"])
def test_other_providers_servers_are_left_alone(bench: Callable[..., Bench], holder: str) -> None:
    """With --provider, Servers of other providers are neither run nor unlocked: another reconciler has them."""
    b = bench(raw_operation(), providers=("qemu",))
    b.kube.apply(raw_server(status={"activeOperation": holder} if holder else None))
    b.see()
    b.look(2)
    assert (b.kube.writes, b.runs) == ([], [])


def test_lock_of_a_finished_or_deleted_holder_is_given_back(bench: Callable[..., Bench]) -> None:
    """After a crash between the two writes the Server hears of the end; after a deletion it says so."""
    b = bench(raw_operation(status=ended(result={"os": "k8s-1.34", "nodeName": "n"})))
    for name, state in (("o1", "ready"), ("gone", "error")):
        b.kube.apply(raw_server(status={"activeOperation": name}))
        b.see()
        b.look(2)
        assert (b.server.get("activeOperation"), b.server["state"]) == (None, state)


def test_edit_after_the_start_is_said_once(bench: Callable[..., Bench]) -> None:
    """A change of the spec after the start is ignored, and said in one Event."""
    b = bench(raw_operation())
    b.launch()
    item = b.kube.items["Operation", "o1"]
    b.kube.apply(
        {**item, "spec": raw_operation(act="reboot")["spec"], "metadata": {**item["metadata"], "generation": 2}}
    )
    b.see()
    b.look(3)
    reasons = [entry[1]["reason"] for entry in list(b.daemon.recorder._waiting.queue) if entry]
    assert reasons.count("SpecChangeIgnored") == 1
    assert b.operation()["observedGeneration"] == 2


def test_forbidden_deletion_does_not_keep_the_next_from_starting(bench: Callable[..., Bench]) -> None:
    """When a finished Operation may not be deleted, the next one on its Server starts all the same."""
    b = bench(raw_operation("o0", status=ended(), ttlSecondsAfterFinished=0), raw_operation())
    b.kube.refuse = lambda kind, _: Forbidden("no") if kind == "Delete" else None
    with pytest.raises(Forbidden):
        b.look()
    assert len(b.daemon.live) == 1


def test_time_to_live_deletes_by_uid(bench: Callable[..., Bench]) -> None:
    """A finished Operation is deleted by name and uid."""
    b = bench(raw_operation(status=ended(), ttlSecondsAfterFinished=0)).look()
    assert b.kube.deleted == [("dc-west", "o1", "u-o1")]


def test_secret_is_read_only_when_needed(bench: Callable[..., Bench]) -> None:
    """A Secret is read for an Operation that is about to start, not for one that runs or waits its turn."""
    b = bench(raw_operation())
    b.kube.apply(raw_profile(sshCredentialsSecretRef="ssh"))
    b.see()
    b.look()
    assert b.operation()["conditions"][-1]["reason"] == "SecretNotFound"
    b.kube.secrets["ssh"] = Credentials("key", "root")
    run = b.launch()
    assert run.order.jobs[0].credentials == Credentials("key", "root")
    b.kube.refuse = lambda kind, _: WorldError("read again") if kind == "Secret" else None
    b.look()


def test_late_write_brings_no_ghost_back(bench: Callable[..., Bench]) -> None:
    """An object that our own write put back after its deletion was seen is forgotten at the next refusal."""
    b = bench(raw_operation())
    run = b.launch()
    del b.kube.items["Operation", "o1"]
    run.end(WORKED)
    with pytest.raises(reconcile.Gone):
        b.look()
    assert b.daemon.store.operations(KEY) == []
    b.look()
    assert len(b.daemon.live) == 0


def test_stop_runs_reaches_all_and_keeps_reasons(bench: Callable[..., Bench]) -> None:
    """A shutdown stops every run; their Operations stay Running for whoever leads next."""
    b = bench(raw_operation())
    run = b.launch()
    assert b.daemon.stop_runs("Shutdown") == [run]
    run.end(INTERRUPTED)
    b.daemon.halt()
    b.look(2)
    assert (run.stops, b.operation()["phase"], len(b.runs)) == (1, "Running", 1)


@pytest.mark.parametrize(
    ("error", "outcome", "logged"),
    [(Conflict("changed"), "conflict", 0), (WorldError("down"), "error", 1), (KeyError("bug"), "error", 1)],
)
def test_worker_survives(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture, error: Exception, outcome: str, logged: int
) -> None:
    """A look that fails is looked at again, counted, and said with its traceback when it is a bug; workers live on."""
    b = bench(raw_operation(), workers=1)
    caplog.set_level(logging.WARNING, "stargate_reconciler.reconcile")
    looks: list[Exception] = [error]

    def failing(key: Any) -> None:
        if looks:
            raise looks.pop()
        b.daemon.queue.stop()

    b.daemon.look = failing  # type: ignore[method-assign]  # the look itself is not what is shown here
    b.daemon.start()
    assert until(lambda: not any(t.name == "worker-0" for t in threading.enumerate()))
    b.daemon.halt()
    b.daemon.recorder.stop()
    assert b.daemon.metrics.registry.get_sample_value("stargate_reconciles_total", {"outcome": outcome}) == 1
    assert len(caplog.records) == logged
    assert [bool(r.exc_info) for r in caplog.records] == [isinstance(error, KeyError)] * logged


def test_whole_way_with_threads(bench: Callable[..., Bench]) -> None:
    """With its own threads the daemon takes three Servers from apply to the end, in few runs, each written twice."""
    names = ("s2", "s3")
    extra = [raw_server(name) for name in names]
    more = [raw_operation(f"o-{name}", serverRef={"name": name}) for name in names]
    b = bench(raw_operation(), *extra, *more)
    b.daemon.start()
    assert until(lambda: sum(len(run.order.jobs) for run in b.runs if run.began) == 3)
    for run in list(b.runs):
        run.end(WORKED)
    assert until(lambda: all(b.operation(n)["phase"] == "Succeeded" for n in ("o1", "o-s2", "o-s3")))
    assert until(lambda: not b.daemon.queue.depth(within=1))
    b.daemon.halt()
    b.daemon.queue.stop()
    b.daemon.recorder.stop()
    assert len(b.kube.writes) == 12
    assert sorted(set(b.kube.events)) == ["OperationStarted", "OperationSucceeded", "Started", "Succeeded"]
    assert b.daemon.report.ended_in[Phase.SUCCEEDED] == 1
