# SPDX-License-Identifier: Apache-2.0
"""The control socket, against a real QEMU without a guest: its process is found, and it does what it is told.

Whose business that is belongs to test__qemu_host.py.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _qmp
from ansible_collections.stargate.core.plugins.module_utils._errors import Unreachable
from ansible_collections.stargate.core.plugins.module_utils._qmp import execute, peer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory whose path is longer than a socket's may be."""
    place = tmp_path / ("d" * 120)
    place.mkdir()
    return place


@pytest.fixture
def qemu(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Return a QEMU that waits, with its control socket in the directory."""
    control = ["-chardev", "socket,id=control,path=qmp.sock,server=on,wait=off", "-mon", "chardev=control,mode=control"]
    command = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-machine", "pc", "-m", "16", *control]
    process = subprocess.Popen(command, cwd=directory)
    until = time.monotonic() + 20
    while not peer(directory) and time.monotonic() < until:
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait(10)


def test_the_process_behind_a_socket(qemu: subprocess.Popen[bytes], directory: Path) -> None:
    """The process is found without its being asked, and is no more when it has ended."""
    assert peer(directory) == qemu.pid
    execute(directory, "quit")
    assert qemu.wait(10) == 0
    assert peer(directory) == 0
    with pytest.raises(Unreachable):
        execute(directory, "quit")


def test_events_come_between(qemu: subprocess.Popen[bytes], directory: Path) -> None:
    """What QEMU tells without being asked is passed over."""
    for command in ("cont", "stop", "system_reset", "cont"):
        execute(directory, command)
    assert qemu.poll() is None


def test_a_command_that_is_refused(qemu: subprocess.Popen[bytes], directory: Path) -> None:
    """What QEMU has against a command is in the error."""
    with pytest.raises(Unreachable, match="no-such-command"):
        execute(directory, "no-such-command")


def test_many_at_once(qemu: subprocess.Popen[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is sent away while others are in line tries again, and gives up in time."""
    others = []
    monkeypatch.setattr(_qmp, "_SECONDS", 0.1)
    with contextlib.suppress(BlockingIOError):
        others.extend(_qmp._connected(directory) for _ in range(8))
    assert peer(directory) == 0
    for other in others:
        other.close()
    monkeypatch.setattr(_qmp, "_SECONDS", 10.0)
    assert peer(directory) == qemu.pid


def test_somebody_else_behind_a_socket(tmp_path: Path) -> None:
    """Another program that listens there is not taken for QEMU, and one that hangs up is an error."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "qmp.sock"))
    listener.listen(2)
    assert peer(tmp_path) == 0

    def hang_up() -> None:
        for _ in "12":
            listener.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(Unreachable, match=str(tmp_path)):
        execute(tmp_path, "quit")
    thread.join(5)
    listener.close()
