# SPDX-License-Identifier: Apache-2.0
"""Batches: which jobs share a run, when it starts, and how many hosts it serves at once.

Time is passed in or stands still; the thread is started in two tests only.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.reconciler.fakes import Clock, job
from tests.waiting import until

from stargate_reconciler import batch as module
from stargate_reconciler.batch import LONGEST_FILL, Batch, Batcher, due_at, forks
from stargate_reconciler.model import Job
from stargate_reconciler.settings import Settings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the batcher looks at."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize(
    ("first", "last", "running", "due"),
    [
        (0.0, 0.0, 0, 0.1),
        (0.0, 0.05, 0, 0.15),
        (0.0, 0.19, 0, 0.2),
        (0.0, 0.19, 1, 0.29),
        (0.0, 0.39, 1, 0.4),
        (0.0, 9.0, 3, 1.6),
        (0.0, 9.0, 4, LONGEST_FILL),
        (0.0, 9.0, 8, LONGEST_FILL),
    ],
)
def test_due_at(first: float, last: float, running: int, due: float) -> None:
    """A batch starts one window after its last job; the busier it is, the longer it may be filled, to a limit."""
    assert due_at(Batch(first, last), running, 0.1) == pytest.approx(due)


DATACENTERS = {"*": {"url": "http://127.0.0.1:8080"}}


@pytest.mark.parametrize(
    ("jobs", "settings", "expected"),
    [
        (1, {}, 1),
        (500, {}, 10),
        (500, {"forks": 7}, 7),
        (3, {"forks": 7}, 3),
        (500, {"provider": "dc-api"}, 50),
        (500, {"provider": "dc-api", "act": "upgrade"}, 10),
        (500, {"provider": ""}, 50),
    ],
)
def test_forks(jobs: int, settings: dict[str, Any], expected: int) -> None:
    """Forks follow the cores, more of them when hosts only wait for a datacenter, and a person's choice before both."""
    provider, act = settings.pop("provider", "ssh"), settings.pop("act", "repave")
    one = job(provider=provider)
    many = [replace(one, operation=replace(one.operation, act=act))] * jobs
    assert forks(many, Settings(datacenters=DATACENTERS, **settings), 2) == expected


def test_forks_without_a_profile() -> None:
    """A job without Profile is judged by its provider."""
    assert forks([replace(job(provider="dc-api"), profile=None)] * 100, Settings(), 2) == 50


class Bench:
    """A batcher whose thread does not run: `due` is what it would launch now."""

    def __init__(self, **settings: Any) -> None:
        self.running = 0
        self.batcher = Batcher(Settings(**settings), lambda: self.running, lambda jobs: None)

    def add(self, *names: str, act: str = "repave") -> None:
        """Add jobs, each on a Server of its own."""
        for name in names:
            self.batcher.add(replace(job(name, f"s-{name}"), playbook=act))

    def due(self, now: float) -> list[str]:
        """Return the names of the Operations that would be launched now, empty when none."""
        group, due = self.batcher._earliest(self.running)
        if group is None or due > now:
            return []
        return [item.operation.name for item in self.batcher._take(group)]


def test_jobs_of_a_group_share_a_run(clock: Clock) -> None:
    """Jobs of one group that come within the window become one run, those of another group another one."""
    bench = Bench()
    bench.add("a", "b")
    bench.add("c", act="reboot")
    assert bench.due(clock.now + 0.09) == []
    assert bench.due(clock.now + 0.1) == ["a", "b"]
    assert bench.due(clock.now + 0.1) == ["c"]
    assert bench.due(clock.now + 9) == []


def test_the_same_operation_is_in_a_batch_once(clock: Clock) -> None:
    """A job that is added again replaces itself."""
    bench = Bench()
    bench.add("a", "a")
    assert bench.due(clock.now + 1) == ["a"]


def test_a_full_batch_starts_at_once(clock: Clock) -> None:
    """A run takes no more hosts than it may; a full batch does not wait, and the rest follows."""
    bench = Bench(max_hosts_per_run=2)
    bench.add("a", "b", "c")
    assert bench.due(clock.now) == ["a", "b"]
    assert bench.due(clock.now) == []
    assert bench.due(clock.now + 0.1) == ["c"]


def test_a_new_batch_has_its_own_window(clock: Clock) -> None:
    """A job that comes after its group was taken is not launched alone because that batch was old."""
    bench = Bench()
    bench.add("a")
    clock.now += 5
    assert bench.due(clock.now) == ["a"]
    bench.add("b")
    assert bench.due(clock.now + 0.05) == []
    bench.add("c")
    assert bench.due(clock.now + 0.1) == ["b", "c"]


def test_removed_jobs_are_not_launched(clock: Clock) -> None:
    """A job can be taken out until its batch is launched, once."""
    bench = Bench()
    bench.add("a", "b")
    assert bench.batcher.remove("u-a") is True
    assert bench.batcher.remove("u-a") is False
    assert bench.due(clock.now + 1) == ["b"]
    assert bench.batcher.remove("u-b") is False


def launched(running: list[int], **settings: Any) -> tuple[Batcher, list[list[str]]]:
    """Return a started batcher, and the list that its launches go to."""
    seen: list[list[str]] = []

    def launch(jobs: list[Job]) -> None:
        running[0] += 1
        seen.append([item.operation.name for item in jobs])

    batcher = Batcher(Settings(batch_window=0.01, **settings), lambda: running[0], launch)
    batcher.start()
    return batcher, seen


def test_thread_launches_and_waits_for_room() -> None:
    """No more runs at once than allowed; a batch that waited for room starts when a run has ended."""
    running = [0]
    batcher, seen = launched(running, max_runs=1)
    batcher.add(job("a"))
    until(lambda: seen == [["a"]])
    batcher.add(job("b"))
    batcher.add(job("c"))
    time.sleep(0.1)
    assert len(seen) == 1
    running[0] = 0
    batcher.wake()
    until(lambda: seen == [["a"], ["b", "c"]])
    batcher.stop()
    batcher._thread.join(2)
    assert not batcher._thread.is_alive()


def test_thread_forgets_batches_that_were_emptied() -> None:
    """A batch whose jobs were all removed is neither launched nor kept."""
    batcher, seen = launched([0])
    batcher._settings = replace(batcher._settings, batch_window=0.2)
    batcher.add(job("a"))
    assert batcher.remove("u-a")
    batcher.wake()
    until(lambda: not batcher._batches)
    batcher.stop()
    assert seen == []
