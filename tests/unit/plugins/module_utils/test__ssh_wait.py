# SPDX-License-Identifier: Apache-2.0
"""Waiting for hosts, with an ssh that is a script: each host says what the file of its name has, line by line.

With real hosts: tests/integration/test_prep_nspawn.py.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _ssh_wait
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._ssh_wait import Host, Patience, await_all

# "ok" lets us in, "hang" says nothing, all else is an error; the last line is said for ever.
SSH = """#!/bin/sh
while [ "$1" != -F ]; do shift; done
shift; directory=$(dirname "$1"); shift
while [ "$1" = -o ]; do shift 2; done
script=$directory/$1
line=$(head -n 1 "$script")
[ "$(wc -l <"$script")" -gt 1 ] && sed -i 1d "$script"
case $line in
  ok) exit 0 ;;
  hang) exec sleep 60 ;;
  *) echo "$line" >&2; exit 255 ;;
esac
"""
QUICK = Patience(timeout=0.5, every=0.1, attempt=5, pause=0.02)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    """Return what gives a host its lines."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def write(name: str, *lines: str, pid: int = 0, console: str = "") -> Host:
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        return Host(name, pid, console)

    return write


def test_hosts_are_awaited_together(script: Callable[..., Host], tmp_path: Path) -> None:
    """Each host is told of when it answers, and who is still awaited meanwhile."""
    said: list[str] = []
    slow = script("slow", *["refused"] * 20, "ok")
    seconds = await_all(str(tmp_path / "c"), [script("fast", "ok"), slow], Patience(30, 0.5, 5, 0.05), say=said.append)
    assert list(seconds) == ["fast", "slow"]
    assert seconds["fast"] < seconds["slow"]
    assert said[0].startswith("reached fast after")
    assert any(line.startswith("waiting for SSH of slow") for line in said)


def failure(config: Path, *hosts: Host, patience: Patience = QUICK) -> StargateError:
    """Return why waiting failed."""
    with pytest.raises(StargateError) as failed:
        await_all(str(config), hosts, patience, say=lambda text: None)
    return failed.value


def test_a_host_that_never_answers(script: Callable[..., Host], tmp_path: Path) -> None:
    """Time is up with what ssh said last and the end of the console."""
    (tmp_path / "log").write_text("".join(f"line {n}\n" for n in range(9)))
    error = failure(tmp_path / "c", script("h", "first", "connect to host h: refused", console=str(tmp_path / "log")))
    assert (error.code, error.retryable) == ("BootTimeout", True)
    assert "connect to host h: refused." in error.message
    assert "line 4 | line 5 | line 6 | line 7 | line 8" in error.message


def test_a_wrong_host_key_ends_it_at_once(script: Callable[..., Host], tmp_path: Path) -> None:
    """A changed key is nothing to wait for, and an attempt on another host does not hold up the end."""
    started = time.monotonic()
    hosts = [script("h", "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!"), script("other", "hang")]
    error = failure(tmp_path / "c", *hosts, patience=Patience(600, 0.1, 60, 0.02))
    assert (error.code, error.retryable) == ("HostKeyChanged", False)
    assert time.monotonic() - started < 5


def test_a_login_that_stays_denied(
    script: Callable[..., Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A denied login may still be let in while the machine boots, but not for ever."""
    config = tmp_path / "c"
    denied = "ubuntu@h: Permission denied (publickey)."
    await_all(str(config), [script("h", denied, "ok")], QUICK, say=lambda text: None)
    monkeypatch.setattr(_ssh_wait, "REFUSALS", 0.1)
    error = failure(config, script("h", denied), patience=Patience(600, 0.1, 5, 0.02))
    assert error.code == "Denied"
    assert "(publickey)" in error.message


def test_a_machine_that_has_stopped(script: Callable[..., Host], tmp_path: Path) -> None:
    """Nobody waits for a machine whose process is gone."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    error = failure(tmp_path / "c", script("h", "refused", pid=process.pid), patience=Patience(600, 0.1, 5, 0.02))
    assert (error.code, error.retryable) == ("MachineStopped", True)


def test_an_ssh_that_hangs(script: Callable[..., Host], tmp_path: Path) -> None:
    """An attempt that does not end is ended, and counts as no answer."""
    error = failure(tmp_path / "c", script("h", "hang"), patience=Patience(0.1, 0.1, 0.1, 0.02))
    assert error.code == "BootTimeout"
    assert "did not end" in error.message
