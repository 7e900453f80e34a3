# SPDX-License-Identifier: Apache-2.0
"""Pidfiles that lie, programs that do not want to end, and parents that die first.

Real processes of a second or less; nothing of Kubernetes.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import until

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local.processes import Identity, Process, wait_until_gone

SLEEP = ["sleep", "60"]
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 60 & echo ready; while :; do wait; done"]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A program that is not started yet; killed after the test."""
    one = Process("one", tmp_path / "run")
    yield one
    one.kill()


def exists(pid: int) -> bool:
    """Whether a process has this pid, zombies left out."""
    return Identity.of(pid) is not None


def test_runs_apart_and_stops(process: Process) -> None:
    """A started program has a session of its own, and a stopped one leaves no pidfile."""
    pid = process.start(SLEEP)
    assert process.pid == pid
    assert os.getsid(pid) == pid
    assert process.stop() is True
    assert (process.pid, process.pidfile.exists(), exists(pid)) == (None, False, False)
    assert process.stop() is False


def test_is_known_to_others(process: Process) -> None:
    """Another object with the same files finds the program and can stop it."""
    process.start(SLEEP)
    other = Process("one", process.pidfile.parent)
    assert other.pid == process.pid
    assert other.stop() is True
    assert process.pid is None


def test_does_not_start_twice(process: Process) -> None:
    """A program that runs is not started again."""
    pid = process.start(SLEEP)
    with pytest.raises(UserError, match=f"runs already with pid {pid}"):
        process.start(SLEEP)


def test_output_goes_to_the_log(process: Process) -> None:
    """Both streams are appended to a log that only the owner reads."""
    process.start(["sh", "-c", "echo out; echo err >&2"])
    until(lambda: process.pid is None)
    assert process.tail() == "out\nerr"
    assert process.tail(1) == "err"
    assert process.log.stat().st_mode & 0o777 == 0o600


def test_no_log_no_tail(process: Process) -> None:
    """What was never started has said nothing."""
    assert process.tail() == ""


def test_environment_is_what_is_given(process: Process) -> None:
    """A given environment replaces the own one."""
    process.start(["/usr/bin/env"], environ={"ONLY": "this"})
    until(lambda: process.pid is None)
    assert process.tail() == "ONLY=this"


def test_missing_program(process: Process) -> None:
    """A program that is not there is named."""
    with pytest.raises(WorldError, match="no program stargate-nothing"):
        process.start(["stargate-nothing"])


def test_died_program_is_seen(process: Process) -> None:
    """A program that was killed by somebody is not running, zombie or not."""
    pid = process.start(SLEEP)
    os.kill(pid, signal.SIGKILL)
    until(lambda: process.pid is None)
    process.start(SLEEP)
    assert process.pid not in (None, pid)


def test_stale_pidfile(process: Process) -> None:
    """A pidfile whose process has gone counts as not running and does not hinder a start."""
    gone = subprocess.Popen(["true"])
    identity = Identity(gone.pid, 1, "boot")
    gone.wait()
    process.pidfile.parent.mkdir()
    process.pidfile.write_text(" ".join(map(str, identity)))
    assert process.pid is None
    assert process.start(SLEEP) > 0


@pytest.mark.parametrize("changed", ["started", "boot"])
def test_reused_pid_is_left_alone(process: Process, changed: str) -> None:
    """A pid that now belongs to another process is never signalled."""
    with subprocess.Popen(SLEEP) as bystander:
        real = Identity.of(bystander.pid)
        assert real is not None
        lie = real._replace(started=real.started - 1) if changed == "started" else real._replace(boot="other")
        process.pidfile.parent.mkdir()
        process.pidfile.write_text(" ".join(map(str, lie)))
        assert process.pid is None
        assert process.kill() is False
        assert (bystander.poll(), process.pidfile.exists()) == (None, False)
        bystander.kill()


@pytest.mark.parametrize("content", ["", "12", "twelve 1 boot", "1 2 3 4"])
def test_broken_pidfile(process: Process, content: str) -> None:
    """What is no pidfile of ours points at nobody."""
    process.pidfile.parent.mkdir()
    process.pidfile.write_text(content)
    assert process.pid is None


def test_stubborn_program_is_killed_with_its_children(process: Process) -> None:
    """Who ignores SIGTERM is killed after the time given, and so is what it has started."""
    pid = process.start(STUBBORN)
    until(lambda: process.tail() == "ready")
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    started = time.monotonic()
    assert process.stop(seconds=0.2) is True
    until(lambda: not any(exists(one) for one in [pid, *children]))
    assert time.monotonic() - started < 3


def test_bound_program_dies_with_its_parent(tmp_path: Path) -> None:
    """What is bound to a process that is killed does not outlive it."""
    code = (
        "import sys, os, signal; from pathlib import Path; from stargate_reconciler.local.processes import Process\n"
        "Process('one', Path(sys.argv[1])).start(['sleep', '60'], bound=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert Identity.read(tmp_path / "one.pid") is not None
    until(lambda: Process("one", tmp_path).pid is None)


def test_waiting_ends_with_the_first_death(process: Process, tmp_path: Path) -> None:
    """Of several programs the one that ends is named; None when all live on."""
    other = Process("other", tmp_path / "run")
    process.start(SLEEP)
    other.start(["sleep", "0.2"])
    assert wait_until_gone([process, other], seconds=math.inf) is other
    assert wait_until_gone([process], seconds=0.1) is None
