# SPDX-License-Identifier: Apache-2.0
"""The queue: a key once, at one worker, as early as anybody asked, never lost.

What a key means is not tested here.
"""

from __future__ import annotations

import threading
import time

import pytest
from tests.unit.reconciler.fakes import Clock
from tests.waiting import until

from stargate_reconciler import queue
from stargate_reconciler.queue import KeyQueue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the queue looks at."""
    made = Clock()
    monkeypatch.setattr(queue, "time", made)
    return made


@pytest.fixture
def keys() -> KeyQueue[str]:
    """Return an empty queue."""
    return KeyQueue(backoff_base=1.0, backoff_cap=10.0)


def taken(keys: KeyQueue[str], clock: Clock, *, at: float = 0.0) -> list[str]:
    """Return the keys that are due `at` seconds from the beginning, in order, and finish them."""
    clock.now = 1000.0 + at
    found = []
    while any(due <= clock.now for due in keys._due.values()):
        key = keys.get()
        assert key is not None
        found.append(key)
        keys.done(key)
    return found


@pytest.mark.parametrize(
    ("asked", "at", "expected"),
    [
        ([("a", 0), ("b", 0)], 0, ["a", "b"]),
        ([("a", 0), ("a", 0)], 0, ["a"]),
        ([("a", 5)], 4.9, []),
        ([("a", 5)], 5, ["a"]),
        ([("a", 5), ("a", 1)], 1, ["a"]),
        ([("a", 1), ("a", 5)], 1, ["a"]),
        ([("a", 5), ("b", 1), ("c", 3)], 5, ["b", "c", "a"]),
        ([("a", 5), ("a", 1), ("a", 3)], 9, ["a"]),
    ],
)
def test_earliest_request_wins(
    keys: KeyQueue[str], clock: Clock, asked: list[tuple[str, float]], at: float, expected: list[str]
) -> None:
    """A key is given out once, at the earliest time that was asked for, in order of time."""
    for key, after in asked:
        keys.add(key, after=after)
    assert taken(keys, clock, at=at) == expected


def test_forgotten_later_request_leaves_nothing(keys: KeyQueue[str], clock: Clock) -> None:
    """A later request that an earlier one has replaced does not bring the key a second time."""
    keys.add("a", after=5)
    keys.add("a")
    assert taken(keys, clock) == ["a"]
    assert taken(keys, clock, at=9) == []


@pytest.mark.parametrize(("asked", "at", "again"), [([0.0], 0.0, True), ([3.0], 2.0, False), ([3.0, 1.0], 1.0, True)])
def test_requests_during_the_work_count_after_it(
    keys: KeyQueue[str], clock: Clock, asked: list[float], at: float, again: bool
) -> None:
    """What is asked while a key is at work is neither lost nor given to a second worker; the earliest wins."""
    keys.add("a")
    assert keys.get() == "a"
    for after in asked:
        keys.add("a", after=after)
    clock.now += at
    assert keys.depth() == 1
    keys.done("a")
    assert (keys.depth() == 1) is again


def test_done_without_a_request_is_quiet(keys: KeyQueue[str], clock: Clock) -> None:
    """A key that nobody asked for during its work does not come again."""
    keys.add("a")
    assert taken(keys, clock) == ["a"]
    assert taken(keys, clock, at=100) == []


def test_backoff_doubles_to_its_cap_and_is_forgotten(keys: KeyQueue[str], clock: Clock) -> None:
    """Failures in a row wait twice as long each time; a success begins anew; other keys are not concerned."""
    assert [keys.failed("a") for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert keys.failed("b") == 1
    keys.succeeded("a")
    assert keys.failed("a") == 1


def test_backoff_of_a_key_for_ever_failing_does_not_overflow(keys: KeyQueue[str], clock: Clock) -> None:
    """A key that has failed for weeks still gets the cap."""
    keys._failures["a"] = 5000
    assert keys.failed("a") == 10


@pytest.mark.parametrize(("within", "depth"), [(0.0, 2), (5.0, 3), (4.0, 2)])
def test_depth_counts_work_and_what_is_due(keys: KeyQueue[str], clock: Clock, within: float, depth: int) -> None:
    """The depth is what is at work plus what is due within the given time."""
    keys.add("at work")
    keys.get()
    keys.add("now")
    keys.add("later", after=5)
    assert keys.depth(within=within) == depth


def test_stop_wakes_every_worker() -> None:
    """Workers that wait, and those that ask later, get None."""
    keys: KeyQueue[str] = KeyQueue()
    got: list[str | None] = []
    workers = [threading.Thread(target=lambda: got.append(keys.get())) for _ in range(3)]
    for worker in workers:
        worker.start()
    keys.stop()
    for worker in workers:
        worker.join(2)
    assert [*got, keys.get()] == [None] * 4


def test_worker_wakes_for_an_earlier_key() -> None:
    """A worker that waits for a distant key takes one that is added for now at once."""
    keys: KeyQueue[str] = KeyQueue()
    got: list[str | None] = []
    keys.add("distant", after=60)
    worker = threading.Thread(target=lambda: got.append(keys.get()))
    worker.start()
    keys.add("now")
    worker.join(2)
    assert got == ["now"]


def test_no_key_is_lost_or_doubled_among_workers() -> None:
    """Four workers and two thousand requests: every last request is followed by a look, never two at a time."""
    keys: KeyQueue[int] = KeyQueue()
    wanted, seen, busy, clashes = [0] * 10, [0] * 10, set(), []

    def work() -> None:
        while (key := keys.get()) is not None:
            if key in busy:
                clashes.append(key)
            busy.add(key)
            seen[key] = wanted[key]
            time.sleep(0)
            busy.discard(key)
            keys.done(key)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for number in range(2000):
        wanted[number % 10] = number
        keys.add(number % 10)
    until(lambda: seen == wanted and not keys.depth())
    keys.stop()
    for worker in workers:
        worker.join(2)
    assert not clashes
