# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images by path or address, in a cache where each version has a file of its own that never changes.

PRIVATE to the collection. How bytes come over the network is `_image_fetch.py`'s question, what is in the file
`_image_file.py`'s. Disks of machines are made on top of what is returned here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._image_fetch import (
    Limits,
    Version,
    forget,
    load,
    shown,
    text,
    unavailable,
)
from ansible_collections.stargate.core.plugins.module_utils._image_file import LENGTHS, digests, listed, parsed
from ansible_collections.stargate.core.plugins.module_utils._machine import locked, make_directory, write

SUMS = {"sha256": "SHA256SUMS", "sha512": "SHA512SUMS"}
BASE = "base"
"""The link in a machine's directory that names the image its disk builds on."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Image:
    """A file to build disks on. `notes` are sentences that a user should hear."""

    path: Path
    sha256: str
    loaded: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Record:
    """What is known of an address: the newest file, and the older ones with the machines that used them."""

    file: str = ""
    size: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)
    version: Version = field(default_factory=Version)
    users: Mapping[str, list[str]] = field(default_factory=dict)


def cache_directory(option: str | None, environ: Mapping[str, str]) -> Path:
    """Return where images are kept: the option, else below STARGATE_CACHE_DIR, else below the user's cache."""
    if option:
        return Path(option).expanduser().absolute()
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("STARGATE_CACHE_DIR") or home / ".cache" / "stargate").absolute() / "images"


def local_path(source: str) -> Path | None:
    """Return the path that a source names, None for an address on the network."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        return None
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path))
    if "://" in source or not source:
        raise Invalid(
            f'Failed to use the image "{shown(source)}": neither a path nor an address with file://, http://, https://.',
            code="ImageUnavailable",
        )
    return Path(source).expanduser()


class Cache:
    """The images of one directory; several processes may use it at once."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        """Keep the directory; nothing is made yet."""
        self.directory = directory
        self.limits = limits or Limits()

    def image(self, source: str, checksum: str, *, user: Path | None = None) -> Image:
        """Return the image, loaded when it has to be. A file of this host is used where it is.

        A `checksum` is the last word: with it in the cache the network is not asked. Without one, an address is asked
        each time whether it has another version, and what is published beside the file (SHA256SUMS, SHA512SUMS) must
        be right; when nobody answers, the version in the cache is used and a note says so. `user` is the directory
        of the machine for which the image is: as long as its link BASE leads to the file, the file stays.
        Raises StargateError with the codes ImageUnavailable, ChecksumMismatch, ChecksumInvalid, DiskFull.
        """
        algorithm, digest = parsed(checksum)
        path = local_path(source)
        if path is not None:
            return _local(path, algorithm, digest)
        address = _Address(self.directory, source)
        with locked(address.lock, f"the image {shown(source)}", self.limits.deadline):
            return _Keeping(address, self.limits).image(algorithm, digest, user)

    def foretold(self, source: str, checksum: str) -> bool:
        """Whether the image would have to be loaded, as far as that can be told without the network."""
        algorithm, digest = parsed(checksum)
        path = local_path(source)
        if path is not None:
            _local(path, "", "")
            return False
        return not _Keeping(_Address(self.directory, source), self.limits).has(algorithm, digest)


class _Address:
    """Where things of one address are in the cache; the address itself, which may hold a secret, is not in names."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self.directory = directory
        self.name = unquote(urlsplit(url).path.rpartition("/")[2]) or "image"
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.lock = directory / f".{key}.lock"
        self.record = directory / f".{key}.json"
        self.part = directory / f".{key}.part"

    def file(self, sha256: str) -> str:
        """Return the name of the file with this content."""
        name = Path(_UNSAFE.sub("_", self.name)[-100:].lstrip("."))
        return f"{name.stem or 'image'}-{sha256[:16]}{name.suffix}"


