# SPDX-License-Identifier: Apache-2.0
"""Flags and environment to Settings, mistakes to sentences and exit codes.

The daemon itself is not started here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler import __version__, cli
from stargate_reconciler.cli import build_parser, endpoints, from_environment, settings_from
from stargate_reconciler.errors import UserError
from stargate_reconciler.settings import Settings, state_home

CONTROL_PLANE_KIND = {"mode": "kind", "kindContainer": "k"}


def settings(*flags: str) -> Settings:
    """Return the Settings of a command line."""
    return settings_from(build_parser().parse_args(flags))


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ([], "namespaces", ()),
        (["--namespace", "a", "--namespace", "b"], "namespaces", ("a", "b")),
        (["--provider", "qemu"], "providers", ("qemu",)),
        (["--kubeconfig", "k", "--context", "c"], "context", "c"),
        (["--no-leader-elect"], "leader_elect", False),
        (["--once"], "once", True),
        (["--dry-run"], "dry_run", True),
        (["--max-runs", "4"], "max_runs", 4),
        (["--forks", "0"], "forks", 0),
        (["--forks", "7"], "forks", 7),
        (["--operations-dir", "/x", "--operations-dir", "/y"], "operations_dirs", (Path("/x"), Path("/y"))),
        (["--kubernetes-version", "1.33"], "kubernetes_version", "1.33"),
        (["--control-plane-mode", "tailscale"], "control_plane", {"mode": "ssh"}),
        (["--kind-container", "k", "--control-plane-mode", "kind"], "control_plane", CONTROL_PLANE_KIND),
        (["--drain-seconds", "1.5"], "drain_seconds", 1.5),
        (["--default-deadline-seconds", "60"], "default_deadline", 60.0),
        (["--retry-seconds", "0.5"], "retry_base", 0.5),
        (["--max-unhealthy", "0.25"], "max_unhealthy", 0.25),
        (["--auto-repave-limit", "0"], "auto_repave_limit", 0),
        (["--auto-repave-pause-seconds", "9"], "auto_repave_pause", 9.0),
        (["--probe-seconds", "5"], "probe_seconds", 5.0),
        (["--metrics-bind-address", "0"], "metrics_address", "0"),
        (["--lease-seconds", "6"], "renew_deadline", 4.0),
        (["--lease-seconds", "6"], "renew_period", 0.8),
        (["--lease-seconds", "0.3"], "renew_period", 0.2),
    ],
)
def test_flags(flags: list[str], field: str, value: object) -> None:
    """Each flag sets its field, and a daemon that loses its Lease notices well before others may take it."""
    assert getattr(settings(*flags), field) == (pytest.approx(value) if isinstance(value, float) else value)


def test_defaults_are_those_of_settings() -> None:
    """Without flags the Settings are the defaults, but for what names this process."""
    found, usual = settings(), Settings()
    skipped = {"identity", "runs_dir", "namespaces"}
    assert {k: v for k, v in vars(found).items() if k not in skipped} == {
        k: v for k, v in vars(usual).items() if k not in skipped
    }
    assert found.identity != settings().identity
    assert found.runs_dir.is_absolute()


@pytest.mark.parametrize(
    "flags",
    [
        *(["--max-runs", "0"], ["--workers", "-1"], ["--forks", "-3"], ["--forks", "x"], ["--log-level", "loud"]),
        *(["--max-unhealthy", "1.1"], ["--max-unhealthy", "nan"], ["--auto-repave-limit", "-1"]),
        *(["--probe-seconds", "0"], ["--probe-seconds", "nan"], ["now"]),
    ],
)
def test_wrong_flags(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong flag is exit code 2 and names itself."""
    with pytest.raises(SystemExit) as caught:
        settings(*flags)
    assert caught.value.code == 2
    assert flags[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "flags"),
    [
        ({"HOME": "/x", "STARGATE_STATE_DIR": "/y", "STARGATE_CACHE_DIR": "/z"}, []),
        ({"STARGATE_MAX_RUNS": "4"}, ["--max-runs", "4"]),
        ({"STARGATE_NAMESPACE": "a, b"}, ["--namespace", "a", "--namespace", "b"]),
        ({"STARGATE_NAMESPACE": ""}, []),
        ({"STARGATE_VARS_FILES": "/a,b: /c:"}, ["--vars-file", "/a,b", "--vars-file", "/c"]),
        ({"STARGATE_PROVIDER": "qemu,"}, ["--provider", "qemu"]),
        ({"STARGATE_KUBECONFIG": " "}, []),
        ({"STARGATE_ONCE": "true"}, ["--once"]),
        ({"STARGATE_ONCE": "no"}, []),
        ({"STARGATE_DRY_RUN": "1"}, ["--dry-run"]),
        ({"STARGATE_LEADER_ELECT": "false"}, ["--no-leader-elect"]),
        ({"STARGATE_LEADER_ELECT": "on"}, ["--leader-elect"]),
        ({"STARGATE_LEADER_ELECT": ""}, []),
        (
            {"STARGATE_DC_API_URL": "a=http://x,b=http://y"},
            ["--dc-api-url", "a=http://x", "--dc-api-url", "b=http://y"],
        ),
    ],
)
def test_environment(environment: dict[str, str], flags: list[str]) -> None:
    """A variable stands for its flag; an empty one and those of other programs for nothing."""
    assert from_environment(environment) == flags


