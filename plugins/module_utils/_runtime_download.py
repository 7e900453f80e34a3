# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes from http, https and file URLs, whole or not at all, with failures that say whose they are.

PRIVATE to the collection. Only the standard library, and only imported when something is to be fetched.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, cast
from urllib.parse import unquote, urlsplit

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound, Unreachable

SILENCE = 30.0  # seconds without a byte after which the other side counts as gone
PIECE = 1 << 20
MOST_TEXT = 64 << 20


def text(url: str) -> str:
    """Return a small document."""
    return content(url).decode("utf-8", errors="replace")


def content(url: str) -> bytes:
    """Return a document's bytes."""
    with _opened(url) as (response, size):
        body = response.read(MOST_TEXT)
        _require_whole(url, len(body), size)
        return body


def fetch(url: str, handle: int, *, digest: str, timeout: float) -> None:
    """Write what a URL has to a descriptor; fails unless it is whole and has this SHA-256 checksum."""
    until = time.monotonic() + timeout
    seen, count = hashlib.sha256(), 0
    with _opened(url) as (response, size):
        while piece := response.read(PIECE):
            seen.update(piece)
            count += len(piece)
            _write(handle, piece)
            if time.monotonic() > until:
                raise _unavailable(url, f"it is not here after {timeout:.0f} seconds")
    _require_whole(url, count, size)
    if seen.hexdigest() != digest:
        raise Invalid(
            f"Failed to take {url}: what is there is not what its checksum says.",
            code="ChecksumMismatch",
            details=f"expected {digest}, got {seen.hexdigest()}",
        )


@contextmanager
def _opened(url: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """Open a URL; gives the stream and how long it ought to be, None when the other side did not say."""
    if url.startswith("file:///"):
        try:
            with Path(unquote(urlsplit(url).path)).open("rb") as file:
                yield file, None
        except FileNotFoundError as error:
            raise NotFound(f"Failed to read {url}: there is no such file.", code="FileNotFound") from error
        return
    if not url.startswith(("http://", "https://")):
        raise Invalid(f"Failed to fetch {url}: only http, https and file URLs with a full path are understood.")
    with _opened_http(url) as opened:
        yield opened


@contextmanager
def _opened_http(url: str) -> Iterator[tuple[IO[bytes], int | None]]:
    # These cost more than all the rest of a run without change, so they are imported when they are needed.
    import http.client
    import urllib.error
    import urllib.request

    try:
        with closing(urllib.request.build_opener().open(url, timeout=SILENCE)) as response:  # the scheme is known
            length = response.headers.get("Content-Length")
            yield cast("IO[bytes]", response), int(length) if length else None
    except urllib.error.HTTPError as error:
        if error.code in (403, 404, 410):  # a bucket without the right to list says 403 of what it does not have
            raise NotFound(f"Failed to fetch {url}: HTTP {error.code}.", code="FileNotFound") from error
        raise _unavailable(url, f"HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise _unavailable(url, str(error.reason)) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _unavailable(url, str(error) or type(error).__name__) from error


def _require_whole(url: str, count: int, size: int | None) -> None:
    if size is not None and count != size:
        raise _unavailable(url, f"the connection ended after {count} of {size} bytes")


def _unavailable(url: str, cause: str) -> Unreachable:
    return Unreachable(f"Failed to fetch {url}: {cause}.", code="MirrorUnavailable", details=cause)


def _write(handle: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view) :]