@dataclass
class _Keeping:
    """One look at one address, under its lock."""

    address: _Address
    limits: Limits

    def image(self, algorithm: str, digest: str, user: Path | None) -> Image:
        """Return the image, loaded when it has to be; see Cache.image."""
        record = self._record()
        notes: list[str] = []
        floats = not digest
        try:
            if floats:
                algorithm, digest = self._published()
            newer = None
            if not digest or not self._holds(record, algorithm, digest):
                newer = self._newer(record, algorithm, digest)
        except StargateError as error:
            if not floats or not record.file or error.code != "ImageUnavailable":
                raise
            newer = None
            notes.append(f"The image in the cache is used as it is: {error.message}")
        record = newer or record
        if newer and not digest:
            notes.append(
                f"Nobody vouches for the image {shown(self.address.url)}: no image_checksum is given and none is "
                f"published beside it. Its checksum is sha256:{record.digests['sha256']}."
            )
        record = self._pruned(record, user)
        self._write(record)
        return Image(self.address.directory / record.file, record.digests["sha256"], newer is not None, tuple(notes))

    def has(self, algorithm: str, digest: str) -> bool:
        """Whether a version that would do is there."""
        return self._holds(self._record(), algorithm, digest)

    @staticmethod
    def _holds(record: _Record, algorithm: str, digest: str) -> bool:
        return bool(record.file) and (not digest or record.digests.get(algorithm) == digest)

    def _published(self) -> tuple[str, str]:
        """Return (algorithm, digest) from the list beside the file, ("", "") when there is none."""
        for algorithm, name in SUMS.items():
            sums = text(urljoin(self.address.url.partition("?")[0], name), self.limits)
            digest = listed(sums or "", self.address.name)
            if len(digest) == LENGTHS[algorithm]:
                return algorithm, digest
        return "", ""

    def _newer(self, record: _Record, algorithm: str, digest: str) -> _Record | None:
        """Load the version that the address has now; None when it is the one that is there."""
        part, known = self.address.part, None if digest else record.version
        make_directory(part.parent)
        version = load(self.address.url, part, self.limits, known)
        if version is None:
            return None
        found = digests(part, [algorithm])
        if digest and found[algorithm] != digest:
            forget(part)
            raise _mismatch(shown(self.address.url), found[algorithm], digest)
        return self._settled(record, found, version)

    def _settled(self, record: _Record, found: Mapping[str, str], version: Version) -> _Record:
        part = self.address.part
        name = self.address.file(found["sha256"])
        part.chmod(0o644)
        size = part.stat().st_size
        part.replace(self.address.directory / name)
        forget(part)
        return _Record(name, size, found, version, record.users)

    def _pruned(self, record: _Record, user: Path | None) -> _Record:
        """Remove older versions that no machine uses any more, and note who uses this one."""
        users = {name: list(known) for name, known in record.users.items()}
        mine = users.setdefault(record.file, [])
        if user and str(user) not in mine:
            mine.append(str(user))
        for name in [name for name in users if name != record.file]:
            path = self.address.directory / name
            users[name] = [known for known in users[name] if _builds_on(Path(known), path)]
            if not users[name]:
                path.unlink(missing_ok=True)
                del users[name]
        return _Record(record.file, record.size, record.digests, record.version, users)

    def _record(self) -> _Record:
        """Return what is known; nothing when the file is not what was written."""
        try:
            content = json.loads(self.address.record.read_text(encoding="utf-8"))
            record = _Record(**{**content, "version": Version(**content["version"])})
            if (self.address.directory / record.file).stat().st_size == record.size and record.digests["sha256"]:
                return record
            return _Record(users=record.users)
        except (OSError, ValueError, TypeError, KeyError):
            return _Record()

    def _write(self, record: _Record) -> None:
        write(self.address.record, json.dumps(asdict(record), indent=1) + "\n")


def _local(path: Path, algorithm: str, digest: str) -> Image:
    try:
        real = path.resolve(strict=True)
        if not real.is_file():
            raise unavailable(str(path), "it is not a file", retryable=False)
        if not digest:
            return Image(real, "")
        found = digests(real, [algorithm])
    except OSError as error:
        raise unavailable(str(path), error.strerror or str(error), retryable=False) from error
    if found[algorithm] != digest:
        raise _mismatch(str(path), found[algorithm], digest)
    return Image(real, found["sha256"])


def _builds_on(machine: Path, image: Path) -> bool:
    try:
        return (machine / BASE).readlink() == image
    except OSError:
        return False


def _mismatch(name: str, found: str, wanted: str) -> Invalid:
    return Invalid(
        f"Failed to check the image {name}: its checksum is {found}, and {wanted} was expected. "
        "It is not used; check image_checksum and where the image comes from.",
        code="ChecksumMismatch",
    )
