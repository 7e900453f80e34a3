# SPDX-License-Identifier: Apache-2.0
"""Images on a disk: built once, put in place whole, pointed to, refused, removed; and what is asked of mmdebstrap.

Commands are answered by a small actor that makes the files which the real ones would make; real ones are in
tests/integration/test_machine_image.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local import commands, image, image_recipe
from stargate_reconciler.local.archive import Index
from stargate_reconciler.local.image import Images, users
from stargate_reconciler.local.image_recipe import Recipe
from stargate_reconciler.local.image_root import sources
from stargate_reconciler.local.progress import Progress

FILES = {
    "boot/vmlinuz-6.1": "kernel",
    "boot/initrd.img-6.1": "initramfs",
    "bin/busybox": "",
    "usr/bin/tini-static": "",
    "etc/ssh/ssh_host_ed25519_key": "secret",
    "etc/machine-id": "0123",
    "etc/resolv.conf": "nameserver 192.0.2.1",
    "etc/debian_version": "12.9\n",
    "etc/systemd/system/keep": "",
    "var/lib/dpkg/status": "Package: a\nVersion: 1-2\nDescription: x\n y: z\n\nPackage: b\n",
}


class Actor:
    """Stands for mmdebstrap, chroot, mkfs.ext4 and qemu-img."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails = ""

    def __call__(self, command: Sequence[str | Path], **_options: Any) -> None:
        """Do what the command would do to files."""
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.fails and self.fails in words:
            raise WorldError(f"{self.fails} failed")
        if "mmdebstrap" in words:
            root = Path(next(word for word in words if word.endswith("/root")))
            for name, text in FILES.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
        elif "convert" in words:
            Path(words[-1]).write_text("disk")


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Actor:
    """The actor instead of commands; root, and every program there."""
    found = Actor()
    monkeypatch.setattr(commands, "run", found)
    monkeypatch.setattr(commands, "require", lambda *_, **__: None)
    monkeypatch.setattr(image, "is_root", lambda: True)
    monkeypatch.setattr(image, "_SPACE", 0)
    monkeypatch.setattr(image, "KEYRING", tmp_path)
    return found


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """No images yet."""
    return Images(tmp_path / "images", Progress())


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """An image with a kubelet in two versions."""
    for version in ("1.9.0", "1.10.0"):
        (tmp_path / version).write_text(version)
    return Recipe("amd64", {version: {"kubelet": tmp_path / version} for version in ("1.10.0", "1.9.0")})


def test_built_once(actor: Actor, images: Images, recipe: Recipe) -> None:
    """The image is where its digest says and the current one; a second build does nothing, another again does."""
    built = images.build(recipe, mirror="http://a/")
    assert built.directory == images.directory / f"debian-12-{recipe.digest}"
    assert images.current.readlink() == Path(built.directory.name)
    assert images.find() == images.find(recipe.digest) == built
    count = len(actor.commands)
    assert images.build(recipe) == built
    assert len(actor.commands) == count
    assert images.build(recipe, mirror="http://a/", again=True) == built
    assert len(actor.commands) == 2 * count
    names = sorted(path.name for path in images.directory.iterdir())
    assert names == ["debian-12", built.directory.name]


@pytest.mark.usefixtures("actor")
def test_what_is_in_it(images: Images, recipe: Recipe) -> None:
    """What only one machine may have is gone, programs lie in the layout of releases, and the facts name all of it."""
    facts = images.build(recipe, mirror="http://a/").facts
    root = Path(facts["root"])
    assert not (root / "etc/ssh/ssh_host_ed25519_key").exists()
    assert (root / "etc/machine-id").read_text() == ""
    assert (root / "etc/resolv.conf").is_symlink()
    assert (root / "etc/systemd/system/apt-daily.timer").readlink() == Path("/dev/null")
    kubelet = root / "opt/stargate/kubernetes/v1.9.0/bin/linux/amd64/kubelet"
    assert (kubelet.read_text(), kubelet.stat().st_mode & 0o777) == ("1.9.0", 0o755)
    assert kubelet.with_name("kubelet.sha256").read_text() == image_recipe.sha256(kubelet)
    assert (root / "opt/stargate/images/pause.tar").exists()
    assert (facts["kubernetes"], facts["debian"], facts["packages"]) == (["1.9.0", "1.10.0"], "12.9", {"a": "1-2"})
    assert [Path(facts[name]).read_text() for name in ("disk", "vmlinuz", "initrd")] == ["disk", "kernel", "initramfs"]
    assert facts["checksum"] == f"sha256:{image_recipe.sha256(Path(facts['disk']))}"


