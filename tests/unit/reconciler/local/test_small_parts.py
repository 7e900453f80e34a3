# SPDX-License-Identifier: Apache-2.0
"""The parts of the local control plane that need only a few lines of test: places, ports, locks, kubeconfig, progress.

Each is used for real; the clock is the real one, in tenths of a second.
"""

from __future__ import annotations

import base64
import io
import os
import socket
import threading
import time
from pathlib import Path

import pytest
import yaml

from stargate_reconciler.local import kubeconfig
from stargate_reconciler.local.locks import locked
from stargate_reconciler.local.places import ETCD_MIRROR, KUBE_MIRROR, Places
from stargate_reconciler.local.ports import free_ports, is_free
from stargate_reconciler.local.progress import Progress

HOME = Path("/home/me")


@pytest.mark.parametrize(
    ("environ", "state", "cache"),
    [
        ({}, HOME / ".local/state/stargate", HOME / ".cache/stargate"),
        ({"XDG_STATE_HOME": "/xdg"}, Path("/xdg/stargate"), HOME / ".cache/stargate"),
        ({"STARGATE_STATE_DIR": "/s", "STARGATE_CACHE_DIR": "/c", "XDG_STATE_HOME": "/xdg"}, Path("/s"), Path("/c")),
        (
            {"STARGATE_STATE_DIR": "", "STARGATE_CACHE_DIR": ""},
            HOME / ".local/state/stargate",
            HOME / ".cache/stargate",
        ),
    ],
)
def test_places(environ: dict[str, str], state: Path, cache: Path) -> None:
    """Variables say where things are; empty ones say nothing."""
    places = Places.read({"HOME": "/home/me", **environ})
    assert (places.state, places.cache, places.bin_dir) == (state, cache, None)
    assert (places.kube_mirror, places.etcd_mirror) == (KUBE_MIRROR, ETCD_MIRROR)


def test_places_that_are_given() -> None:
    """Mirrors lose a slash at their end, directories become absolute."""
    given = {"STARGATE_KUBE_MIRROR": "file:///m/", "STARGATE_ETCD_MIRROR": "http://e/", "STARGATE_KUBE_BIN_DIR": "bin"}
    places = Places.read({"HOME": "/home/me", "PATH": "/bin", **given})
    assert (places.kube_mirror, places.etcd_mirror, places.path) == ("file:///m", "http://e", "/bin")
    assert places.bin_dir == Path.cwd() / "bin"


def test_ports() -> None:
    """Ports that are handed out are different and free, and one that is listened on is not free."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(map(is_free, ports))
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])
    with socket.create_server(("0.0.0.0", ports[1])):
        assert not is_free(ports[1])


def test_port_with_ending_connections() -> None:
    """Connections that are being closed do not keep a server from coming back."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        taken, _ = server.accept()
        taken.close()  # this side waits now
        port = server.getsockname()[1]
        client.close()
    assert is_free(port)


def test_lock_is_waited_for(tmp_path: Path) -> None:
    """The second comes in when the first is out, and is told that it waits."""
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "here", waiting=lambda: order.append("waits")):
            order.append("second")

    with locked(tmp_path / "here"):
        thread = threading.Thread(target=second)
        thread.start()
        while not order:
            time.sleep(0.01)
        order.append("first")
    thread.join(5)
    assert order == ["waits", "first", "second"]
    assert list((tmp_path / "here").iterdir()) == []


def test_lock_of_a_directory_that_goes(tmp_path: Path) -> None:
    """When the holder removes the directory, who waited holds the new one."""
    here, held = tmp_path / "here", threading.Event()

    def second() -> None:
        with locked(here, waiting=waits.set):
            assert here.is_dir()
            held.set()

    waits = threading.Event()
    with locked(here):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(5)
        here.rmdir()
    assert held.wait(5)
    thread.join(5)


def test_kubeconfig(tmp_path: Path) -> None:
    """It holds all that a client needs, and only its owner reads it, even where an older one was open to all."""
    for name in ("ca.crt", "admin.crt", "admin.key"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    kubeconfig.write(path, url="https://127.0.0.1:1", pki=tmp_path, user="admin")
    content = yaml.safe_load(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(content["users"][0]["user"]["client-key-data"]) == b"admin.key"
    assert content["current-context"] == content["contexts"][0]["name"]


def test_quick_step_is_not_worth_a_line() -> None:
    """What is over at once is not shown; a note is."""
    stream = io.StringIO()
    progress = Progress(stream, prefix="me")
    with progress.step("working"):
        pass
    progress.note("result")
    assert stream.getvalue() == "me: result\n"


def test_slow_step_is_shown() -> None:
    """What takes longer is named again and again with its detail, and at its end."""
    stream = io.StringIO()
    with Progress(stream, patience=0.05, period=0.05).step("working") as step:
        step.detail = "half"
        time.sleep(0.3)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 3
    assert set(lines[:-1]) == {"working (half), 0 s …"}
    assert lines[-1] == "working (half), 0 s: done"


def test_failed_step_is_not_done() -> None:
    """A step that fails ends without saying that it is done."""
    stream = io.StringIO()
    progress = Progress(stream, patience=0.0, period=0.05)

    def fail() -> None:
        with progress.step("working"):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert "done" not in stream.getvalue()


def test_terminal_keeps_one_line() -> None:
    """On a terminal the line is written over and cleared at the end."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal, os.fdopen(master, "rb", 0) as seen:
        with Progress(terminal, patience=0.05).step("working"):
            time.sleep(0.2)
        text = ""
        while not text.endswith("\n"):
            text += seen.read(1000).decode()
    assert text.count("\r\x1b[K") >= 2
    assert text.endswith("working, 0 s: done\r\n")


def test_silent_progress() -> None:
    """Without a stream nothing is said."""
    progress = Progress(patience=0.0)
    progress.note("nothing")
    with progress.step("working"):
        time.sleep(0.02)
