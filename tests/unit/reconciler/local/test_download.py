# SPDX-License-Identifier: Apache-2.0
"""Downloads: digests, cuts, ranges, silence.

Against a server on loopback and file addresses.
"""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path

import pytest
from tests.unit.reconciler.local.server import FileServer

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import download
from stargate_reconciler.local.progress import Step

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(server: FileServer) -> str:
    """Where the content is."""
    server.files["/program"] = CONTENT
    return f"{server.url}/program"


def names(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def test_good_digest(url: str, tmp_path: Path) -> None:
    """A file with the right digest is there, alone, and the step tells how much of it was loaded."""
    step = Step("loading")
    download.file(url, tmp_path / "program", sha256=DIGEST, step=step)
    assert (tmp_path / "program").read_bytes() == CONTENT
    assert names(tmp_path) == ["program"]
    assert step.detail == "1 of 1 MB"


def test_wrong_digest(url: str, tmp_path: Path) -> None:
    """A file with another digest is refused, and nothing of it stays."""
    with pytest.raises(WorldError, match=f"SHA-256 {DIGEST}, published is 0000.*refused"):
        download.file(url, tmp_path / "program", sha256="0" * 64)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("knows_ranges", "second"), [(True, "bytes=5000-"), (False, "bytes=5000-")])
def test_cut_transfer_goes_on(server: FileServer, url: str, tmp_path: Path, knows_ranges: bool, second: str) -> None:
    """After a cut the rest is asked for, and a server that sends everything again is understood."""
    server.cut_after, server.cuts, server.knows_ranges = 5000, 1, knows_ranges
    download.file(url, tmp_path / "program", sha256=DIGEST)
    assert (tmp_path / "program").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, second]


def test_transfer_that_is_always_cut(server: FileServer, url: str, tmp_path: Path) -> None:
    """After five cuts it fails, keeps what it has, and the next call goes on from there."""
    server.cut_after, server.cuts = 1000, 5
    with pytest.raises(WorldError, match="was cut after 5000 of 1024000 bytes"):
        download.file(url, tmp_path / "program", sha256=DIGEST)
    assert (tmp_path / ".program.part").stat().st_size == 5000
    download.file(url, tmp_path / "program", sha256=DIGEST)
    assert server.requests[-1] == ("/program", "bytes=5000-")
    assert names(tmp_path) == ["program"]


def test_complete_part_is_not_loaded_again(server: FileServer, url: str, tmp_path: Path) -> None:
    """A part that is already the whole file needs no request."""
    (tmp_path / ".program.part").write_bytes(CONTENT)
    download.file(url, tmp_path / "program", sha256=DIGEST)
    assert server.requests == []


def test_file_address(tmp_path: Path) -> None:
    """A file address works like the others."""
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / ".target.part").write_bytes(b"older")
    download.file((tmp_path / "source").as_uri(), tmp_path / "target", sha256=DIGEST)
    assert (tmp_path / "target").read_bytes() == CONTENT


def test_text(server: FileServer) -> None:
    """A text comes as text."""
    server.files["/sums"] = b"abc\n"
    assert download.text(f"{server.url}/sums") == "abc\n"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("{server}/nothing", r"/nothing answers 404 Not Found"),
        ("file:///nothing/here", r"cannot be reached: .*No such file"),
        ("http://nothing.invalid/x", r"http://nothing.invalid/x cannot be reached"),
        ("ftp://127.0.0.1/x", r"is no address that begins with https://"),
        ("/etc/passwd", r"is no address"),
    ],
)
def test_unreachable(server: FileServer, address: str, reason: str) -> None:
    """Whatever cannot be had is an error that names the address and the cause."""
    with pytest.raises(WorldError, match=reason):
        download.text(address.format(server=server.url))


def test_refused_connection(tmp_path: Path) -> None:
    """A host that refuses is given up at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(WorldError, match="Connection refused"):
            download.file(f"http://127.0.0.1:{unused.getsockname()[1]}/x", tmp_path / "x", sha256=DIGEST)
    assert names(tmp_path) == []


def test_silent_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes the connection and says nothing is given up soon."""
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(WorldError, match=r"cannot be reached: (timed out|no answer)"):
            download.text(f"http://127.0.0.1:{silent.getsockname()[1]}/x")
    assert time.monotonic() - started < 2
