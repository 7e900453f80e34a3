# SPDX-License-Identifier: Apache-2.0
"""What image files and lists of checksums say: tables of input and answer.

Loading them is test__image_fetch.py's and test__image.py's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._image_file import Disk, digests, disk, listed, parsed

A, B = "a" * 64, "b" * 128


def qemu_img(*arguments: str) -> None:
    """Run qemu-img."""
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, timeout=30)


def test_formats(tmp_path: Path) -> None:
    """A qcow2 file tells the size of its disk; anything else is raw and as large as it is."""
    qemu_img("create", "-f", "qcow2", str(tmp_path / "new"), "1G")
    qemu_img("create", "-f", "qcow2", "-o", "compat=0.10", str(tmp_path / "old"), "2G")
    (tmp_path / "raw").write_bytes(b"\0" * 1024)
    assert disk(tmp_path / "new") == Disk("qcow2", 1 << 30)
    assert disk(tmp_path / "old") == Disk("qcow2", 2 << 30)
    assert disk(tmp_path / "raw") == Disk("raw", 1024)


def test_images_that_lead_elsewhere(tmp_path: Path) -> None:
    """An image that names another file of the host would show it to the guest, and is refused."""
    qemu_img("create", "-f", "raw", str(tmp_path / "data"), "1M")
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "data"), str(tmp_path / "over"))
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path}/outside", str(tmp_path / "split"), "1M")
    for name in ("over", "split"):
        with pytest.raises(Invalid, match="another file") as caught:
            disk(tmp_path / name)
        assert caught.value.code == "ImageUnfit"


@pytest.mark.parametrize("head", [b"QFI\xfb\0\0", b"\xfd7zXZ\0", b"\x1f\x8b\x08", b"PK\x03\x04"])
def test_damaged_or_packed(tmp_path: Path, head: bytes) -> None:
    """A torn or compressed image is named as such."""
    (tmp_path / "image").write_bytes(head)
    with pytest.raises(Invalid, match=r"compressed|header"):
        disk(tmp_path / "image")


@pytest.mark.parametrize(
    ("checksum", "answer"),
    [
        ("", ("", "")),
        (f"sha256:{A}", ("sha256", A)),
        (A.upper(), ("sha256", A)),
        (f"SHA512:{B}", ("sha512", B)),
    ],
)
def test_checksums(checksum: str, answer: tuple[str, str]) -> None:
    """The algorithm stands before the digits; without one it is sha256."""
    assert parsed(checksum) == answer


@pytest.mark.parametrize("checksum", ["sha256:", "sha256:abc", f"md5:{'a' * 32}", f"sha512:{A}", "g" * 64, "x:y"])
def test_checksums_that_are_none(checksum: str) -> None:
    """Anything else is somebody's mistake."""
    with pytest.raises(Invalid) as caught:
        parsed(checksum)
    assert caught.value.code == "ChecksumInvalid"


def test_lists() -> None:
    """Both spellings of a list are read, and only the very name counts."""
    sums = f"# comment\n{A} *disk.img\n{'C' * 64}  ./other.img\n{B} *disk.img.sig\n"
    assert listed(sums, "disk.img") == A
    assert listed(sums, "other.img") == "c" * 64
    assert listed(sums, "disk.img.sig") == B
    assert listed(sums, "isk.img") == ""


def test_digests(tmp_path: Path) -> None:
    """The sha256 is always there, others when they are asked for."""
    (tmp_path / "file").write_bytes(b"abc")
    found = digests(tmp_path / "file", ["sha512", ""])
    assert (found["sha256"][:8], found["sha512"][:8]) == ("ba7816bf", "ddaf35a1")
