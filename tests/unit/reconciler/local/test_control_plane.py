# SPDX-License-Identifier: Apache-2.0
"""A control plane whose programs misbehave: end at once, find their port taken, never get ready.

The programs are shell scripts; real ones are in tests/integration/test_control_plane.py.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local import certificates, control_plane
from stargate_reconciler.local.api import Api
from stargate_reconciler.local.control_plane import ControlPlane, version_of
from stargate_reconciler.local.flags import CONTROLLERS, Joinable

VERSION = '[ "$1" = --version ] && echo Kubernetes v1.30.0 && exit\n'
LIVES = "sleep 60 & wait"


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def programs(directory: Path, *, etcd: str = LIVES, apiserver: str = LIVES) -> dict[str, Path]:
    """Return programs that do what the texts say."""
    return {
        "etcd": script(directory / "etcd", etcd),
        "kube-apiserver": script(directory / "kube-apiserver", VERSION + apiserver),
    }


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    """A control plane that does not exist yet."""
    return ControlPlane(tmp_path / "state" / "control-plane")


def test_nothing_there(plane: ControlPlane) -> None:
    """What was never started is stopped, and stopping it is no error."""
    assert plane.status().state == "stopped"
    assert plane.stop() is False
    with pytest.raises(UserError, match="there is no control plane in"):
        plane.start_process("etcd")


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver"])
def test_program_that_ends_at_once(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    """The last lines of the log are in the error, and nothing is left: no process, no file."""
    text = "echo the reason >&2; exit 1"
    broken = programs(tmp_path, etcd=text) if name == "etcd" else programs(tmp_path, apiserver=text)
    with pytest.raises(WorldError, match=f"(?s)Failed to start {name}: it ended at once.*the reason"):
        plane.start(broken)
    assert not plane.directory.exists()


def test_port_taken_in_between(plane: ControlPlane, tmp_path: Path) -> None:
    """Ports that others took in the meantime are replaced by new ones, three times."""
    log = tmp_path / "starts"
    taken = f"echo $* >> {log}; echo 'bind: address already in use' >&2; exit 1"
    with pytest.raises(WorldError, match="address already in use"):
        plane.start(programs(tmp_path, etcd=taken))
    starts = log.read_text().splitlines()
    assert len(set(starts)) == 3


def test_given_port_is_taken(plane: ControlPlane, tmp_path: Path) -> None:
    """A port that was asked for and is taken is named before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is taken. Choose another --port"):
            plane.start(programs(tmp_path), port=port)
    assert not plane.directory.exists()


