# SPDX-License-Identifier: Apache-2.0
"""What this process knows of its own runs: reserved once, the first reason of a stop stays, steps are shown in turn.

What is written because of it is test_reconcile.py's.
"""

from __future__ import annotations

import pytest
from tests.unit.reconciler.fakes import KEY, Clock, job, operation

from stargate_reconciler import live as module
from stargate_reconciler.live import STAGE_INTERVAL, STAGE_PAUSE, STAGE_RATE, LiveRuns
from stargate_reconciler.model import Outcome, Result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the live runs look at."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def live() -> LiveRuns:
    """Return live runs with one Operation, o1 on Server s1."""
    made = LiveRuns()
    made.begin(operation())
    return made


def test_an_operation_is_reserved_once(live: LiveRuns) -> None:
    """Whoever comes second is told so, until the first has ended."""
    assert live.begin(operation()) is False
    live.end("u-o1")
    assert len(live) == 0
    assert live.begin(operation()) is True


def test_only_what_is_on_the_server_is_shown(live: LiveRuns) -> None:
    """Live Operations are found by the Server they act on."""
    live.begin(operation("o2", serverRef={"name": "s2"}))
    assert set(live.of_server(KEY)) == {"u-o1"}
    assert set(live.of_server((KEY[0], "s2"))) == {"u-o2"}
    assert live.of_server(("elsewhere", "s1")) == {}


def test_first_reason_of_a_stop_stays(live: LiveRuns) -> None:
    """A cancelled Operation stays cancelled when the daemon is then shut down; the run's id is kept."""
    live.claimed(job(), "r1")
    live.stop("u-o1", "Cancelled")
    live.stop("u-o1", "Shutdown")
    found = live.of_server(KEY)["u-o1"]
    assert (found.run_id, found.stopping) == ("r1", "Cancelled")


def test_unknown_operations_are_left_alone(live: LiveRuns) -> None:
    """News of an Operation that has ended is dropped."""
    live.claimed(job("gone"), "r1")
    live.stop("u-gone", "Cancelled")
    live.result("gone", Result(Outcome.SUCCEEDED))
    live.end("gone")
    assert live.stage("gone", "step", {}) is None
    assert len(live) == 1


def test_no_step_after_the_result(live: LiveRuns) -> None:
    """What a host says after its result is not shown."""
    live.result("u-o1", Result(Outcome.SUCCEEDED))
    assert live.stage("u-o1", "late", {}) is None


def test_same_step_is_no_news(live: LiveRuns, clock: Clock) -> None:
    """A step that is shown already asks for nothing."""
    live.stage("u-o1", "step", {"dcJobID": "j"})
    clock.now += 60
    assert live.stage("u-o1", "step", {}) is None
    assert live.stage("u-o1", "", {"dcJobID": "j"}) is None
    assert live.stage("u-o1", "", {"dcJobID": "k"}) is not None
    assert (live.of_server(KEY)["u-o1"].stage, live.of_server(KEY)["u-o1"].job_id) == ("step", "k")


def test_steps_of_one_operation_wait_for_their_interval(live: LiveRuns, clock: Clock) -> None:
    """The first step is shown soon, the next not before the interval has passed since the one before."""
    first = live.stage("u-o1", "one", {})
    assert first == pytest.approx(STAGE_PAUSE)
    clock.now += first
    assert live.to_show("u-o1") == 0
    live.shown("u-o1")
    clock.now += 0.2
    assert live.stage("u-o1", "two", {}) == pytest.approx(STAGE_INTERVAL - 0.2)
    assert live.to_show("u-o1") == pytest.approx(STAGE_INTERVAL - 0.2)


def test_a_jobs_id_does_not_wait(live: LiveRuns) -> None:
    """What a resumed run needs to know is written at once."""
    assert live.stage("u-o1", "one", {"dcJobID": "j"}) == pytest.approx(0, abs=0.01)


def test_every_step_asks_for_its_turn(live: LiveRuns, clock: Clock) -> None:
    """A step that comes while an earlier one waits for its turn asks again, in case the request was used up."""
    live.stage("u-o1", "one", {})
    clock.now += 0.1
    live.shown("u-o1")
    clock.now += 0.1
    live.stage("u-o1", "two", {})
    clock.now += 0.3
    assert live.stage("u-o1", "three", {}) == pytest.approx(STAGE_INTERVAL - 0.4)


def test_all_operations_share_a_rate(clock: Clock) -> None:
    """A hundred hosts that move on at the same moment are shown one after the other."""
    live = LiveRuns()
    names = [f"o{n}" for n in range(100)]
    for name in names:
        live.begin(operation(name))
    delays = [live.stage(f"u-{name}", "step", {}) for name in names]
    assert max(d for d in delays if d is not None) == pytest.approx(STAGE_PAUSE + 99 / STAGE_RATE)
    assert len(set(delays)) == 100


def test_a_slot_is_not_saved_up(live: LiveRuns, clock: Clock) -> None:
    """After a quiet time the rate begins anew, it does not allow a burst."""
    live.stage("u-o1", "one", {})
    clock.now += 60
    for name in ("o2", "o3"):
        live.begin(operation(name))
    delays = [live.stage(f"u-{name}", "step", {}) for name in ("o2", "o3")]
    assert delays == [pytest.approx(STAGE_PAUSE), pytest.approx(STAGE_PAUSE + 1 / STAGE_RATE)]


def test_to_show_of_an_unknown_operation_is_now(live: LiveRuns) -> None:
    """What nobody throttles may be shown at once."""
    assert live.to_show("gone") == 0
    live.shown("gone")
    assert len(live) == 1
