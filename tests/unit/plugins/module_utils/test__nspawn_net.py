# SPDX-License-Identifier: Apache-2.0
"""Networks of nspawn machines: what is made, what is left alone, and how the connection with the host fails.

`ip` is a list of what was asked; slirp4netns is a small program that speaks as it does.
"""

from __future__ import annotations

import json
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _nspawn_net
from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, StargateError
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, save
from ansible_collections.stargate.core.plugins.module_utils._nspawn import layout, port_of
from ansible_collections.stargate.core.plugins.module_utils._process import alive, end

ROUTER = Definition("gw", "ns", "gw", "nspawn", "router", address="192.168.100.2", port=20001)
WORKER = Definition("w1", "ns", "gw", "nspawn", "worker", address="192.168.100.11", gateway="192.168.100.2")

SLIRP = """\
#!{python}
import json, os, pathlib, socket, sys
ready = int(next(word for word in sys.argv if word.startswith("--ready-fd")).partition("=")[2])
plan = json.loads(pathlib.Path("plan.json").read_text())
if plan["start"] == "no":
    sys.exit("no tun here")
server = socket.socket(socket.AF_UNIX)
server.bind("slirp.sock")
server.listen()
os.write(ready, b"1")
os.close(ready)
client = server.accept()[0]
pathlib.Path("asked.json").write_bytes(client.makefile("rb").read())
client.sendall(plan["answer"].encode())
client.close()
server.accept()
"""


class FakeHost:
    """Network namespaces with their interfaces, as `ip` would change them."""

    def __init__(self) -> None:
        """Begin without any."""
        self.namespaces: dict[str, set[str]] = {}
        self.asked: list[str] = []

    def run(self, argv: list[str], *, doing: str) -> str:
        """Do what a command would."""
        assert "w1" in doing or "gw" in doing
        command = " ".join(argv)
        if argv[1:2] == ["-json"]:
            return json.dumps([{"ifname": name} for name in self.namespaces[argv[3]]])
        self.asked.append(command)
        if argv[1:3] == ["netns", "add"]:
            self.namespaces[argv[3]] = {"lo"}
        if argv[1:3] == ["netns", "delete"]:
            del self.namespaces[argv[3]]
        if argv[3:5] == ["link", "add"]:
            self.namespaces[argv[2]].add(argv[5])
        if argv[3:5] == ["link", "delete"]:
            self.namespaces[argv[2]].discard(argv[5])
        return ""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return a directory in which a router and a worker are defined."""
    places = Places(tmp_path / "machines")
    for definition in (ROUTER, WORKER):
        save(places, definition)
    return places


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """Return a host without network namespaces, on which routers need no connection."""
    fake = FakeHost()
    monkeypatch.setattr(_nspawn_net, "run", fake.run)
    monkeypatch.setattr(_nspawn_net, "exists", fake.namespaces.__contains__)
    monkeypatch.setattr(_nspawn_net, "connect", lambda *_: fake.asked.append("connect"))
    return fake


def labels(places: Places) -> tuple[str, str]:
    """Return the namespaces of the router and of the worker."""
    return layout(places, "ns", "gw").label, layout(places, "ns", "w1").label


@pytest.mark.parametrize("order", [(ROUTER, WORKER), (WORKER, ROUTER)])
def test_a_site_in_any_order(places: Places, host: FakeHost, order: tuple[Definition, ...]) -> None:
    """Whoever comes first makes the bridge; in the end the worker is plugged in and the router connected."""
    for definition in order:
        _nspawn_net.up(places, definition)
    router, worker = labels(places)
    assert host.namespaces == {router: {"lo", "lan", port_of(worker)}, worker: {"lo"}}
    assert host.asked.count(f"ip -n {router} link add lan type bridge") == 1
    assert host.asked.count("connect") == 1


def test_a_worker_starts_again(places: Places, host: FakeHost) -> None:
    """What an earlier run left of its plug and namespace is taken away first."""
    _nspawn_net.up(places, WORKER)
    router, worker = labels(places)
    host.asked.clear()
    _nspawn_net.up(places, WORKER)
    assert host.asked.index(f"ip -n {router} link delete {port_of(worker)}") < host.asked.index(
        f"ip netns add {worker}"
    )
    assert f"ip netns delete {worker}" in host.asked


def test_a_router_that_is_connected(places: Places, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that stands is left alone."""
    monkeypatch.setattr(_nspawn_net, "alive", lambda _: 42)
    _nspawn_net.up(places, ROUTER)
    assert "connect" not in host.asked