def test_every_flag_has_a_variable() -> None:
    """No flag is left out of the environment, and none is named there that does not exist."""
    ours = {action.option_strings[0] for action in build_parser()._actions} - {"-h", "--version", "--leader-elect"}
    assert ours == cli.SWITCHES | cli.REPEATABLE | cli.SINGLE


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--kubernetes-version", "latest"], "spec.kubernetesVersion is 'latest'"),
        (["--control-plane-endpoint", "a b:1"], "spec.controlPlane.endpoint is 'a b:1'"),
        (["--control-plane-ssh-host", "a b"], "spec.controlPlane.sshHost is 'a b'"),
    ],
)
def test_wrong_defaults_for_profiles(flags: list[str], words: str) -> None:
    """What a profile could not have cannot be a default for all of them either."""
    with pytest.raises(UserError, match="A flag is wrong") as caught:
        settings(*flags)
    assert words in str(caught.value)


def test_files_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of variables may have what only Ansible understands; its path is made absolute."""
    (tmp_path / "site.yml").write_text("a: !vault |\n  $ANSIBLE_VAULT;1.1\nb: !unsafe '{{ x }}'\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert settings("--vars-file", "site.yml").vars_files == (tmp_path / "site.yml",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("a: [", "line 1"),
        ("- a", "a list"),
        ("", "nothing"),
        ("\x00", "special characters"),
    ],
)
def test_wrong_files_of_variables(tmp_path: Path, text: str | None, words: str) -> None:
    """A file that is missing, malformed or no mapping is refused at the start, by name."""
    path = tmp_path / "site.yml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"site\.yml.*--vars-file") as caught:
        settings("--vars-file", str(path))
    assert words in str(caught.value)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """Return the path of a file."""
    path = tmp_path / "a=token"
    path.write_text("x")
    return str(path)


def test_endpoints(secret: str) -> None:
    """Datacenters are known by name, the one without a name is everybody's; a path may have an equals sign."""
    found = endpoints(["http://h:1/?a=b", "west=https://w/"], [f"west={secret}", secret], [f"west={secret}"])
    assert found == {
        "*": {"url": "http://h:1/?a=b", "token_file": secret},
        "west": {"url": "https://w", "token_file": secret, "ca_file": secret},
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((["ftp://x"], [], []), "--dc-api-url ftp://x"),
        ((["west=h:80"], [], []), "'h:80'"),
        ((["http://x"], ["west=/t"], []), "no --dc-api-url for 'west'"),
        ((["http://x"], ["/nowhere"], []), "/nowhere does not exist"),
        ((["http://x"], [], ["/nowhere"]), "--dc-api-ca-file"),
    ],
)
def test_wrong_endpoints(given: tuple[list[str], list[str], list[str]], words: str) -> None:
    """What is wrong with an endpoint is said with the flag and the value."""
    with pytest.raises(UserError, match="--dc-api") as caught:
        endpoints(*given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STARGATE_STATE_DIR": "/s"}, "/s"),
        ({"XDG_STATE_HOME": "/x"}, "/x/stargate"),
        ({"HOME": "/h"}, "/h/.local/state/stargate"),
    ],
)
def test_state_home(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    """What outlives a process goes where the user or the XDG standard says."""
    for name in ("STARGATE_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_home(os.environ) == Path(expected)


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (UserError("No cluster."), 2, "stargate-reconciler: No cluster."),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: Any, code: int, said: str
) -> None:
    """The daemon's code is passed on; a user's mistake is a sentence and 2."""

    class FakeDaemon:
        def __init__(self, chosen: Settings) -> None:
            self.chosen = chosen

        def run(self) -> int:
            assert self.chosen.max_runs == 3
            if isinstance(outcome, BaseException):
                raise outcome
            return int(outcome)

    monkeypatch.setattr(cli, "Daemon", FakeDaemon)
    monkeypatch.setattr(cli.logs, "configure", lambda *_: None)
    monkeypatch.setenv("STARGATE_MAX_RUNS", "9")
    assert cli.run(["--max-runs", "3"]) == code
    assert capsys.readouterr().err.strip() == said


THREADS_AT_WORK = """
import sys, threading
from stargate_reconciler import cli

def run(arguments):
    for _ in range(8):
        threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
    print("said", *arguments)
    return 3

cli.run = run
cli.main()
"""


def test_an_end_waits_for_no_thread() -> None:
    """The program ends with its code and all it has said, whatever its threads are at; none of them is torn down."""
    command = [sys.executable, "-c", THREADS_AT_WORK, "all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said all\n", "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the package's."""
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--version"])
    assert capsys.readouterr().out == f"stargate-reconciler {__version__}\n"
