# SPDX-License-Identifier: Apache-2.0
"""Fetching: whole or not at all, from files and from a real HTTP server that misbehaves.

A failure says whether it may go away by itself.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plugins.mirror import Mirror, mirror

from ansible_collections.stargate.core.plugins.module_utils import _runtime_download as download
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError

BODY = b"kubelet" * 100_000


@pytest.fixture
def server() -> Iterator[Mirror]:
    """Return a mirror that has a program."""
    with mirror() as made:
        made.files["/kubelet"] = BODY
        yield made


def fetched(url: str, *, digest: str = hashlib.sha256(BODY).hexdigest(), timeout: float = 10) -> bytes:
    """Return what is written when a URL is fetched."""
    with tempfile.TemporaryFile() as file:
        download.fetch(url, file.fileno(), digest=digest, timeout=timeout)
        return os.pread(file.fileno(), len(BODY) + 1, 0)


def test_http(server: Mirror) -> None:
    """A program comes whole, a document as text."""
    assert fetched(f"{server.url}/kubelet") == BODY
    server.files["/stable-1.34.txt"] = b"v1.34.2\n"
    assert download.text(f"{server.url}/stable-1.34.txt") == "v1.34.2\n"


def test_file(tmp_path: Path) -> None:
    """Files are read from their place, also when its name has to be escaped in a URL."""
    path = tmp_path / "a b"
    path.write_bytes(BODY)
    assert fetched(f"file://{tmp_path}/a%20b") == BODY


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("cut", "MirrorUnavailable", True),
        (503, "MirrorUnavailable", True),
        (404, "FileNotFound", False),
        (403, "FileNotFound", False),
    ],
)
def test_broken_answers(server: Mirror, kind: str | int, code: str, *, retryable: bool) -> None:
    """A connection that ends early and a server in trouble may be better later; what is not there will not."""
    if isinstance(kind, int):
        server.codes["/kubelet"] = kind
    else:
        server.cut.add("/kubelet")
    for fetch in (fetched, download.content):
        with pytest.raises(StargateError, match=f"Failed to fetch {server.url}/kubelet") as caught:
            fetch(f"{server.url}/kubelet")
        assert (caught.value.code, caught.value.retryable) == (code, retryable)


def test_nobody_there(server: Mirror) -> None:
    """A mirror that does not answer may be there later."""
    url = server.url.replace(str(server.port), "1")
    with pytest.raises(StargateError, match="refused") as caught:
        download.text(f"{url}/x")
    assert (caught.value.code, caught.value.retryable) == ("MirrorUnavailable", True)


def test_no_http_there(server: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is the same as no answer."""
    server.slow.add("/kubelet")
    monkeypatch.setattr(download, "SILENCE", 0.01)
    with pytest.raises(StargateError) as caught:
        download.content(f"{server.url}/kubelet")
    assert caught.value.code == "MirrorUnavailable"


def test_wrong_checksum(server: Mirror) -> None:
    """What is not what it ought to be is not taken, and will not be better later."""
    with pytest.raises(StargateError, match="not what its checksum says") as caught:
        fetched(f"{server.url}/kubelet", digest="0" * 64)
    assert (caught.value.code, caught.value.retryable) == ("ChecksumMismatch", False)


def test_too_slow(server: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that trickles ends with the time that it has."""
    monkeypatch.setattr(download, "PIECE", 1)
    with pytest.raises(StargateError, match="it is not here after 0 seconds") as caught:
        fetched(f"{server.url}/kubelet", timeout=0)
    assert caught.value.code == "MirrorUnavailable"


@pytest.mark.parametrize("url", ["ftp://x/y", "/etc/passwd", "file:relative", "file://host/x"])
def test_other_urls(url: str) -> None:
    """Only http, https and files with a full path are understood."""
    with pytest.raises(StargateError, match="only http, https and file URLs") as caught:
        download.text(url)
    assert caught.value.code == "Invalid"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that is missing is named."""
    with pytest.raises(StargateError, match="there is no such file") as caught:
        download.text(f"file://{tmp_path}/x")
    assert caught.value.code == "FileNotFound"