@pytest.mark.parametrize("order", [(ROUTER, WORKER), (WORKER, ROUTER)])
def test_the_last_one_takes_the_bridge(places: Places, host: FakeHost, order: tuple[Definition, ...]) -> None:
    """The bridge stays as long as a machine of the site does, and one that is being removed does not count."""
    for definition in order:
        _nspawn_net.up(places, definition)
    first, second = order
    _nspawn_net.down(places, first)
    assert labels(places)[0] in host.namespaces
    _nspawn_net.down(places, second)
    assert host.namespaces == {}
    assert not list((places.machines_dir / "ns").glob("*.lock"))


def test_nothing_to_take_away(tmp_path: Path, host: FakeHost) -> None:
    """A machine that never was has no network."""
    _nspawn_net.down(Places(tmp_path), WORKER)
    assert host.asked == []


def test_which_namespaces_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace is a file of another file system; a file that a boot has left behind is taken away."""
    monkeypatch.setattr(_nspawn_net, "NAMESPACES", tmp_path)
    (tmp_path / "stale").touch()
    assert (_nspawn_net.exists("stale"), _nspawn_net.exists("none")) == (False, False)
    assert not (tmp_path / "stale").exists()
    monkeypatch.setattr(_nspawn_net, "NAMESPACES", Path("/"))
    assert _nspawn_net.exists("proc") is True


@pytest.fixture
def directory(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a router's directory; a program on the PATH takes slirp4netns' place."""
    program = tmp_path / "bin" / "slirp4netns"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(SLIRP).format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(_nspawn_net, "SYSTEMD", tmp_path / "none")
    parts = layout(places, "ns", "gw")
    yield parts.directory
    end(parts.slirp)


def connect(places: Places, directory: Path, *, start: str = "yes", answer: str = '{"return": {"id": 1}}') -> int:
    """Connect a router with a slirp4netns that acts so; return its process."""
    (directory / "plan.json").write_text(json.dumps({"start": start, "answer": answer}))
    parts = layout(places, "ns", "gw")
    try:
        _nspawn_net.connect(ROUTER, parts)
    finally:
        pid = alive(parts.slirp)
    return pid


def test_a_router_is_connected(places: Places, directory: Path) -> None:
    """slirp4netns runs, was asked for the port, and can be found again."""
    assert connect(places, directory) > 0
    assert json.loads((directory / "asked.json").read_text())["arguments"]["host_port"] == 20001


@pytest.mark.parametrize(
    ("start", "answer", "details"),
    [("no", "", "no tun here"), ("yes", '{"error": {"desc": "bad"}}', "bad"), ("yes", "nonsense", "")],
)
def test_a_connection_that_fails(places: Places, directory: Path, start: str, answer: str, details: str) -> None:
    """When slirp4netns does not start or refuses, that is said and it is ended."""
    with pytest.raises(StargateError, match="Failed to connect router ns/gw with the host") as caught:
        connect(places, directory, start=start, answer=answer)
    assert caught.value.code == "StartFailed"
    assert details in caught.value.details
    assert alive(layout(places, "ns", "gw").slirp) == 0


def test_a_port_that_is_taken(places: Places, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port on which somebody else listens is named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(_nspawn_net, "is_port_free", lambda _: bool(server.fileno() < 0))
        with pytest.raises(Conflict, match=r"127\.0\.0\.1:20001") as caught:
            connect(places, directory, answer='{"error": {"desc": "bad request"}}')
    assert (caught.value.code, caught.value.retryable) == ("PortTaken", True)


def test_with_systemd_on_the_host(
    places: Places, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There slirp4netns gets a scope of its own, so that it outlives the session."""
    scoped = tmp_path / "bin" / "systemd-run"
    scoped.write_text('#!/bin/sh\necho "$*" > scope; while [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    scoped.chmod(0o755)
    monkeypatch.setattr(_nspawn_net, "SYSTEMD", tmp_path)
    assert connect(places, directory) > 0
    assert f"--unit={layout(places, 'ns', 'gw').label}-wan" in (directory / "scope").read_text()
