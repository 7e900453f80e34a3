# SPDX-License-Identifier: Apache-2.0
"""Files from http, https and file addresses: checked against a digest, gone on with after a cut, quick to give up.

What is downloaded, and where the digest is published, is the caller's question.
"""

from __future__ import annotations

import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.progress import Step

ANSWER_SECONDS = 6.0
_ATTEMPTS = 5
_CHUNK = 1 << 20
_TEXT = 1 << 20
_SCHEMES = ("https://", "http://", "file://")


class _Cut(WorldError):
    """The connection ended before the file did."""


def text(url: str) -> str:
    """Return a small text file; WorldError when it cannot be had."""
    with _open(url) as response:
        try:
            return str(response.read(_TEXT).decode("utf-8", errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            raise WorldError(f"{url} was cut: {error}") from error


def file(url: str, target: Path, *, sha256: str, step: Step | None = None) -> None:
    """Download a file to `target`, atomically; what was loaded before a cut is kept and gone on with.

    Raises WorldError when it cannot be reached, or when its digest is another: then nothing of it is kept.
    """
    part = target.with_name(f".{target.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        if part.exists() and _digest(part) == sha256:
            break
        try:
            _append(url, part, step or Step(url))
            break
        except _Cut:
            if attempt == _ATTEMPTS:
                raise
    if (found := _digest(part)) != sha256:
        part.unlink()
        raise WorldError(f"{url} has the SHA-256 {found}, published is {sha256}: refused and removed")
    part.replace(target)


def _append(url: str, part: Path, step: Step) -> None:
    have = part.stat().st_size if part.exists() else 0
    with _open(url, offset=have) as response:
        if getattr(response, "status", None) != 206:  # the server sends all of it again
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("r+b" if have else "wb") as output:
            output.seek(have)
            output.truncate()
            for chunk in _chunks(response, url):
                output.write(chunk)
                have += len(chunk)
                step.detail = f"{have / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{have / 1e6:.0f} MB"
    if total is not None and have < total:
        raise _Cut(f"{url} was cut after {have} of {total} bytes")


def _chunks(response: Any, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"{url} was cut: {error}") from error


def _open(url: str, *, offset: int = 0) -> Any:
    """Return an open response; a name server or a host that is silent is given up after ANSWER_SECONDS."""
    if not url.startswith(_SCHEMES):
        raise WorldError(f"{url} is no address that begins with {' or '.join(_SCHEMES)}")
    answers: list[IO[bytes] | Exception] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})  # noqa: S310 - the scheme is checked above
            answers.append(urllib.request.urlopen(request, timeout=ANSWER_SECONDS))  # noqa: S310 - the same
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers.append(error)

    # A thread, because the time that a name server takes cannot be bounded otherwise.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS + 0.5)
    if not answers:
        raise WorldError(f"{url} cannot be reached: no answer in {ANSWER_SECONDS:.0f} s")
    if isinstance(answers[0], Exception):
        raise WorldError(_reason(url, answers[0])) from answers[0]
    return answers[0]


def _reason(url: str, error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{url} answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"{url} cannot be reached: {cause}"


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
