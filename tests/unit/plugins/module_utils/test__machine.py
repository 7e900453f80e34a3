# SPDX-License-Identifier: Apache-2.0
"""Machines on disk: their directory, definition, locks, and the file of leases.

What is leased is test__lease.py's.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _machine
from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._lease import Wanted
from ansible_collections.stargate.core.plugins.module_utils._machine import (
    Definition,
    Places,
    disk_error,
    foretold,
    is_port_free,
    leased,
    load,
    make_directory,
    released,
    save,
    write,
)

ROUTER = Definition("gw", "ns", "gw", "nspawn", "router", public_key="ssh-ed25519 AAAA", dns=["10.0.2.3"])
WORKER = Definition("w1", "ns", "gw", "nspawn", "worker")
WANTED = Wanted("ns", "gw", "gw", "router", "user", "192.168.100.0/24")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return a directory of machines that is not there yet."""
    return Places(tmp_path / "machines")


@pytest.mark.parametrize(
    ("option", "environment", "euid", "expected"),
    [
        ("/a", {"STARGATE_MACHINES_DIR": "/b"}, 0, "/a"),
        ("~/a", {"HOME": "/home/ann"}, 1000, "/home/ann/a"),
        (None, {"STARGATE_MACHINES_DIR": "/b"}, 0, "/b"),
        (None, {}, 0, "/var/lib/stargate/vms"),
        (None, {"XDG_STATE_HOME": "/s"}, 1000, "/s/stargate/vms"),
        (None, {"HOME": "/home/ann"}, 1000, "/home/ann/.local/state/stargate/vms"),
    ],
)
def test_where_machines_are(
    monkeypatch: pytest.MonkeyPatch, option: str | None, environment: dict[str, str], euid: int, expected: str
) -> None:
    """The option is asked first, then the environment, then who one is."""
    for name in ("STARGATE_MACHINES_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert Places.chosen(option).machines_dir == Path(expected)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a.site", "-a", "a" * 64])
def test_names_that_cannot_be(places: Places, name: str) -> None:
    """A name that is no label of a host name never becomes a path."""
    for namespace, machine in (("ns", name), (name, "gw")):
        with pytest.raises(Invalid) as caught:
            places.directory(namespace, machine)
        assert caught.value.code == "NameInvalid"


def test_a_definition_is_kept(places: Places) -> None:
    """What is saved is loaded, by its owner only; what nobody saved is None."""
    assert load(places, "ns", "gw") is None
    save(places, ROUTER)
    assert load(places, "ns", "gw") == ROUTER
    assert ROUTER.key == "ns/gw"
    directory = places.directory("ns", "gw")
    modes = [path.stat().st_mode & 0o777 for path in (directory / "machine.json", directory, places.machines_dir)]
    assert modes == [0o600, 0o700, 0o700]
    assert places.site("ns", "gw") == directory.with_name("gw.site")


def test_machines_are_listed(places: Places) -> None:
    """All, or those of a namespace or site, with routers first."""
    other = Definition("a", "other", "b", "qemu", "worker")
    for definition in (WORKER, ROUTER, other):
        save(places, definition)
    assert places.machines() == [ROUTER, WORKER, other]
    assert places.machines("ns", "gw") == [ROUTER, WORKER]
    assert places.machines("other", "gw") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "gw"}'])
def test_broken_definitions(places: Places, text: str) -> None:
    """A definition that cannot be read is said to be broken."""
    write(places.directory("ns", "gw") / "machine.json", text)
    with pytest.raises(Invalid, match=r"machine\.json") as caught:
        load(places, "ns", "gw")
    assert caught.value.code == "DefinitionBroken"


def test_definitions_of_other_releases(places: Places) -> None:
    """Fields that are not known are passed over, and missing ones have their defaults."""
    least = {"name": "gw", "namespace": "ns", "site": "gw", "provider": "qemu", "role": "router", "new": 1}
    write(places.directory("ns", "gw") / "machine.json", json.dumps(least))
    assert load(places, "ns", "gw") == Definition("gw", "ns", "gw", "qemu", "router")


