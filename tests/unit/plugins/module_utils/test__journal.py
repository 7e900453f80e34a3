# SPDX-License-Identifier: Apache-2.0
"""The journal: who may begin, what is not done again, and what is said of a step that nobody saw end.

The journal is a real file under a real lock; that processes are ended is shown in test_operation_step.py.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _journal as journals
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._journal import Journal, Step
from ansible_collections.stargate.core.plugins.module_utils._operation import Operation

PLAIN, WIPE = Step("plain"), Step("wipe", destructive=True)
FIELDS = {"authority", "uid", "attempt", "fence", "step", "destructive", "state", "begun", "ended", "rc"}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return the journal of a host that has seen nothing yet."""
    return Journal(tmp_path)


def do(journal: Journal, operation: Operation | None, step: Step, rc: int = 0) -> str:
    """Do a step as a module would; returns "ran", or the state of the entry that was known."""
    with journal.turn(operation, 0.2) as turn:
        known = turn.known(step)
        if known is not None:
            return str(known["state"])
        with turn.step(step) as entry:
            entry.update(rc=rc, result={"stdout": "out"})
    return "ran"


def dies(journal: Journal, operation: Operation, step: Step) -> None:
    """Begin a step and never say how it ended, as a process does that is killed."""
    with journal.turn(operation, 0.2) as turn:
        turn._begin(step)


def code(journal: Journal, operation: Operation | None, step: Step) -> tuple[str, bool]:
    """Return how a step is refused."""
    with pytest.raises(StargateError) as caught:
        do(journal, operation, step)
    return caught.value.code, caught.value.retryable


def test_what_stands_in_it(journal: Journal, tmp_path: Path) -> None:
    """The file is root's alone, and has who is at work now, what was done, and when, to the microsecond."""
    do(journal, Operation("u", 1, 3, "lease", name="repave-1"), WIPE)
    said = json.loads((tmp_path / "operation.json").read_text())
    assert (tmp_path / "operation.json").stat().st_mode & 0o777 == 0o600
    assert set(said["current"]) >= {"authority", "uid", "attempt", "fence", "operation", "step", "state", "pid"}
    assert set(said["current"]) >= {"started", "boot_id"}
    (entry,) = said["history"]
    assert set(entry) >= FIELDS
    assert (entry["state"], entry["destructive"], entry["rc"], entry["operation"]) == ("done", True, 0, "repave-1")
    assert entry["begun"] < entry["ended"]
    assert entry["begun"].endswith("+00:00")


@pytest.mark.parametrize(
    ("seen", "late"),
    [
        (Operation("u", 2), Operation("u", 1)),
        (Operation("u", 1, 5, "lease"), Operation("u", 2, 4, "lease")),
        (Operation("v", 1, 5, "lease"), Operation("u", 1, 4, "lease")),
    ],
)
def test_who_comes_late_is_refused(journal: Journal, seen: Operation, late: Operation) -> None:
    """An older attempt, and an older leader, may not begin; nobody is to try that again."""
    assert do(journal, seen, PLAIN) == "ran"
    assert code(journal, late, Step("other")) == ("StaleOperation", False)


def test_numbers_of_another_lease_say_nothing(journal: Journal) -> None:
    """A Lease that was made anew begins to count anew, and a controller without one has no number."""
    assert do(journal, Operation("u", 1, 5, "lease"), PLAIN) == "ran"
    assert do(journal, Operation("v", 1, 1, "other lease"), PLAIN) == "ran"
    assert do(journal, Operation("w", 1), PLAIN) == "ran"
    assert code(journal, Operation("x", 1, 4, "lease"), PLAIN) == ("StaleOperation", False)


def test_seen_is_seen_even_without_a_step(journal: Journal) -> None:
    """An attempt that had nothing left to do shuts out the one before all the same."""
    do(journal, Operation("u", 1), PLAIN)
    assert do(journal, Operation("u", 2), PLAIN) == "done"
    assert code(journal, Operation("u", 1), Step("other"))[0] == "StaleOperation"


def test_done_is_not_done_again(journal: Journal) -> None:
    """A later attempt is given what a step gave; one that failed, and one that looks for itself, run again."""
    first, second = Operation("u", 1), Operation("u", 2)
    looks = Step("looks", repeats=True)
    assert [do(journal, first, PLAIN), do(journal, first, looks), do(journal, first, WIPE, rc=3)] == ["ran"] * 3
    assert [do(journal, second, PLAIN), do(journal, second, looks), do(journal, second, WIPE)] == ["done", "ran", "ran"]
    assert do(journal, Operation("v", 1), PLAIN) == "ran"


def test_harmless_steps_may_be_tried_again(journal: Journal) -> None:
    """Within an attempt, a step that is not destructive runs as often as the play says."""
    assert [do(journal, Operation("u", 1), PLAIN), do(journal, Operation("u", 1), PLAIN)] == ["ran", "ran"]


