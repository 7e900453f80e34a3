# SPDX-License-Identifier: Apache-2.0
"""operation_step as a host runs it: a real process with a real journal, cut off, killed, superseded, run again.

What the journal answers in which case is in test__journal.py.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plugins.module_utils.test__operation import DOUBLE_FORK
from tests.unit.plugins.step_host import StepHost, result
from tests.waiting import until

from ansible_collections.stargate.core.plugins.module_utils import _operation as operations
from ansible_collections.stargate.core.plugins.module_utils._operation import Operation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a host of its own needs root")
WITHIN = 2.0


@pytest.fixture
def uid() -> Iterator[str]:
    """Return the uid of an Operation of which nothing is left afterwards."""
    made = str(uuid.uuid4())
    yield made
    operations.end(lambda other: other.uid == made)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[StepHost]:
    """Return a host that has seen nothing yet."""
    (tmp_path / "journal").mkdir()
    made = StepHost(tmp_path / "journal")
    yield made
    for module in made.modules:
        module.kill()
        module.communicate()


def left(uid: str) -> set[int]:
    """Return the processes that still work for an Operation."""
    return operations.processes(lambda other: other.uid == uid)


def test_check_mode_runs_nothing(host: StepHost, uid: str, tmp_path: Path) -> None:
    """In check mode nothing is run and nothing is written."""
    said = host.run(Operation(uid, 1), "touch", "touch", str(tmp_path / "here"), _ansible_check_mode=True)
    assert (said["changed"], (tmp_path / "here").exists(), host.history) == (True, False, [])


def test_a_command_runs(host: StepHost, uid: str) -> None:
    """It has its input and its directory; the result has what it said; no shell reads its arguments."""
    argv = ["sh", "-c", 'cat; pwd; echo "$1" >&2', "sh", "$(id); `id`"]
    said = host.run(Operation(uid, 1), "say", *argv, stdin="given\n", chdir="/usr")
    assert (said["rc"], said["stdout"], said["stderr"]) == (0, "given\n/usr\n", "$(id); `id`\n")
    assert (said["changed"], said["step"]) == (True, {"name": "say", "state": "done", "resumed": False})
    assert host.states() == [("say", 1, "done")]


def test_a_later_attempt_is_given_the_result(host: StepHost, uid: str, tmp_path: Path) -> None:
    """What is done is not done again, and the task gives what it gave then."""
    argv = ["sh", "-c", f"echo x >> {tmp_path}/count; echo said"]
    host.run(Operation(uid, 1), "once", *argv)
    said = host.run(Operation(uid, 2), "once", *argv)
    assert (said["stdout"], said["changed"], said["step"]["resumed"]) == ("said\n", False, True)
    assert (tmp_path / "count").read_text() == "x\n"


def test_failures_have_a_code(host: StepHost, uid: str) -> None:
    """A command that fails, that is not there, and that takes too long, each say so."""
    operation = Operation(uid, 1)
    failed = host.run(operation, "a", "sh", "-c", "echo why >&2; exit 3")
    absent = host.run(operation, "b", "/no/such/program")
    slow = host.run(operation, "c", "sleep", "60", timeout=1)
    assert [said["failure"]["code"] for said in (failed, absent, slow)] == [
        "StepFailed",
        "StepNotStarted",
        "StepTimeout",
    ]
    assert (failed["rc"], failed["failure"]["details"], failed["step"]["state"]) == (3, "why", "failed")
    assert [said["failure"]["retryable"] for said in (failed, absent, slow)] == [True, False, True]
    assert left(uid) == set()


def test_what_was_forked_does_not_hold_it_up(host: StepHost, uid: str) -> None:
    """A command that leaves a process behind is over when it is over."""
    said = host.run(Operation(uid, 1), "leaves", "sh", "-c", "sleep 60 & echo done")
    assert said["stdout"] == "done\n"


def test_secrets_stay_out_of_the_journal(host: StepHost, uid: str) -> None:
    """What a task with no_log says is not written down."""
    host.run(Operation(uid, 1), "secret", "echo", "canary", _ansible_no_log=True)
    assert "canary" not in (host.directory / "operation.json").read_text()


@pytest.mark.parametrize("work", [("sleep", "60"), (sys.executable, "-c", DOUBLE_FORK), ("env", "-i", "sleep", "60")])
def test_it_ends_with_its_connection(host: StepHost, uid: str, work: tuple[str, ...]) -> None:
    """When nobody reads any more, all that the step has started is gone within two seconds, and said to be killed."""
    module = host.start(Operation(uid, 1), "work", *work)
    until(lambda: ("work", 1, "begun") in host.states() and len(left(uid)) > 2, seconds=20)
    assert module.stdout is not None
    module.stdout.close()
    assert until(lambda: not left(uid), seconds=20) < WITHIN
    until(lambda: host.states() == [("work", 1, "killed")], seconds=2)


def test_it_ends_with_its_module(host: StepHost, uid: str) -> None:
    """A module that is killed leaves nothing behind; the journal says what became of the step."""
    host.start(Operation(uid, 1), "work", "sh", "-c", "env -i setsid sleep 60 & sleep 60", destructive=True)
    until(lambda: ("work", 1, "begun") in host.states() and len(left(uid)) > 4, seconds=20)
    os.kill(host.current["pid"], signal.SIGKILL)
    assert until(lambda: not left(uid), seconds=20) < WITHIN
    until(lambda: host.states() == [("work", 1, "killed")], seconds=2)
    said = host.run(Operation(uid, 1), "work", "true", destructive=True)
    assert said["failure"] == {"code": "StepInterrupted", "details": "", "retryable": True}


@pytest.mark.parametrize("newer", [("same", 2, 1), ("other", 1, 2)])
def test_a_newer_one_ends_an_older_one(host: StepHost, uid: str, newer: tuple[str, int, int]) -> None:
    """A later attempt, and a later leader's Operation, end what they find running, and begin within two seconds."""
    host.start(Operation(uid, 1, 1, "lease"), "work", "sleep", "60")
    until(lambda: ("work", 1, "begun") in host.states(), seconds=20)
    whose, attempt, fence = newer
    operation = Operation(uid if whose == "same" else f"{uid}-x", attempt, fence, "lease")
    said = host.run(operation, "next", "true")
    assert said["rc"] == 0
    assert host.states() == [("work", 1, "killed"), ("next", attempt, "done")]
    assert left(uid) == set()
    late = host.run(Operation(uid, 1, 1, "lease"), "late", "true")
    assert late["failure"] == {"code": "StaleOperation", "details": "", "retryable": False}


def test_a_destructive_step_that_is_alive_is_waited_for(host: StepHost, uid: str, tmp_path: Path) -> None:
    """The same step, begun a second time in its attempt, is given the result of the first, and has run once."""
    argv = ["sh", "-c", f"echo x >> {tmp_path}/count; sleep 1; echo said"]
    first = host.start(Operation(uid, 1), "wipe", *argv, destructive=True)
    until(lambda: ("wipe", 1, "begun") in host.states(), seconds=20)
    second = host.run(Operation(uid, 1), "wipe", *argv, destructive=True)
    assert (result(first)["step"]["resumed"], second["step"]["resumed"]) == (False, True)
    assert second["stdout"] == "said\n"
    assert (tmp_path / "count").read_text() == "x\n"


def test_without_an_operation_it_is_a_command(host: StepHost) -> None:
    """A plain playbook runs it as often as it likes, one at a time."""
    assert [host.run(None, "a", "echo", "x")["stdout"] for _ in range(2)] == ["x\n", "x\n"]
    assert host.history == []
