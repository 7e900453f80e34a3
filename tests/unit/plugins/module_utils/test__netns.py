# SPDX-License-Identifier: Apache-2.0
"""Acts inside a network namespace that the test makes, and SSH banners over loopback.

Bridges in namespaces are test__bridge_host.py's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound
from ansible_collections.stargate.core.plugins.module_utils._netns import forward, inside, is_forwarding, ssh_banner

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def netns() -> Iterator[str]:
    """Return a namespace of the test's own, with its loopback up."""
    name = f"stargate-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=20)
    subprocess.run(["ip", "-netns", name, "link", "set", "lo", "up"], check=True, timeout=20)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=20)


@pytest.fixture
def listen() -> Iterator[Callable[..., int]]:
    """Return what listens on a port of 127.0.0.1, says some words to whoever connects, and gives the port."""
    listeners: list[socket.socket] = []

    def begin(words: bytes, netns: str = "") -> int:
        listener = inside(netns, lambda: socket.create_server(("127.0.0.1", 0)))
        listeners.append(listener)

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.sendall(words)
                connection.recv(1)

        threading.Thread(target=answer, daemon=True).start()
        return int(listener.getsockname()[1])

    yield begin
    for listener in listeners:
        listener.close()


def test_banners(listen: Callable[..., int]) -> None:
    """An SSH server is known by its first line; silence, other words and nobody are all not one."""
    assert ssh_banner("127.0.0.1", listen(b"SSH-2.0-Test\r\n")) == "SSH-2.0-Test"
    assert ssh_banner("127.0.0.1", listen(b"HTTP/1.1 400\r\n")) == ""
    assert ssh_banner("127.0.0.1", listen(b""), timeout=0.2) == ""
    assert ssh_banner("127.0.0.1", 9, timeout=0.2) == ""


@needs_root
def test_a_banner_in_a_namespace(netns: str, listen: Callable[..., int]) -> None:
    """What listens in a namespace answers there, and not outside."""
    port = listen(b"SSH-2.0-Inside\r\n", netns)
    assert ssh_banner("127.0.0.1", port, timeout=0.2) == ""
    assert ssh_banner("127.0.0.1", port, netns=netns) == "SSH-2.0-Inside"


@needs_root
def test_we_stay_where_we_are(netns: str) -> None:
    """Only the act is inside; errors come out as they are."""
    here = Path("/proc/self/ns/net").readlink()
    assert inside(netns, Path("/proc/thread-self/ns/net").readlink) != here
    assert Path("/proc/thread-self/ns/net").readlink() == here

    def fail() -> None:
        raise Invalid("no")

    with pytest.raises(Invalid):
        inside(netns, fail)


@needs_root
def test_forwarding(netns: str) -> None:
    """Forwarding is switched on in the namespace alone."""
    here = is_forwarding("")
    forward(netns)
    assert (is_forwarding(netns), is_forwarding("")) == (True, here)


def test_a_namespace_that_is_not_there() -> None:
    """The sentence names it."""
    with pytest.raises(NotFound, match="stargate-none"):
        inside("stargate-none", lambda: None)


@needs_root
def test_something_else_of_its_name(tmp_path: Path) -> None:
    """A file that is no namespace is an error of the system."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        inside(str(tmp_path / "file"), lambda: None)