def test_an_unreadable_definition(places: Places) -> None:
    """What the file system says is passed on."""
    (places.directory("ns", "gw") / "machine.json").mkdir(parents=True)
    with pytest.raises(StargateError, match="Is a directory") as caught:
        load(places, "ns", "gw")
    assert caught.value.code == "DiskError"


def test_leases_are_written(places: Places) -> None:
    """What is leased stays leased until it is given back; foretelling leaves no trace."""
    told = foretold(places, WANTED)
    assert (places.machines_dir.exists(), released(places, "ns", "gw")) == (False, False)
    assert leased(places, WANTED) == told == leased(places, WANTED)
    assert set(places.peek()) == {"ns/gw"}
    assert (released(places, "ns", "gw"), released(places, "ns", "gw")) == (True, False)
    assert places.peek() == {}


def test_ports_are_tried() -> None:
    """A port is free when it can be listened on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_port_free(port) is False
    assert is_port_free(port) is True


def test_a_lock_keeps_others_out(places: Places) -> None:
    """Who comes second waits, at most as long as he has patience."""
    order: list[str] = []

    def second() -> None:
        with places.lock("ns", "gw"):
            order.append("second")

    thread = threading.Thread(target=second)
    with places.lock("ns", "gw"):
        thread.start()
        with pytest.raises(Conflict, match="ns/gw") as caught, places.lock("ns", "gw", patience=0.01):
            order.append("never")
        order.append("first")
    thread.join()
    assert (order, caught.value.code) == (["first", "second"], "Locked")


def test_a_lock_leaves_nothing(places: Places) -> None:
    """With the machine's directory its lock and namespace go; with a machine there they stay."""
    with places.lock("ns", "gw"):
        pass
    assert not (places.machines_dir / "ns").exists()
    with places.lock("ns", "gw"):
        save(places, ROUTER)
    assert (places.machines_dir / "ns" / ".gw.lock").exists()


def test_locks_under_contention(places: Places) -> None:
    """Nobody holds a lock whose file somebody else has taken away."""
    inside, seen = [0], []

    def work() -> None:
        for _ in range(20):
            with places.lock("ns", "gw"):
                inside[0] += 1
                seen.append(inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 80


def test_a_directory_that_goes_away(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock whose directory is removed in between is tried again; other errors are said."""
    tries, real = [], os.open

    def vanish(path: Path, *args: int) -> int:
        tries.append(path)
        if len(tries) == 1:
            raise FileNotFoundError
        return real(path, *args)

    monkeypatch.setattr(_machine.os, "open", vanish)
    with places.lock("ns", "gw"):
        assert len(tries) == 2
    monkeypatch.setattr(_machine.os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(StargateError, match="Failed to lock machine ns/gw: no") as caught, places.lock("ns", "gw"):
        pass
    assert caught.value.code == "Denied"


def test_a_write_that_fails(tmp_path: Path) -> None:
    """The old text stays and no draft is left; a directory that cannot be made is said."""
    (tmp_path / "file").mkdir()
    with pytest.raises(StargateError, match="Failed to write"):
        write(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "plain").write_text("")
    with pytest.raises(StargateError, match="Failed to make directory"):
        make_directory(tmp_path / "plain" / "below")


COMES_AND_GOES = """import os, sys
while True:
    for act in (os.mkdir, os.rmdir):
        try:
            act(sys.argv[1])
        except OSError:
            pass
"""


def test_a_directory_that_comes_and_goes(tmp_path: Path) -> None:
    """Whoever makes a directory does not mind that another makes the same one and takes it away again."""
    directory = tmp_path / "above" / "d"
    make_directory(directory)
    with subprocess.Popen([sys.executable, "-c", COMES_AND_GOES, str(directory)]) as other:
        try:
            for _ in range(20_000):
                make_directory(directory)
        finally:
            other.kill()


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [(errno.ENOSPC, "DiskFull", True), (errno.EACCES, "Denied", False), (errno.EIO, "DiskError", False)],
)
def test_disk_errors(number: int, code: str, retryable: bool) -> None:
    """A full disk may be over later; what is forbidden stays so."""
    error = disk_error(OSError(number, os.strerror(number)), "write x")
    assert (error.code, error.retryable) == (code, retryable)
    assert error.message.startswith("Failed to write x: ")
