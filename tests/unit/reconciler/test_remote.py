# SPDX-License-Identifier: Apache-2.0
"""Commands as sshd runs them for a run: they end as they would, and when nobody reads any more they end at once.

The processes are real ones, started through what takes the place of ssh; the other end of the pipe is the connection.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.waiting import until

from stargate_reconciler import remote
from stargate_reconciler.tether import wrapper

PLAYED = '#!/bin/sh\nfor last; do :; done\necho "$#" "$@" > "$(dirname "$0")/asked"\nexec /bin/sh -c "$last"\n'
FORKS = "import os, time; os.fork() or (os.setsid(), os.fork()); time.sleep(60)"


@pytest.fixture
def ssh(tmp_path: Path) -> list[str]:
    """Return the beginning of a command line as Ansible makes it, for an ssh that runs its last argument here."""
    for name, text in (("played", PLAYED), ("ssh", wrapper(str(tmp_path / "played")))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    return [str(tmp_path / "ssh"), "-C", "-o", "User=a b", "host"]


def run(argv: list[str], given: str = "") -> tuple[int, str]:
    """Run a command to its end; returns its code and what it says."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("echo \"it's\" '$HOME'; exit 3", (3, "it's $HOME\n")),
        ("cat; echo x\necho y", (0, "given\nx\ny\n")),
        ("kill -9 $$", (137, "")),
        ("/bin/sh -c '( umask 77 && echo \"`echo a`\" ) && sleep 0'", (0, "a\n")),
    ],
)
def test_commands_are_what_they_were(ssh: list[str], command: str, wanted: tuple[int, str]) -> None:
    """Quotes, lines, input and exit codes come through as if nothing stood between."""
    assert run([*ssh, command], "given\n") == wanted


@pytest.mark.parametrize("asked", [["-o", "ControlPersist"], ["-C", "-o", "x=y z", "-O", "check", "host"], ["-V"]])
def test_questions_to_ssh_itself_are_passed_on(ssh: list[str], tmp_path: Path, asked: list[str]) -> None:
    """What is no command for a host reaches ssh as it is."""
    run([ssh[0], *asked])
    assert (tmp_path / "asked").read_text().split() == [str(len(asked)), *" ".join(asked).split()]


def test_options_are_kept(ssh: list[str], tmp_path: Path) -> None:
    """All but the last argument reach ssh in their order."""
    run([*ssh, "true"])
    assert (tmp_path / "asked").read_text().startswith("5 -C -o User=a b host /bin/sh -c ")


@pytest.mark.parametrize("work", ["sleep 60", f'"{sys.executable}" -c "{FORKS}"', "env -i setsid sleep 60 & sleep 60"])
def test_the_end_of_the_connection_is_theirs(ssh: list[str], work: str) -> None:
    """When nobody reads any more, all that a command has started is gone, whatever session it fled to."""
    process = subprocess.Popen([*ssh, work], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    until(lambda: any("60" in line for line in lines(process.pid)), seconds=30)
    left = remote.below(process.pid)
    assert process.stdout is not None
    process.stdout.close()
    assert until(lambda: not any(is_running(pid) for pid in left), seconds=30) < 2.0
    assert process.wait(5) == 1


def test_machines_are_made_to_stay(ssh: list[str]) -> None:
    """A local machine that a command has started outlives the connection."""
    process = subprocess.Popen([*ssh, "STARGATE_MACHINE=m sleep 61 & sleep 60"], stdout=subprocess.PIPE)
    until(lambda: len(lines(process.pid)) > 2, seconds=30)
    machine = next(pid for pid in everything_below(process.pid) if remote.is_machine(pid))
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(10) == 1
    assert is_running(machine)
    os.kill(machine, 9)


def lines(pid: int) -> list[str]:
    """Return the command lines of all that is below a process."""
    found = []
    for child in everything_below(pid):
        with suppress(OSError):
            found.append(Path(f"/proc/{child}/cmdline").read_bytes().decode())
    return found


def everything_below(pid: int) -> list[int]:
    """Return all that is below a process, machines too."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [int(child) for child in found] + [deeper for child in found for deeper in everything_below(int(child))]


def is_running(pid: int) -> bool:
    """Whether a process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