def test_never_ready(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that does not get ready is given up, and stopped with its etcd."""
    monkeypatch.setattr(ControlPlane.wait_ready, "__kwdefaults__", {"seconds": 0.2})
    with pytest.raises(WorldError, match=r"not ready after 0 s. The last lines of .*kube-apiserver.log:\nthinking"):
        plane.start(programs(tmp_path, apiserver=f"echo thinking; {LIVES}"))
    assert not plane.directory.exists()


def test_interrupted_start(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting stops what was started."""
    seen: list[int | None] = []

    def interrupted(self: ControlPlane) -> None:
        seen.extend(self.process(name).pid for name in ("etcd", "kube-apiserver"))
        raise KeyboardInterrupt

    monkeypatch.setattr(ControlPlane, "wait_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plane.start(programs(tmp_path))
    assert all(seen)
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)
    assert not plane.directory.exists()


def test_half_dead(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one process gone it is degraded, with a live one that does not answer too."""
    monkeypatch.setattr(ControlPlane, "wait_ready", lambda _self: None)
    plane.start(programs(tmp_path))
    try:
        assert plane.status().state == "degraded"
        assert "/readyz says: [Errno 111] Connection refused" in plane.status().message
        plane.process("etcd").kill()
        assert plane.status().message == "etcd died"
        plane.process("kube-apiserver").kill()
        assert plane.status().state == "stopped"
    finally:
        plane.stop()


@pytest.mark.parametrize(
    ("text", "wanted"), [("echo Kubernetes v1.20.2", "1.20.2"), ("echo Kubernetes v1.34.1-dirty", "1.34.1")]
)
def test_version(tmp_path: Path, text: str, wanted: str) -> None:
    """A program tells its version."""
    assert version_of(script(tmp_path / "program", text)) == wanted


@pytest.mark.parametrize(("name", "words"), [("kubeadm", "version --output=short"), ("kubectl", "version --client")])
def test_version_of_programs_with_commands(tmp_path: Path, name: str, words: str) -> None:
    """Each is asked as it wants to be asked."""
    program = script(tmp_path / name, f'[ "$*" = "{words}" ] && echo v1.20.2')
    assert version_of(program) == "1.20.2"


@pytest.mark.parametrize("text", ["exit 1", "echo hello"])
def test_no_version(tmp_path: Path, text: str) -> None:
    """A program that tells none is named."""
    with pytest.raises(WorldError, match=f"Failed to read the version of {tmp_path}/program"):
        version_of(script(tmp_path / "program", text))
    with pytest.raises(WorldError, match=r"Failed to run .*/missing"):
        version_of(tmp_path / "missing")


def test_later_start_has_the_same_port(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was stopped and keeps its data comes back where its clients expect it."""
    monkeypatch.setattr(control_plane.ControlPlane, "wait_ready", lambda _self: None)
    ports = []
    for _ in range(2):
        plane.start(programs(tmp_path))
        settings = plane.settings
        assert settings is not None
        ports.append(settings.port)
        assert plane.stop() is True
    assert ports[0] == ports[1]


def with_controllers(directory: Path) -> dict[str, Path]:
    """Return all programs, each of which only lives."""
    return programs(directory) | {name: script(directory / name, LIVES) for name in CONTROLLERS}


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of applied objects, by an API that is ready at once."""
    names: list[str] = []
    monkeypatch.setattr(Api, "get", lambda *_: (200, "ok"))
    monkeypatch.setattr(Api, "apply", lambda _self, manifest: names.append(manifest["metadata"]["name"]))
    return names


def test_joinable_later(plane: ControlPlane, tmp_path: Path, applied: list[str]) -> None:
    """A running control plane becomes joinable: another API server with another certificate, the same etcd."""
    plane.start(programs(tmp_path))
    before = plane.status()
    try:
        assert applied == []
        assert plane.start(with_controllers(tmp_path), joinable=Joinable(sans=("api.test",))) is True
        after = plane.status()
        assert (after.endpoint, after.url, after.controllers) == (f"10.0.2.2:{after.url[-5:]}", before.url, True)
        assert before.processes["etcd"] == after.processes["etcd"]
        assert before.processes["kube-apiserver"] != after.processes["kube-apiserver"]
        assert {"cluster-info", "kubeadm-config", "kubeadm:get-nodes"} <= set(applied)
        assert {"10.0.2.2", "api.test"} <= certificates.served(plane.directory / "pki" / "apiserver.crt")
    finally:
        plane.stop()


@pytest.mark.usefixtures("applied")
def test_joinable_stays_so(plane: ControlPlane, tmp_path: Path) -> None:
    """Asked again it only runs, asked for another address it refuses, and after a stop it is joinable again."""
    joinable = Joinable("10.1.1.1")
    plane.start(with_controllers(tmp_path), joinable=joinable)
    try:
        assert plane.start(with_controllers(tmp_path), joinable=joinable) is False
        assert plane.start(with_controllers(tmp_path)) is False
        with pytest.raises(
            UserError, match=r"reach it at 10.0.2.2: it runs for others, at 10.1.1.1:\d+. Stop it first"
        ):
            plane.start(with_controllers(tmp_path), joinable=Joinable())
        plane.stop()
        with pytest.raises(UserError, match="Failed to start kube-controller-manager: where its program is"):
            plane.start(programs(tmp_path))
        assert plane.status().state == "stopped"
        assert plane.start(with_controllers(tmp_path)) is True
        assert plane.status().endpoint.startswith("10.1.1.1:")
    finally:
        plane.stop()
