# SPDX-License-Identifier: Apache-2.0
"""What the command line understands, refuses and answers while nothing runs.

What really starts something is in tests/integration/test_control_plane.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import cli
from stargate_reconciler.local.flags import Joinable, Settings
from stargate_reconciler.local.programs import EVERYTHING, NEEDED, WITH_CONTROLLERS, Request


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory that is not there yet."""
    monkeypatch.setenv("STARGATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STARGATE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("STARGATE_KUBE_BIN_DIR", raising=False)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return tmp_path / "state"


def test_arguments(tmp_path: Path, state: Path) -> None:
    """Every option reaches the call; a directory on the command line wins over the environment's."""
    command, call = cli.read(["up", "--port", "6443", "--with-controllers", "--kube-version", "v1.30.2"])
    assert (command, call.port, call.controllers, call.version) == (cli.up, 6443, True, "1.30.2")
    assert (call.places.state, call.programs) == (state, NEEDED)
    assert cli.read(["down", "--keep", "--state-dir", str(tmp_path)])[1].places.state == tmp_path
    assert cli.read(["down", "--keep"])[1].keep is True
    assert cli.read(["status", "-o", "json"])[1].output == "json"


def test_joinable() -> None:
    """How machines reach it is read, and the controllers come along."""
    call = cli.read(["up", "--joinable"])[1]
    assert call.joinable == Joinable()
    words = ["up", "--joinable", "--advertise", "10.1.1.1", "--bind", "0.0.0.0", "--san", "a", "--san", "b"]
    assert cli.read(words)[1].joinable == Joinable("10.1.1.1", "0.0.0.0", ("a", "b"))
    assert cli.read(["up"])[1].joinable is None


def test_joinable_as_before(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept control plane that machines joined comes back as one, with its controllers' programs."""
    asked: list[Request] = []
    monkeypatch.setattr(cli, "obtain", lambda request: asked.append(request) or {})
    (state / "control-plane").mkdir(parents=True)
    Settings(1, 2, 3, "1.30.0", joinable=Joinable("10.1.1.1")).save(state / "control-plane" / "settings.json")
    call = cli.read(["up"])[1].as_before()
    assert call.joinable == Joinable("10.1.1.1")
    call.obtain()
    assert set(asked[0].programs) == set(WITH_CONTROLLERS)


def test_stamp(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs are built with another patch version when that is asked for."""
    monkeypatch.setattr(
        cli, "obtain_stamped", lambda request, stamp: {p: tmp_path / stamp / p for p in request.programs}
    )
    assert cli.main(["binaries", "--stamp", "v1.20.3", "kubelet", "kubeadm"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/1.20.3\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], NEEDED),
        (["kubeadm", "kubelet"], ("kubeadm", "kubelet")),
        (["all"], EVERYTHING),
        (["--with-controllers"], WITH_CONTROLLERS),
    ],
)
def test_programs(monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: tuple[str, ...]) -> None:
    """Without names the programs are those that up needs."""
    asked: list[Request] = []
    monkeypatch.setattr(cli, "obtain", lambda request: asked.append(request) or {})
    cli.read(["binaries", *words])[1].obtain()
    assert sorted(asked[0].programs) == sorted(wanted)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["up", "--port", "70000"], "70000 is no port: use 1 to 65535"),
        (["up", "--port", "http"], "invalid _port value"),
        (["up", "--kube-version", "latest"], "latest is no version such as"),
        (["up", "--bind", "10.0.0.1"], "--bind says how machines join: use it with --joinable"),
        (["up", "--joinable", "--bind", "here"], "here is no IPv4 address"),
        (["up", "--joinable", "--advertise", "127.0.0.1"], "machines cannot reach 127.0.0.1: use an address"),
        (["binaries", "minikube"], "there is no program minikube; choose of etcd, kube-apiserver"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    """Wrong arguments end with code 2 and say what is right."""
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "up", "down", "status", "run", "binaries", "kubeconfig"])
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    assert "usage: stargate-control-plane" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (["status"], 3, "stopped\n"),
        (["kubeconfig"], 3, ""),
        (["down"], 0, ""),
    ],
)
def test_nothing_runs(capsys: pytest.CaptureFixture[str], state: Path, words: list[str], code: int, out: str) -> None:
    """Where nothing runs each command says so and makes no directory."""
    assert cli.main(words) == code
    assert capsys.readouterr().out == out
    assert not state.exists()


def test_status_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """The status is JSON when asked for."""
    assert cli.main(["status", "-o", "json"]) == 3
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


@pytest.mark.parametrize("words", [["up"], ["run"], ["binaries"]])
def test_no_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: Path, words: list[str]
) -> None:
    """Without programs the sentence about them is all, and nothing is left."""

    def nothing(_request: Request) -> dict[str, Path]:
        raise WorldError("Failed to obtain etcd. Tried in this order: …")

    monkeypatch.setattr(cli, "obtain", nothing)
    assert cli.main(words) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.endswith("stargate-control-plane: Failed to obtain etcd. Tried in this order: …\n")
    assert not state.exists()


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while programs are obtained ends with code 130 and without a trace."""

    def interrupted(_request: Request) -> dict[str, Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "obtain", interrupted)
    assert cli.main(["up"]) == 130
    assert capsys.readouterr().err == "stargate-control-plane: interrupted\n"


def test_state_directory_that_cannot_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file in the place of the directory is named, without a trace."""
    (tmp_path / "file").write_text("")
    assert cli.main(["down", "--state-dir", str(tmp_path / "file" / "below")]) == 1
    assert f"{tmp_path}/file/below" in capsys.readouterr().err
