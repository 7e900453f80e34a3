# SPDX-License-Identifier: Apache-2.0
"""Processes that are written down: found again, told from others with the same number, ended.

Real processes, all of this test's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _process
from ansible_collections.stargate.core.plugins.module_utils._errors import Timeout
from ansible_collections.stargate.core.plugins.module_utils._process import (
    MARK,
    alive,
    end,
    environment,
    gone,
    remember,
)

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a process; what still runs is killed after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_a_process_is_found_again(tmp_path: Path, start: Start) -> None:
    """It is alive as long as it runs, and ended by the file alone."""
    file, process = tmp_path / "pid.json", start("sleep", "60")
    remember(file, process.pid)
    assert alive(file) == process.pid
    assert gone(file, 0.01) is False
    assert end(file) is True
    assert (alive(file), file.exists(), process.wait()) == (0, False, -signal.SIGTERM)
    assert end(file) is False
    assert gone(file, 0.01) is True


def test_a_stubborn_process(tmp_path: Path, start: Start) -> None:
    """One that does not listen is killed when patience is over."""
    file, process = tmp_path / "pid.json", start("sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done")
    assert process.stdout
    process.stdout.readline()
    remember(file, process.pid)
    assert end(file, patience=0.05) is True
    assert process.wait() == -signal.SIGKILL


def test_a_zombie_is_dead(tmp_path: Path, start: Start) -> None:
    """A process that has ended does not run, whether or not its parent knows already."""
    file, process = tmp_path / "pid.json", start("sleep", "60")
    remember(file, process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert alive(file) == 0
    process.wait()
    assert alive(file) == 0


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "other"}])
def test_a_number_given_to_somebody_else(tmp_path: Path, change: dict[str, str | int]) -> None:
    """Another process with the same number, or the same number after a boot, is left alone."""
    file = tmp_path / "pid.json"
    remember(file, os.getpid())
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert (alive(file), end(file)) == (0, False)


@pytest.mark.parametrize("text", ["", "null", "{}", '{"pid": "x"}'])
def test_files_that_say_nothing(tmp_path: Path, text: str) -> None:
    """A file that was cut short names no process."""
    (tmp_path / "pid.json").write_text(text)
    assert alive(tmp_path / "pid.json") == 0


def test_a_process_that_ends_meanwhile(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends between two looks is as good as ended."""
    file, process = tmp_path / "pid.json", start("sleep", "60")
    remember(file, process.pid)
    monkeypatch.setattr(_process.os, "pidfd_open", lambda _: (_ for _ in ()).throw(ProcessLookupError))
    assert end(file) is False


def test_a_process_that_cannot_be_killed(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when not even SIGKILL helps."""
    file, process = tmp_path / "pid.json", start("sleep", "60")
    remember(file, process.pid)
    monkeypatch.setattr(_process, "_ended", lambda *_: False)
    with pytest.raises(Timeout, match=f"process {process.pid}"):
        end(file)


def test_the_environment_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the mark and what programs need, and nothing of the run that starts it."""
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("ANSIBLE_SECRET", "canary")
    told = environment("ns/gw")
    assert (told[MARK], told["PATH"], "ANSIBLE_SECRET" in told) == ("ns/gw", "/bin", False)
