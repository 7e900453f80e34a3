# SPDX-License-Identifier: Apache-2.0
"""Large files from a real server on loopback that cuts, stalls and lies.

Which file is wanted and where it is kept is test__image.py's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plugins.module_utils.image_server import ImageServer

from ansible_collections.stargate.core.plugins.module_utils import _image_fetch
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._image_fetch import Limits, Version, load, shown, text

LIMITS = Limits(stall=0.5, deadline=20, attempts=3, pause=0.01, reserve=0)
CONTENT = os.urandom(700_000)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """Return a server with one file."""
    served = ImageServer()
    served.publish("/a/disk.img", CONTENT)
    yield served
    served.close()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Return where a file is loaded to."""
    return tmp_path / "part"


def fails(server: ImageServer, part: Path, limits: Limits = LIMITS) -> StargateError:
    """Return how loading the file fails."""
    with pytest.raises(StargateError) as caught:
        load(f"{server.url}/a/disk.img", part, limits)
    return caught.value


def test_a_cut_is_gone_on_with(server: ImageServer, part: Path) -> None:
    """After each cut the rest alone is asked for, as long as each try brings something."""
    server.faults.cuts, server.faults.cut_after = 6, 100_000
    version = load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == CONTENT
    assert version is not None
    assert version.etag.startswith('"')
    assert server.requests("/a/disk.img") == [200] + [206] * 6


def test_a_part_of_another_process_is_gone_on_with(server: ImageServer, part: Path) -> None:
    """What an interrupted process left is used by the next one."""
    server.faults.cuts = 1
    fails(server, part, Limits(stall=0.5, deadline=5, attempts=1, reserve=0))
    assert part.stat().st_size == 1000
    load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == CONTENT
    assert server.seen[-1].headers["range"] == "bytes=1000-"


def test_a_part_of_an_older_version_is_not(server: ImageServer, part: Path) -> None:
    """When the file has changed meanwhile, it is loaded from its beginning."""
    server.faults.cuts = 1
    fails(server, part, Limits(stall=0.5, deadline=5, attempts=1, reserve=0))
    server.publish("/a/disk.img", b"other" * 1000)
    load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == b"other" * 1000


@pytest.mark.parametrize("fault", ["knows_ranges", "wrong_range", "tagged"])
def test_servers_without_ranges(server: ImageServer, part: Path, fault: str) -> None:
    """Without ranges, or with wrong ones, or without a validator, the file is begun again."""
    server.faults.cuts = 1
    if fault == "tagged":
        server.tagged = False
    else:
        setattr(server.faults, fault, fault == "wrong_range")
    load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == CONTENT


def test_a_stall_is_a_cut(server: ImageServer, part: Path) -> None:
    """A server that says nothing for `stall` seconds is left, and asked again for the rest."""
    server.faults.stalls = 1
    load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == CONTENT
    assert server.requests("/a/disk.img") == [200, 206]


def test_a_server_that_never_gets_on_is_left(server: ImageServer, part: Path) -> None:
    """After `attempts` tries without a new byte it is over, and may be tried again later."""
    server.faults.errors = 100
    error = fails(server, part)
    assert (error.code, error.retryable, error.details) == (
        "ImageUnavailable",
        True,
        "the server answers 503 Service Unavailable",
    )
    assert len(server.seen) == 3


def test_a_short_file_is_a_cut(server: ImageServer, part: Path) -> None:
    """A body shorter than its length says is not taken for the file."""
    server.faults.claims, server.faults.knows_ranges = len(CONTENT) + 5, False
    assert "700000 of 700005" in fails(server, part).details


def test_an_answer_without_length(server: ImageServer, part: Path) -> None:
    """A server that does not say how long the file is serves all the same."""
    server.faults.says_length = False
    load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (500, True), (429, True)])
def test_refusals(server: ImageServer, part: Path, status: int, retryable: bool) -> None:
    """A client's error is final; a server's may pass."""
    server.faults.errors, server.faults.status = 100, status
    error = fails(server, part)
    assert (error.code, error.retryable) == ("ImageUnavailable", retryable)


def test_a_web_page_is_no_image(server: ImageServer, part: Path) -> None:
    """The page of a portal or a proxy is not taken for an image."""
    server.faults.kind = "text/html; charset=utf-8"
    assert "web page" in fails(server, part).details


def test_the_deadline(server: ImageServer, part: Path) -> None:
    """However the server gets on, after `deadline` seconds it is over."""
    assert "did not end" in fails(server, part, Limits(stall=5, deadline=-1, attempts=3, reserve=0)).details


def test_not_modified(server: ImageServer, part: Path) -> None:
    """A version that is known is not loaded again."""
    version = load(f"{server.url}/a/disk.img", part, LIMITS)
    part.unlink()
    assert load(f"{server.url}/a/disk.img", part, LIMITS, version) is None
    assert not part.exists()
    assert load(f"{server.url}/a/disk.img", part, LIMITS, Version(etag='"x"')) == version


def test_a_small_disk(server: ImageServer, part: Path) -> None:
    """What cannot fit is not begun."""
    error = fails(server, part, Limits(reserve=1 << 60))
    assert (error.code, part.exists()) == ("DiskFull", False)


def test_a_disk_that_fills_up(server: ImageServer, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the midst of it is not left full."""

    def full(self: _image_fetch._Transfer, response: object, have: int) -> None:
        part.write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_image_fetch._Transfer, "_write", full)
    assert (fails(server, part).code, part.exists()) == ("DiskFull", False)


def test_a_part_that_is_too_long(server: ImageServer, part: Path) -> None:
    """A part that the server cannot go on with is thrown away."""
    server.faults.cuts = 1
    fails(server, part, Limits(stall=0.5, deadline=5, attempts=1, reserve=0))
    server.faults.errors, server.faults.status = 1, 416
    load(f"{server.url}/a/disk.img", part, LIMITS)
    assert part.read_bytes() == CONTENT


def test_texts(server: ImageServer) -> None:
    """A small file is its text, a missing one None; a server that fails, or is not there, an error."""
    assert (text(f"{server.url}/a/SHA256SUMS", LIMITS) or "").endswith("*disk.img\n")
    assert text(f"{server.url}/a/none", LIMITS) is None
    server.faults.errors = 1
    with pytest.raises(StargateError, match="503"):
        text(f"{server.url}/a/disk.img", LIMITS)
    with pytest.raises(StargateError, match="refused"):
        text("http://127.0.0.1:9/x", LIMITS)
    with pytest.raises(Invalid, match="http://"):
        text("ftp://127.0.0.1/x", LIMITS)


def test_secrets_in_addresses_are_not_shown() -> None:
    """User, password and query stay out of messages."""
    assert shown("https://me:canary@host/a.img?sig=canary#x") == "https://host/a.img"