@pytest.mark.parametrize("step", ["mmdebstrap", "chroot", "mkfs.ext4", "convert"])
def test_failed_build_leaves_nothing(actor: Actor, images: Images, recipe: Recipe, step: str) -> None:
    """A build that fails at any step, or was killed before, is no image; what was there stays."""
    first = images.build(Recipe("amd64"), mirror="http://a/")
    (images.directory / ".building-killed" / "root").mkdir(parents=True)
    actor.fails = step
    with pytest.raises(WorldError, match=f"Failed to build the image: {step} failed"):
        images.build(recipe, mirror="http://a/")
    assert images.all() == [first]
    assert images.find() == first
    assert not list(images.directory.glob(".*"))


def test_packages_come_from_the_machines_own_archive(
    actor: Actor, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines for apt and all packages are given to mmdebstrap."""
    monkeypatch.setattr(image.Archive, "indexes_of_debian", lambda _self: [Index("http://a/", "Debian")])
    monkeypatch.setattr(image.Archive, "__init__", lambda *_: None)
    images.build(Recipe("arm64"))
    words = actor.commands[0]
    assert words[-2].endswith("http://a/ bookworm main")
    assert any(word.startswith("--include=") and "linux-image-cloud-arm64" in word for word in words)


@pytest.mark.parametrize(
    ("known", "mirror", "wanted"),
    [
        ([], "", []),
        (
            [Index("u", "Debian"), Index("s", "Debian-Security")],
            "",
            ["u bookworm", "u bookworm-updates", "s bookworm-security"],
        ),
        ([Index("u", "Debian Backports")], "", []),
        ([Index("u", "Debian")], "m", ["m bookworm", "m bookworm-updates"]),
        ([], "m s", ["m bookworm", "m bookworm-updates", "s bookworm-security"]),
    ],
)
def test_sources(known: list[Index], mirror: str, wanted: list[str]) -> None:
    """A mirror wins over the machine's own archive; without both the choice is mmdebstrap's."""
    assert [line.partition("] ")[2].removesuffix(" main") for line in sources(known, mirror)] == wanted


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("is_root", lambda: False, "which only root can make. Run this as root, or copy"),
        ("KEYRING", Path("/nothing/here"), "apt-get install debian-archive-keyring"),
        ("_SPACE", 1 << 60, "GiB free. Make room, or set STARGATE_CACHE_DIR"),
    ],
)
@pytest.mark.usefixtures("actor")
def test_refused(
    images: Images, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, name: str, value: object, reason: str
) -> None:
    """What a build lacks is said before anything is done."""
    monkeypatch.setattr(image, name, value)
    with pytest.raises(UserError, match=reason):
        images.build(recipe)


@pytest.mark.usefixtures("actor")
def test_removed(images: Images, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images go by name, not while machines run from them, and the pointer goes with the one that it points to."""
    one = images.build(recipe, mirror="http://a/").directory.name
    with pytest.raises(UserError, match="Failed to remove other: there is no such image"):
        images.remove([one, "other"])
    monkeypatch.setattr(image, "users", lambda _directory: [7, 8])
    with pytest.raises(UserError, match=r"machines run from it \(2 processes, such as 7, 8\). Stop them first"):
        images.remove([one])
    monkeypatch.setattr(image, "users", lambda _directory: [])
    assert images.remove([one]) == [one]
    assert list(images.directory.iterdir()) == []
    assert images.find() is None


def test_users(tmp_path: Path) -> None:
    """A process uses an image when its root is mounted for it, or its disk open."""
    for number, mounts in {1: "", 2: f"overlay lowerdir={tmp_path}/a/root,upperdir=x", 3: ""}.items():
        (tmp_path / "proc" / str(number) / "fd").mkdir(parents=True)
        (tmp_path / "proc" / str(number) / "mountinfo").write_text(mounts)
    (tmp_path / "proc/3/fd/7").symlink_to(tmp_path / "a" / "disk.qcow2")
    assert users(tmp_path / "a", tmp_path / "proc") == [2, 3]
    assert users(tmp_path / "b", tmp_path / "proc") == []


def test_digest_knows_every_input(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program, package or file makes another image."""
    digests = {recipe.digest, Recipe("arm64", recipe.kubernetes).digest, Recipe("amd64").digest}
    (tmp_path / "1.9.0").write_text("another")
    digests.add(recipe.digest)
    monkeypatch.setattr(image_recipe, "FILES", {})
    digests.add(recipe.digest)
    assert len(digests) == 5
    assert json.dumps(sorted(digests)).isascii()
