# SPDX-License-Identifier: Apache-2.0
"""The guard with real processes: whatever a command leaves behind ends with it, by whichever way the end comes.

Every process is found by the pid that it wrote down, never by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import until

from stargate_reconciler import guard

HOLD = "import os, signal, sys, time; open(sys.argv[1] + '.new', 'w').write(str(os.getpid())); "
HOLD += "os.rename(sys.argv[1] + '.new', sys.argv[1]); "
PLAIN = HOLD + "time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + PLAIN
ORPHAN = """
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], sys.argv[1]])
    os._exit(0)
os.wait()
"""
MACHINE = ORPHAN.replace("os.execv(", "os.environ['STARGATE_MACHINE'] = 'dc-west/vm'; os.execv(")
FAMILY = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {PLAIN!r}, sys.argv[1] + ".child"], env={{}})
{PLAIN}
"""
Started = tuple[subprocess.Popen[bytes], Path]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return any(pid == found for found, _ in guard.parents())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Return a function that starts the guard with Python code, and returns it with the file for the code's pid."""
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str, *arguments: str) -> Started:
        path = tmp_path / f"pid-{len(started)}"
        command = [sys.executable, "-I", "-S", "-c", code, str(path), *arguments]
        process = subprocess.Popen([sys.executable, "-I", "-S", guard.__file__, str(tmp_path / "guard"), *command])
        started.append(process)
        return process, path

    yield run
    for process in started:
        process.kill()
        process.wait()


def written(path: Path) -> int:
    """Return the pid in a file, as soon as it is there."""
    until(path.exists)
    return int(path.read_text())


@pytest.mark.parametrize(
    ("code", "expected"),
    [("pass", 0), ("import sys; sys.exit(3)", 3), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_exit_code_is_the_commands(start: Callable[..., Started], tmp_path: Path, code: str, expected: int) -> None:
    """Without a stop the guard ends as its command did, and has said who it is."""
    process, _ = start(code)
    assert process.wait(5) == expected
    assert int((tmp_path / "guard").read_text()) == process.pid


def test_what_cannot_be_started_is_one_sentence(tmp_path: Path) -> None:
    """A disk that is full, or a program that is not there, ends the guard with what the system says, no traceback."""
    for pidfile, program in ((tmp_path / "none" / "pid", "true"), (tmp_path / "pid", "/no/such/program")):
        command = [sys.executable, "-I", "-S", guard.__file__, str(pidfile), program]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stderr.count("\n")) == (guard.UNSTARTED, 1)
        assert f"Failed to start {program}: " in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_ends_the_command(start: Callable[..., Started], signum: signal.Signals) -> None:
    """A stop is passed on, and the guard says that it was one."""
    process, path = start(PLAIN)
    pid = written(path)
    process.send_signal(signum)
    assert process.wait(2) == guard.STOPPED
    assert not is_alive(pid)


def test_stop_ends_the_deaf(start: Callable[..., Started]) -> None:
    """A command that does not listen to SIGTERM is killed within two seconds; asking twice changes nothing."""
    process, path = start(DEAF)
    pid = written(path)
    began = time.monotonic()
    process.terminate()
    process.terminate()
    assert process.wait(2) == guard.STOPPED
    assert time.monotonic() - began < 2
    assert not is_alive(pid)


@pytest.mark.parametrize("inner", [PLAIN, DEAF])
def test_stop_ends_orphans_in_their_own_session(start: Callable[..., Started], inner: str) -> None:
    """A grandchild that made a session of its own and lost its parent is ended with the rest."""
    process, path = start(ORPHAN + "import time; time.sleep(60)", inner)
    pid = written(path)
    process.terminate()
    assert process.wait(2) == guard.STOPPED
    assert not is_alive(pid)


def test_nothing_outlives_a_command_that_ends_well(start: Callable[..., Started]) -> None:
    """What a command leaves in the background ends when the command does."""
    process, path = start(ORPHAN + "import time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)", DEAF)
    assert process.wait(5) == 0
    assert not is_alive(written(path))


@pytest.mark.parametrize("ends", ["stop", "end"])
def test_machines_stay(start: Callable[..., Started], ends: str) -> None:
    """A local machine that a command has started stays, with all that it started; the rest ends."""
    code = MACHINE + "import time\nwhile not os.path.exists(sys.argv[1] + '.child'): time.sleep(0.01)\n"
    process, path = start(code + ("time.sleep(60)" if ends == "stop" else ""), FAMILY)
    machine, child = written(path), written(path.with_name(f"{path.name}.child"))
    try:
        if ends == "stop":
            process.terminate()
        assert process.wait(3) == (guard.STOPPED if ends == "stop" else 0)
        assert is_alive(machine)
        assert is_alive(child)
    finally:
        for pid in (machine, child):
            os.kill(pid, signal.SIGKILL)


def test_death_of_the_parent_is_a_stop(tmp_path: Path) -> None:
    """When the process that started the guard is killed, guard and command end too."""
    path = tmp_path / "pid"
    middle = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    arguments = [sys.executable, "-I", "-S", guard.__file__, str(tmp_path / "guard")]
    command = [sys.executable, "-I", "-S", "-c", DEAF, str(path)]
    parent = subprocess.Popen([sys.executable, "-I", "-S", "-c", middle, *arguments, *command])
    pid = written(path)
    watcher = int((tmp_path / "guard").read_text())
    parent.kill()
    parent.wait()
    until(lambda: not is_alive(pid) and not is_alive(watcher), seconds=3)


def test_death_of_the_guard_ends_the_command(start: Callable[..., Started]) -> None:
    """A guard that is itself killed takes its command along."""
    process, path = start(PLAIN)
    pid = written(path)
    process.kill()
    process.wait()
    until(lambda: not is_alive(pid))


def test_descendants(start: Callable[..., Started]) -> None:
    """Descendants are children and theirs, none of anybody else."""
    process, path = start(PLAIN)
    pid = written(path)
    assert guard.descendants(process.pid) == {pid}
    assert {process.pid, pid} <= guard.descendants(os.getpid())
    assert guard.descendants(pid) == set()


def test_survivors_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be killed in time is returned, not waited for."""
    killed: list[int] = []
    monkeypatch.setattr(guard, "descendants", lambda _: {4_000_001})
    monkeypatch.setattr(guard, "_kill", lambda pid, _: killed.append(pid))
    assert guard.kill_descendants(1, seconds=0.02) == {4_000_001}
    assert set(killed) == {4_000_001}


def test_who_is_gone_already() -> None:
    """A process that ended before it was killed is no error."""
    guard._kill(4_000_001, signal.SIGKILL)
    guard._reap()
