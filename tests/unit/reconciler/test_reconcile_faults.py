# SPDX-License-Identifier: Apache-2.0
"""The middle when things go wrong: conflicts, an API that is down or loses answers, deletions, a full disk.

What is written when all goes well is test_reconcile.py's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.reconciler.bench import BROKE, WORKED, Bench
from tests.unit.reconciler.fakes import (
    KEY,
    ended,
    raw_operation,
    raw_server,
)
from tests.waiting import until

from stargate_reconciler import reconcile
from stargate_reconciler.errors import Conflict, Forbidden, WorldError
from stargate_reconciler.model import Object


@pytest.mark.parametrize("kind", ["Server", "Operation"])
def test_claim_conflict_decides_anew(bench: Callable[..., Bench], kind: str) -> None:
    """When an object has changed since the decision nothing runs; with the news seen it starts, once."""
    b = bench(raw_operation())
    b.look()
    name = {"Server": "s1", "Operation": "o1"}[kind]
    b.kube.apply(b.kube.items[kind, name])
    b.launch_batches()
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
    b.launch_batches()
    assert b.runs == []
    b.look()
    assert b.server.get("activeOperation") is None


def test_claim_that_fails_for_hours(bench: Callable[..., Bench]) -> None:
    """A right that is missing for two thousand attempts neither ends the batcher's thread nor is forgotten."""
    b = bench(raw_operation())
    b.kube.refuse = lambda *_: Forbidden("no")
    b.daemon._unclaimed_before["u-o1"] = 2000
    b.look()
    b.launch_batches()
    assert b.daemon.queue.depth(within=31) == 1


def test_halted_claims_nothing(bench: Callable[..., Bench]) -> None:
    """A process that is stopping, or no longer leads, writes no lock."""
    b = bench(raw_operation())
    b.look()
    b.daemon.halt()
    b.launch_batches()
    assert (b.runs, b.kube.writes) == ([], [])


@pytest.mark.parametrize("moment", ["halt", "cancel"])
def test_stop_during_the_preparation_reaches_the_run(bench: Callable[..., Bench], moment: str) -> None:
    """A lost Lease or a cancel that comes after the claim and before the run is known stops the run all the same."""
    b = bench(raw_operation())

    def claimed(kind: str, _item: Object) -> None:
        if kind == "Operation" and moment == "halt":
            b.daemon.halt()
            b.daemon.runs.stop_all("LeaseLost")
        elif kind == "Operation":
            b.daemon.live.stop("u-o1", "Cancelled")

    b.kube.on_write = claimed
    assert b.launch().stops == 1


def test_run_that_cannot_be_prepared_is_a_failure(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """A full disk is retried and said; the batch's thread goes on."""
    b = bench(raw_operation())
    (tmp_path / "runs").write_text("in the way")
    b.look()
    b.launch_batches()
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
    assert b.operation()["phase"] == ("Running" if refused == "Operation" else "Succeeded")
    b.kube.refuse = lambda *_: None
    b.look(2)
    assert (b.operation()["phase"], b.server["state"]) == ("Succeeded", "ready")
    assert [kind for kind, _, _ in b.kube.writes] == ["Server", "Operation", "Operation", "Server"]


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
    assert [kind for kind, _, _ in b.kube.writes[count:]] == ["Server"]
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


def test_lock_of_a_finished_or_deleted_holder_is_given_back(bench: Callable[..., Bench]) -> None:
    """After a crash between the two writes the Server hears of the end; after a deletion it says so."""
    b = bench(raw_operation(status=ended(result={"os": "k8s-1.34", "nodeName": "n"})))
    for name, state in (("o1", "ready"), ("gone", "error")):
        b.kube.apply(raw_server(status={"activeOperation": name}))
        b.see()
        b.look(2)
        assert (b.server.get("activeOperation"), b.server["state"]) == (None, state)


def test_a_lock_whose_holder_the_watch_has_not_told_of_is_left(bench: Callable[..., Bench]) -> None:
    """A new leader that hears of the Server before the Operation asks for it, and goes on with it."""
    b = bench(raw_server(status={"activeOperation": "late", "state": "provisioning"}))
    b.kube.apply(raw_operation("late"))
    b.look()
    assert b.server["state"] == "provisioning"
    b.look()
    assert b.launch().uids == {"u-late"}


def test_a_claim_that_came_to_nothing_leaves_the_server_as_it_was(bench: Callable[..., Bench]) -> None:
    """A Server that was locked for an Operation which was cancelled before it ran is not in error."""
    b = bench(raw_server(status={"currentOS": "k8s-1.34", "state": "ready"}), raw_operation())
    b.kube.refuse = lambda kind, _: Conflict("stale") if kind == "Operation" else None
    b.look()
    b.launch_batches()
    b.kube.refuse = lambda *_: None
    b.kube.apply(raw_operation(cancel=True))
    b.see()
    b.look(2)
    assert b.operation()["phase"] == "Failed"
    assert (b.server.get("activeOperation"), b.server["state"]) == (None, "ready")


def test_forbidden_deletion_does_not_keep_the_next_from_starting(bench: Callable[..., Bench]) -> None:
    """When a finished Operation may not be deleted, the next one on its Server starts all the same."""
    b = bench(raw_operation("o0", status=ended(), ttlSecondsAfterFinished=0), raw_operation())
    b.kube.refuse = lambda kind, _: Forbidden("no") if kind == "Delete" else None
    with pytest.raises(Forbidden):
        b.look()
    assert len(b.daemon.live) == 1


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
    until(lambda: not any(t.name == "worker-0" for t in threading.enumerate()))
    b.daemon.halt()
    b.daemon.recorder.stop()
    assert b.daemon.metrics.registry.get_sample_value("stargate_reconciles_total", {"outcome": outcome}) == 1
    assert len(caplog.records) == logged
    assert [bool(r.exc_info) for r in caplog.records] == [isinstance(error, KeyError)] * logged


def test_who_may_not_lead_any_more_writes_nothing(bench: Callable[..., Bench]) -> None:
    """When the Lease may be another's by now, nothing is claimed, no status is written and no run is started."""
    b = bench(raw_operation())
    b.look()
    b.daemon.term = lambda: None
    b.launch_batches()
    assert (b.runs, b.operation(), b.server.get("activeOperation")) == ([], {}, None)


def test_a_result_that_comes_too_late_is_not_written(bench: Callable[..., Bench]) -> None:
    """What a run of a former leader says in the end changes nothing: whoever leads now writes what there is."""
    b = bench(raw_operation())
    b.launch().end(BROKE)
    b.daemon.term = lambda: None
    with pytest.raises(WorldError, match="Lease"):
        b.look()
    assert b.operation()["phase"] == "Running"
