# SPDX-License-Identifier: Apache-2.0
"""The images of machines on this disk: found, built under a lock and put in place whole, listed, removed.

An image serves QEMU (disk.qcow2 with vmlinuz and initrd) and systemd-nspawn (root/). What is in it stands in
image_recipe.py.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local import commands, image_disk, image_recipe
from stargate_reconciler.local.archive import Archive
from stargate_reconciler.local.image_recipe import Recipe, sha256
from stargate_reconciler.local.image_root import KEYRING, Root, is_root, sources
from stargate_reconciler.local.locks import locked
from stargate_reconciler.local.progress import Progress

_PROGRAMS = {"mmdebstrap": "mmdebstrap", "qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs"}
_SPACE = 4 << 30
_BUILDING = ".building-"


@dataclass(frozen=True)
class Image:
    """A finished image in a directory of its own."""

    directory: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What image.json says, and where the parts are."""
        facts = json.loads((self.directory / "image.json").read_text(encoding="utf-8"))
        parts = {name: str(self.directory / name) for name in ("root", "disk.qcow2", "vmlinuz", "initrd")}
        return {"directory": str(self.directory), "disk": parts.pop("disk.qcow2"), **parts, **facts}


class Images:
    """All images below `directory`."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress
        self.current = directory / image_recipe.NAME

    def find(self, digest: str = "") -> Image | None:
        """Return the image with a digest, the one that was built or asked for last without; None without any."""
        directory = self._named(digest) if digest else self.current.resolve()
        return Image(directory) if (directory / "image.json").is_file() else None

    def all(self) -> list[Image]:
        """Return all finished images."""
        return [Image(path.parent) for path in sorted(self.directory.glob(f"{image_recipe.NAME}-*/image.json"))]

    def build(self, recipe: Recipe, *, mirror: str = "", again: bool = False) -> Image:
        """Return the image of a recipe, built now when it is not there (or `again`), and make it the current one."""
        note = "waiting: another process is building an image"
        with locked(self.directory, waiting=lambda: self.progress.note(note)):
            image = None if again else self.find(recipe.digest)
            if image is None:
                image = self._build(recipe, mirror)
            self._point(image)
            return image

    def remove(self, names: list[str]) -> list[str]:
        """Remove images by the names of their directories; returns those that were there."""
        if unknown := [name for name in names if name not in {image.directory.name for image in self.all()}]:
            raise UserError(f"Failed to remove {unknown[0]}: there is no such image in {self.directory}. See list.")
        with locked(self.directory):
            for name in names:
                _refuse_use(self.directory / name)
            for name in names:
                _remove(self.directory / name)
            if self.current.is_symlink() and not self.current.exists():
                self.current.unlink()
        return names

    def _build(self, recipe: Recipe, mirror: str) -> Image:
        self._check()
        _refuse_use(self._named(recipe.digest))
        with self._workshop(recipe.digest) as place:
            log = self.directory / f"{image_recipe.NAME}-{recipe.digest}.log"
            log.unlink(missing_ok=True)
            root = Root(place / "root", recipe, log, self.progress)
            known = [] if mirror else self._archive(place)
            try:
                root.bootstrap(sources(known, mirror))
                root.finish()
                image_disk.make(root.path, place, log=log, progress=self.progress)
            except (OSError, WorldError) as error:
                raise WorldError(
                    f"Failed to build the image: {error}. Another build starts from the beginning."
                ) from error
            _write_facts(place, recipe, root.packages())
            target = self._named(recipe.digest)
            _remove(target)
            place.rename(target)
            log.unlink(missing_ok=True)
        return Image(target)

    def _check(self) -> None:
        commands.require(_PROGRAMS, purpose="build the image")
        if not KEYRING.exists():
            raise UserError(
                "Failed to build the image: Debian's keys are not here. "
                "Install them, on Debian and Ubuntu: apt-get install debian-archive-keyring"
            )
        if not is_root():
            raise UserError(
                "Failed to build the image: it holds files of several owners, which only root can make. "
                "Run this as root, or copy a directory of images from a machine where it was built."
            )
        if shutil.disk_usage(self.directory).free < _SPACE:
            raise UserError(
                f"Failed to build the image: {self.directory} has less than {_SPACE >> 30} GiB free. "
                "Make room, or set STARGATE_CACHE_DIR to a directory on another disk."
            )

    def _archive(self, place: Path) -> list[Any]:
        try:
            return list(Archive(place / "apt", self.progress).indexes_of_debian())
        except WorldError:  # no Debian: mmdebstrap knows where it is to be had
            return []
        finally:
            shutil.rmtree(place / "apt", ignore_errors=True)

    @contextlib.contextmanager
    def _workshop(self, digest: str) -> Iterator[Path]:
        """Give an empty directory that is gone afterwards, and take away what a killed build has left."""
        for left in self.directory.glob(f"{_BUILDING}*"):
            _remove(left)
        place = self.directory / f"{_BUILDING}{digest}"
        place.mkdir(mode=0o755)
        try:
            yield place
        finally:
            _remove(place)

    def _point(self, image: Image) -> None:
        temporary = self.directory / f".{image_recipe.NAME}.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(image.directory.name)
        temporary.replace(self.current)

    def _named(self, digest: str) -> Path:
        return self.directory / f"{image_recipe.NAME}-{digest}"


def _refuse_use(directory: Path) -> None:
    """Raise UserError when a process works with an image: a machine without its disk is broken beyond repair."""
    if pids := users(directory):
        some = ", ".join(map(str, pids[:3]))
        raise UserError(
            f"Failed to remove {directory.name}: machines run from it ({len(pids)} processes, such as {some}). "
            "Stop them first."
        )


def users(directory: Path, proc: Path = Path("/proc")) -> list[int]:
    """Return the processes that have an image's disk open or its root file system under theirs, as far as is seen."""
    return sorted(int(process.name) for process in proc.glob("[0-9]*") if _uses(process, directory))


def _uses(process: Path, directory: Path) -> bool:
    with contextlib.suppress(OSError):  # gone, or somebody else's
        if f"{directory}/root" in (process / "mountinfo").read_text(encoding="utf-8", errors="replace"):
            return True
        return any(_leads_to(file, directory / "disk.qcow2") for file in (process / "fd").iterdir())
    return False


def _leads_to(link: Path, target: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return link.readlink() == target
    return False


def _write_facts(place: Path, recipe: Recipe, packages: dict[str, str]) -> None:
    facts = {
        "name": image_recipe.NAME,
        "digest": recipe.digest,
        "built": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "architecture": recipe.architecture,
        "debian": (place / "root/etc/debian_version").read_text(encoding="ascii").strip(),
        "kubernetes": sorted(recipe.kubernetes, key=lambda version: [int(part) for part in version.split(".")]),
        "pause": image_recipe.PAUSE_TAG,
        "cmdline": image_recipe.COMMAND_LINE,
        "checksum": f"sha256:{sha256(place / 'disk.qcow2')}",
        "packages": packages,
    }
    (place / "image.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _remove(directory: Path) -> None:
    """Remove a directory with a whole system in it; never what is mounted there."""
    if directory.exists():
        shutil.rmtree(directory)
