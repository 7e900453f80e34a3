# SPDX-License-Identifier: Apache-2.0
"""The program stargate-mock-dc: flags, environment, and what outlives a kill.

What it answers is tested in test_server.py, without a process.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler.mock_dc.cli import flag, main, read_settings

Start = Callable[..., tuple[subprocess.Popen[str], str]]
PROGRAM = str(Path(sys.executable).parent / "stargate-mock-dc")


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts the program and gives it with the URL that it listens on; it is ended after the test."""
    started = []

    def begin(*flags: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen([PROGRAM, "--port", "0", *flags], stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        return process, line.split("listening on ")[1].split(",")[0].strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def call(url: str, body: dict[str, Any] | None = None, key: str = "") -> dict[str, Any]:
    """Return the JSON answer to a GET, or to a POST of a body."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Idempotency-Key": key})) as answer:
        return dict(json.load(answer))


def test_an_accepted_job_outlives_a_kill(start: Start, tmp_path: Path) -> None:
    """After SIGKILL the next process knows the job and its key, and finishes it."""
    flags = ["--state-file", str(tmp_path / "state.json"), "--speed", "10"]
    process, url = start(*flags)
    job_id = call(f"{url}/repave", {"serverId": "s"}, "k")["jobId"]
    process.kill()
    process.wait()
    process, url = start(*flags)
    assert call(f"{url}/repave", {"serverId": "s"}, "k")["jobId"] == job_id
    assert call(f"{url}/jobs/{job_id}?wait=10")["phase"] == "succeeded"
    process.send_signal(signal.SIGTERM)
    _, lines = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "repave of s: Repave completed successfully" in lines
    assert lines.rstrip().endswith("stopped")


def test_every_option_has_a_variable(tmp_path: Path) -> None:
    """The environment sets everything, and a flag wins over it."""
    environ = {
        "PORT": "8081",
        "DC_NAME": "dc-east",
        "HOST": "127.0.0.2",
        "REPAVE_DURATION": "2m",
        "REBOOT_DURATION": "500ms",
        "FAILURE_RATE": "0.25",
        "SEED": "7",
        "STATE_FILE": str(tmp_path / "s"),
        "TOKEN_FILE": str(tmp_path / "t"),
        "SPEED": "10",
        "ADMIN": "1",
    }
    settings = read_settings(["--dc-name", "dc-west"], environ)
    assert (settings.port, settings.dc_name, settings.host) == (8081, "dc-west", "127.0.0.2")
    assert (settings.repave_duration, settings.reboot_duration, settings.speed) == (120.0, 0.5, 10.0)
    assert (settings.faults.failure_rate, settings.faults.seed, settings.admin) == (0.25, 7, True)
    assert (settings.state_file, settings.token_file) == (tmp_path / "s", tmp_path / "t")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--port", "70000"], "--port"),
        (["--repave-duration", "soon"], "--repave-duration"),
        (["--failure-rate", "2"], "--failure-rate"),
        (["--speed", "0"], "--speed"),
        (["--tls-cert", "x"], "--tls-key"),
    ],
)
def test_a_wrong_flag_is_named(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that makes no sense ends the program with the flag's name."""
    with pytest.raises(SystemExit, match="2"):
        read_settings(flags, {})
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("TRUE", True), ("0", False), ("", False)])
def test_flag(text: str, expected: bool) -> None:
    """Yes has a few spellings; everything else is no."""
    assert flag(text) is expected


def test_a_taken_port_is_told(start: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A port in use, or a broken state file, ends the program with a sentence."""
    _, url = start()
    assert main(["--port", url.rsplit(":", 1)[1]]) == 1
    assert "Failed to serve on 127.0.0.1" in capsys.readouterr().err
    (tmp_path / "state").write_text("{")
    assert main(["--port", "0", "--state-file", str(tmp_path / "state")]) == 1
    assert "Failed to read state file" in capsys.readouterr().err
