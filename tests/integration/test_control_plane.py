# SPDX-License-Identifier: Apache-2.0
"""stargate-control-plane as people run it: real etcd, real kube-apiserver, real signals, nothing left behind.

One control plane is shared by the tests that only look; each of the others has its own state directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = str(Path(sys.executable).parent / "stargate-control-plane")


class Bench:
    """The program with a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the test with this state directory."""
        return os.environ | {"STARGATE_STATE_DIR": str(self.state)}

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end and expect an exit code."""
        done = subprocess.run(
            [PROGRAM, *words], env=self.environ, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, done.stderr
        return done

    def status(self) -> dict[str, Any]:
        """Return the status."""
        words = [PROGRAM, "status", "-o", "json"]
        done = subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False, timeout=30)
        return dict(json.loads(done.stdout))

    def leftovers(self) -> list[str]:
        """Return the command lines of processes that name the state directory."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"{self.state}/" in text:
                found.append(text)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench; whatever a failed test leaves running is stopped."""
    one = Bench(tmp_path / "state")
    yield one
    one.run("down")


def test_fixture_serves_a_real_api(control_plane: Any, namespace: str) -> None:
    """RBAC is on, the administrator may do everything, objects are stored."""
    control_plane.run("-n", namespace, "create", "configmap", "one", "--from-literal=a=b")
    assert control_plane.run("-n", namespace, "get", "configmap", "one", "-o", "jsonpath={.data.a}") == "b"
    assert control_plane.run("auth", "can-i", "delete", "nodes").strip() == "yes"
    with pytest.raises(urllib.error.HTTPError, match="403"):  # a stranger
        urllib.request.urlopen(f"{control_plane.server}/api/v1/secrets", context=ssl._create_unverified_context())  # noqa: S323 - the certificate is not what is tested


def test_crds_are_served(crds: Any, namespace: str) -> None:
    """The fixture's CRDs answer, and survive an API server that goes and comes."""
    crds.restart_apiserver()
    assert crds.run("-n", namespace, "get", "servers,operations,provisioningprofiles") == ""


def test_up_again_and_down(bench: Bench, control_plane: Any) -> None:
    """The kubeconfig is the last line, a second up and a run find it running, down leaves nothing."""
    first = bench.run("up")
    kubeconfig = first.stdout.splitlines()[-1]
    assert Path(kubeconfig).stat().st_mode & 0o777 == 0o600
    assert bench.status()["url"] != control_plane.server
    second = bench.run("up")
    assert second.stdout == first.stdout
    assert "runs already" in second.stderr
    assert "Stop it first" in bench.run("run", code=1).stderr
    assert bench.run("kubeconfig").stdout.strip() == kubeconfig
    assert "running" in bench.run("status").stdout
    bench.run("down")
    assert (bench.leftovers(), bench.state.exists()) == ([], False)
    bench.run("status", code=3)


def test_two_at_once(bench: Bench) -> None:
    """Two that start at the same time end with one control plane, and both tell its kubeconfig."""
    words = [PROGRAM, "up"]
    both = [subprocess.Popen(words, env=bench.environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len(bench.leftovers()) == 2


def test_taken_port(bench: Bench) -> None:
    """A port that somebody has is named, nothing is started and nothing left."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is taken" in bench.run("up", "--port", str(port), code=1).stderr
    assert not bench.state.exists()


def test_killed_apiserver_is_mended(bench: Bench, control_plane: Any) -> None:
    """After kill -9 of the API server the status tells it, and up brings it back with its data and address."""
    kubeconfig = bench.run("up").stdout.strip()
    before = bench.status()
    kubectl = [control_plane.kubectl, "--kubeconfig", kubeconfig]
    subprocess.run([*kubectl, "create", "namespace", "kept"], check=True, capture_output=True)
    os.kill(before["processes"]["kube-apiserver"], signal.SIGKILL)
    assert "kube-apiserver died" in bench.run("status", code=3).stdout
    bench.run("up")
    after = bench.status()
    assert (after["state"], after["url"]) == ("running", before["url"])
    assert after["processes"]["etcd"] == before["processes"]["etcd"]
    subprocess.run([*kubectl, "get", "namespace", "kept"], check=True, capture_output=True)


def test_wanted_port_and_kept_data(bench: Bench, control_plane: Any) -> None:
    """A free port is used, another is refused while it runs; after down --keep it comes back there with its data."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kubeconfig = bench.run("up", "--port", str(port)).stdout.strip()
    assert f"it runs on port {port}" in bench.run("up", "--port", str(port - 1), code=1).stderr
    kubectl = [control_plane.kubectl, "--kubeconfig", kubeconfig]
    subprocess.run([*kubectl, "create", "namespace", "kept"], check=True, capture_output=True)
    bench.run("down", "--keep")
    assert bench.leftovers() == []
    bench.run("up")
    assert bench.status()["url"] == f"https://127.0.0.1:{port}"
    subprocess.run([*kubectl, "get", "namespace", "kept"], check=True, capture_output=True)


@pytest.mark.parametrize(("signum", "ready"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_foreground_ends_with_a_signal(bench: Bench, signum: signal.Signals, ready: bool) -> None:
    """Ctrl-C or SIGTERM ends run, also in the middle of its start, with nothing left."""
    process = subprocess.Popen([PROGRAM, "run"], env=bench.environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if ready:
        assert process.stdout.readline().strip().endswith("kubeconfig")
    else:
        while not (bench.state / "control-plane" / "run" / "etcd.pid").exists():
            time.sleep(0.02)
    process.send_signal(signum)
    assert process.wait(30) == 0
    assert (bench.leftovers(), bench.state.exists()) == ([], False)
    process.stdout.close()


def test_killed_foreground_takes_all_along(bench: Bench) -> None:
    """Even kill -9 of run leaves no process."""
    process = subprocess.Popen([PROGRAM, "run"], env=bench.environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait(10)
    process.stdout.close()
    deadline = time.monotonic() + 5
    while bench.leftovers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert bench.leftovers() == []
    assert bench.status()["state"] == "stopped"


def test_no_programs_at_all(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be had one error says what was tried, and it comes soon."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("STARGATE_KUBE_BIN_DIR", raising=False)
    monkeypatch.setenv("STARGATE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("STARGATE_KUBE_MIRROR", "file:///nothing/here")
    monkeypatch.setenv("STARGATE_ETCD_MIRROR", "file:///nothing/here")
    started = time.monotonic()
    text = bench.run("up", code=1).stderr
    assert time.monotonic() - started < 10
    for reason in ("STARGATE_KUBE_BIN_DIR: not set", "No such file", "not Debian or Ubuntu", "set KUBECONFIG"):
        assert reason in text
