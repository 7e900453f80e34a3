# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files over HTTP: gone on with after a cut, given up when they stall, never more than the disk can take.

PRIVATE to the collection. Which file is wanted, what its checksum must be and where it is kept is `_image.py`'s
question.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, build_opener

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Unavailable, clipped

_PIECE = 256 * 1024
_LARGEST_TEXT = 1024 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Limits:
    """How long and how often to try. `stall` is seconds without one byte, `deadline` seconds in all.

    `attempts` counts failures in a row that brought no new byte; `pause` is the seconds before the second one, then
    doubled; `reserve` is what must stay free on the disk, in bytes.
    """

    stall: float = 30.0
    deadline: float = 3600.0
    attempts: int = 5
    pause: float = 1.0
    reserve: int = 256 * 1024 * 1024


@dataclass(frozen=True)
class Version:
    """Which content a server's answer was: its validators, "" where it sent none."""

    etag: str = ""
    modified: str = ""

    @property
    def strong(self) -> str:
        """Return the validator with which a part may be gone on with, "" when there is none."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class _Cut(Exception):
    """The transfer ended, or never began, for a reason that may be gone in a moment."""


class _Restart(Exception):
    """The part that we have is of no use."""


def shown(url: str) -> str:
    """Return an address without what may be a secret in it: user, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def text(url: str, limits: Limits) -> str | None:
    """Return a small text file, None when the server has no such file; raises Unavailable when it does not answer."""
    try:
        with _open(url, {}, limits) as response:
            return response.read(_LARGEST_TEXT).decode("utf-8", "replace")
    except HTTPError as error:
        if _is_final(error):
            return None
        raise unavailable(url, _reason(error)) from error
    except (OSError, HTTPException) as error:
        raise unavailable(url, _reason(error)) from error


def load(url: str, part: Path, limits: Limits, known: Version | None = None) -> Version | None:
    """Load the file into `part` and return its version; None when it still is the version `known`.

    A `part` that an earlier call has left is gone on with when the server can tell that it is of the same version.
    Raises Unavailable (code ImageUnavailable or DiskFull).
    """
    until = time.monotonic() + limits.deadline
    failures = 0
    while True:
        have = _size(part)
        try:
            return _Transfer(url, part, limits, until).run(known)
        except _Restart:
            forget(part)
            cause = "the server does not go on with what it began"
        except _Cut as cut:
            cause = str(cut)
        failures = 1 if _size(part) > have else failures + 1
        pause = min(limits.pause * 2 ** (failures - 1), 30.0)
        if failures >= limits.attempts or time.monotonic() + pause > until:
            raise unavailable(url, cause)
        time.sleep(pause)


def unavailable(url: str, cause: str, *, retryable: bool = True) -> StargateError:
    """Return the error for an image that cannot be had."""
    return Unavailable(
        f"Failed to load the image {shown(url)}: {cause}. Check the address, and that this host can reach it.",
        code="ImageUnavailable",
        details=cause,
        retryable=retryable,
    )


def disk_full(place: Path, needed: int) -> StargateError:
    """Return the error for a disk that is too small; `needed` is in bytes, 0 when it is not known."""
    wants = f"{needed / 1e6:.0f} MB more are needed" if needed else "it is full"
    free = shutil.disk_usage(place).free
    return Unavailable(
        f"Failed to write to {place}: {wants} and {free / 1e6:.0f} MB are free. Make room, or choose another place.",
        code="DiskFull",
    )


@dataclass
class _Transfer:
    """One request and what comes of it."""

    url: str
    part: Path
    limits: Limits
    until: float

    def run(self, known: Version | None) -> Version | None:
        """Load what is missing of the part; None when the server says that it has nothing newer than `known`."""
        have, version = _size(self.part), _noted(self.part)
        if have and not version.strong:
            raise _Restart
        headers = {"Range": f"bytes={have}-", "If-Range": version.strong} if have else _conditions(known)
        try:
            with _open(self.url, headers, self.limits) as response:
                self._write(response, have)
                return Version(response.headers.get("ETag") or "", response.headers.get("Last-Modified") or "")
        except HTTPError as error:
            if error.code == 304:
                return None
            raise self._refused(error) from error
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                forget(self.part)
                raise disk_full(self.part.parent, 0) from error
            raise _Cut(_reason(error)) from error

    def _refused(self, error: HTTPError) -> Exception:
        if error.code == 416:
            return _Restart()
        return unavailable(self.url, _reason(error), retryable=False) if _is_final(error) else _Cut(_reason(error))

    def _write(self, response: HTTPResponse, have: int) -> None:
        start, total = _extent(response, have)
        if response.headers.get_content_type() == "text/html":
            raise unavailable(self.url, "the answer is a web page", retryable=False)
        if total is not None:
            _check_space(self.part.parent, total - start, self.limits)
        if not start:
            version = Version(response.headers.get("ETag") or "", response.headers.get("Last-Modified") or "")
            _note(self.part, version)
        with self.part.open("r+b" if start else "wb") as output:
            output.seek(start)
            output.truncate()
            while piece := response.read1(_PIECE):
                output.write(piece)
                if time.monotonic() > self.until:
                    raise _Cut(f"it did not end within {self.limits.deadline:g} s")
        found = _size(self.part)
        if total is not None and found != total:
            raise _Cut(f"the connection ended after {found} of {total} bytes")


def _open(url: str, headers: dict[str, str], limits: Limits) -> HTTPResponse:
    if urlsplit(url).scheme not in ("http", "https"):
        raise Invalid(f"Failed to load the image {shown(url)}: not an address that begins with http:// or https://.")
    plain = {"User-Agent": "stargate.core", "Accept-Encoding": "identity", **headers}
    response: HTTPResponse = build_opener().open(Request(url, headers=plain), timeout=limits.stall)  # noqa: S310  # checked above
    return response


def _extent(response: HTTPResponse, have: int) -> tuple[int, int | None]:
    """Return where the answer begins in the file, and how long the file is (None when that is not said)."""
    length = response.headers.get("Content-Length") or ""
    size = int(length) if length.isdigit() else None
    if response.status != 206:
        return 0, size
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if not match or int(match[1]) != have:
        raise _Restart
    return have, int(match[2]) if match[2] != "*" else have + size if size is not None else None


def _check_space(place: Path, needed: int, limits: Limits) -> None:
    if needed + limits.reserve > shutil.disk_usage(place).free:
        raise disk_full(place, needed + limits.reserve)


def _is_final(error: HTTPError) -> bool:
    """Whether the same question would get the same answer."""
    return error.code < 500 and error.code not in (408, 425, 429)


def _conditions(known: Version | None) -> dict[str, str]:
    wanted = {"If-None-Match": known.etag, "If-Modified-Since": known.modified} if known else {}
    return {name: value for name, value in wanted.items() if value}


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return clipped(f"the server answers {error.code} {error.reason}")
    cause = error.reason if isinstance(error, URLError) else error
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return clipped("no answer in time" if isinstance(cause, TimeoutError) else f"the connection failed ({said})")


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _noted(part: Path) -> Version:
    """Return the version of which the part is, as it was noted before its first byte."""
    try:
        fields = json.loads(_notes(part).read_text(encoding="utf-8"))
        return Version(str(fields["etag"]), str(fields["modified"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Version()


def _note(part: Path, version: Version) -> None:
    part.unlink(missing_ok=True)
    _notes(part).write_text(json.dumps(asdict(version)), encoding="utf-8")


def forget(part: Path) -> None:
    """Remove a part and what is noted about it."""
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)
