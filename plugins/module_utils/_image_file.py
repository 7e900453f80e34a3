# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk image's file says about itself: its digests, its format, its size, and whether it may be used.

PRIVATE to the collection. Only reads. Where images come from is `_image.py`'s question.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, clipped

LENGTHS = {"sha256": 64, "sha512": 128}
_MAGIC = b"QFI\xfb"
_PACKED = (b"\xfd7zXZ\0", b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\x28\xb5\x2f\xfd")
_EXTERNAL_DATA = 1 << 2  # of the incompatible features
_PIECE = 1024 * 1024
_SUM_LINE = re.compile(r"(?P<digest>[0-9a-fA-F]{64,128}) [ *](?P<name>\S.*)")


@dataclass(frozen=True)
class Disk:
    """What is in an image: its format as qemu-img calls it, and the size of the disk in bytes."""

    format: str
    size: int


def disk(path: Path) -> Disk:
    """Return what is in an image; raises Invalid for one that leads to other files of the host, or is damaged."""
    with path.open("rb") as file:
        header = file.read(104)
    if header.startswith(_PACKED):
        raise _unfit(path, "it is compressed. Unpack it first")
    if not header.startswith(_MAGIC):
        return Disk("raw", path.stat().st_size)
    if len(header) < 72:
        raise _unfit(path, "it ends within its header")
    version, backing = struct.unpack_from(">IQ", header, 4)
    features = struct.unpack_from(">Q", header, 72)[0] if version >= 3 and len(header) >= 80 else 0
    if backing or features & _EXTERNAL_DATA:
        raise _unfit(path, "it is only a part, which names another file of this host. Flatten it with qemu-img convert")
    return Disk("qcow2", struct.unpack_from(">Q", header, 24)[0])


def parsed(checksum: str) -> tuple[str, str]:
    """Return (algorithm, digest) of a checksum like sha256:…, ("", "") for none; raises Invalid."""
    if not checksum:
        return "", ""
    named = checksum.lower() if ":" in checksum else f"sha256:{checksum.lower()}"
    algorithm, digest = named.rsplit(":", 1)
    if len(digest) != LENGTHS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digest):
        raise Invalid(
            f'Failed to use image_checksum "{clipped(checksum, 80)}": not sha256: and 64, or sha512: and 128 '
            "hexadecimal digits.",
            code="ChecksumInvalid",
        )
    return algorithm, digest


def digests(path: Path, algorithms: Iterable[str] = ()) -> dict[str, str]:
    """Return the digests of a file by algorithm: sha256 always, and those asked for."""
    hashes = {name: hashlib.new(name) for name in {"sha256", *algorithms} if name}
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            for known in hashes.values():
                known.update(piece)
    return {name: known.hexdigest() for name, known in hashes.items()}


def listed(sums: str, name: str) -> str:
    """Return the digest that a file like SHA256SUMS gives for a name, "" when it does not list it."""
    for line in sums.splitlines():
        match = _SUM_LINE.fullmatch(line.strip())
        if match and match["name"].removeprefix("./") == name:
            return match["digest"].lower()
    return ""


def _unfit(path: Path, cause: str) -> Invalid:
    return Invalid(f"Failed to use the image {path}: {cause}.", code="ImageUnfit")