@pytest.mark.parametrize(("rc", "state"), [(0, "done"), (7, "failed")])
def test_destructive_steps_begin_once(journal: Journal, rc: int, state: str) -> None:
    """In the same attempt a destructive step's result is given, whatever it was."""
    do(journal, Operation("u", 1), WIPE, rc)
    assert do(journal, Operation("u", 1), WIPE) == state
    assert len(journal.read().history) == 1


def test_a_destructive_step_that_died(journal: Journal) -> None:
    """It is not begun again in its attempt, is said to have been killed, and runs in the next attempt."""
    dies(journal, Operation("u", 1), WIPE)
    assert code(journal, Operation("u", 1), WIPE) == ("StepInterrupted", True)
    assert code(journal, Operation("u", 1), WIPE) == ("StepInterrupted", True)
    assert do(journal, Operation("u", 2), WIPE) == "ran"
    assert [(entry["attempt"], entry["state"]) for entry in journal.read().history] == [(1, "killed"), (2, "done")]


def test_a_reboot_is_done_when_the_machine_has_booted(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that reboots has begun until the machine is in another boot; then it is done, in any attempt."""
    reboot = Step("reboot", reboots=True)
    assert do(journal, Operation("u", 1), reboot) == "ran"
    assert journal.read().history[0]["state"] == "begun"
    assert code(journal, Operation("u", 1), reboot)[0] == "StepInterrupted"
    assert do(journal, Operation("u", 2), reboot) == "ran"
    monkeypatch.setattr(journals, "boot_id", lambda: "another")
    assert do(journal, Operation("u", 2), reboot) == "done"
    assert do(journal, Operation("u", 3), reboot) == "done"


def test_errors_are_failures(journal: Journal) -> None:
    """An error that comes out of a step is its end; being asked to leave counts as being killed."""
    for error, state in ((StargateError("Failed."), "failed"), (SystemExit(143), "killed")):
        with pytest.raises(type(error)), journal.turn(Operation("u", 1), 0.2) as turn, turn.step(Step(state)):
            raise error
    assert [entry["state"] for entry in journal.read().history] == ["failed", "killed"]


def test_one_at_a_time(journal: Journal) -> None:
    """Who comes second waits, and is told that the host is busy when it takes too long."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with journal.turn(Operation("u", 1), 0.2) as turn, turn.step(PLAIN):
            entered.set()
            leave.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(5)
    assert code(journal, Operation("v", 1), PLAIN) == ("HostBusy", True)
    assert code(journal, None, PLAIN) == ("HostBusy", True)
    leave.set()
    holder.join()
    assert do(journal, Operation("v", 1), PLAIN) == "ran"


def test_without_an_operation_nothing_is_written(journal: Journal, tmp_path: Path) -> None:
    """A task of nobody's Operation holds the host and leaves no word."""
    assert [do(journal, None, WIPE), do(journal, None, WIPE)] == ["ran", "ran"]
    assert not (tmp_path / "operation.json").exists()


def test_it_does_not_grow(journal: Journal) -> None:
    """A hundred entries are kept, and of them only those of the Operation of now with what was said."""
    for number in range(60):
        do(journal, Operation(f"u{number}", 1, number, f"lease {number}"), WIPE)
        do(journal, Operation(f"u{number}", 1, number, f"lease {number}"), PLAIN)
    account = journal.read()
    assert (len(account.history), len(account.fences)) == (100, journals.AUTHORITIES)
    assert [entry["uid"] for entry in account.history if entry["result"]] == ["u59", "u59"]


def test_destructive_steps_are_never_forgotten_while_they_count(journal: Journal) -> None:
    """However much an Operation does, what it may not do twice is remembered."""
    operation = Operation("u", 1)
    do(journal, operation, WIPE)
    for number in range(120):
        do(journal, operation, Step(f"s{number}"))
    assert do(journal, operation, WIPE) == "done"
    assert len(journal.read().history) == 101


@pytest.mark.parametrize("text", ["", "{", "[]", '{"current": {}}'])
def test_a_broken_journal_is_not_an_empty_one(journal: Journal, tmp_path: Path, text: str) -> None:
    """What cannot be read stops everything, as nobody knows any more what has run."""
    (tmp_path / "operation.json").write_text(text)
    assert code(journal, Operation("u", 1), PLAIN)[0] == "JournalUnreadable"


def test_a_full_disk_stops_a_step_before_it_begins(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it cannot be written down that a step begins, it does not begin."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journals.os, "open", full)
    with pytest.raises(StargateError) as caught:
        journal.write(journals.Account())
    assert caught.value.code == "DiskFull"


def test_what_was_killed_is_noted(journal: Journal) -> None:
    """Whoever kills a module says so, unless somebody else is at work already."""
    dies(journal, Operation("u", 1), WIPE)
    with journal.turn(None, 0.2):
        journal.note_killed(patience=0.1)
        assert journal.read().history[0]["state"] == "begun"
    journal.note_killed()
    assert journal.read().history[0]["state"] == "killed"
    assert journal.read().current["state"] == "killed"
