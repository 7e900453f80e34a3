# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a QEMU machine's disk is made from, fetched and written down: image, kernel, seed.

PRIVATE to the collection. Where images come from is `_image.py`'s question; running the machine is `_qemu_host.py`'s.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._image import BASE, Cache, cache_directory, local_path
from ansible_collections.stargate.core.plugins.module_utils._image_fetch import Limits, disk_full
from ansible_collections.stargate.core.plugins.module_utils._image_file import disk
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, make_directory, write
from ansible_collections.stargate.core.plugins.module_utils._program import run
from ansible_collections.stargate.core.plugins.module_utils._qemu import CONSOLE, DISK, INITRD, KERNEL, SEED, overlay
from ansible_collections.stargate.core.plugins.module_utils._seed import files, host_key, write_iso

RESERVE = 256 * 1024 * 1024
"""Bytes that must be free where a machine's disk is to grow."""
KEPT_CONSOLES = 3
LONGEST_CONSOLE = 16 * 1024 * 1024
_RECORD = "qemu.json"


@dataclass(frozen=True)
class Material:
    """What a machine is made from, on this host. Written down in its directory; "" and 0 when there is none yet."""

    image_cache: str = ""
    disk_cache: str = "writeback"
    base: str = ""
    size: int = 0
    changed: int = 0  # nanoseconds
    kernel: str = ""
    initrd: str = ""
    accel: str = ""
    accel_reason: str = ""


@dataclass(frozen=True)
class Options:
    """What a task may say beyond the definition; None keeps what the machine has."""

    image_cache: str | None = None
    disk_cache: str | None = None


class Stock:
    """The material of machines."""

    def __init__(self, places: Places, options: Options, warn: Callable[[str], None]) -> None:
        """Keep the parts; nothing is read yet."""
        self._places = places
        self._options = options
        self._warn = warn

    def material(self, definition: Definition) -> Material:
        """Return what was written down of a machine."""
        try:
            path = self._directory(definition) / _RECORD
            return Material(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Material()

    def note(self, definition: Definition, material: Material) -> None:
        """Write down what a machine is made from."""
        write(self._directory(definition) / _RECORD, json.dumps(asdict(material), indent=1) + "\n")

    def foretell(self, definition: Definition) -> None:
        """Raise what stands in the way of fetch, as far as that can be known without the network."""
        cache = self._cache(self.material(definition))
        checksums = {definition.image: definition.image_checksum}
        for source in filter(None, (definition.image, definition.kernel, definition.initrd)):
            cache.foretold(source, checksums.get(source, ""))
        path = local_path(definition.image)
        if path is not None:
            overlay(str(path), disk(path), definition, target="")

    def fetch(self, definition: Definition) -> Material:
        """Return what a fresh disk is to be made from, with everything on this host."""
        known = self.material(definition)
        cache, directory = self._cache(known), self._directory(definition)
        image = cache.image(definition.image, definition.image_checksum, user=directory)
        others = {part: cache.image(part, "") for part in (definition.kernel, definition.initrd) if part}
        for note in (*image.notes, *(note for other in others.values() for note in other.notes)):
            self._warn(f"Machine {definition.key}: {note}")
        overlay(str(image.path), disk(image.path), definition, target="")  # refuses an image that does not fit
        facts = image.path.stat()
        return replace(
            known,
            image_cache=str(cache.directory),
            disk_cache=self._options.disk_cache or known.disk_cache,
            base=str(image.path),
            size=facts.st_size,
            changed=facts.st_mtime_ns,
            kernel=str(others[definition.kernel].path) if definition.kernel else "",
            initrd=str(others[definition.initrd].path) if definition.initrd else "",
        )

    def renew(self, definition: Definition, material: Material, *, instance_id: str) -> None:
        """Make a fresh disk and a seed; the host key stays."""
        directory = self._directory(definition)
        make_directory(directory)
        if shutil.disk_usage(directory).free < RESERVE:
            raise disk_full(directory, RESERVE)
        command = overlay(BASE, disk(Path(material.base)), definition, target=str(directory / DISK))
        rotate(directory / CONSOLE)
        (directory / DISK).unlink(missing_ok=True)
        for name, source in ((BASE, material.base), (KERNEL, material.kernel), (INITRD, material.initrd)):
            keep(source, directory / name)
        run(command, doing=f"make the disk of machine {definition.key}")
        (directory / DISK).chmod(0o600)
        private, public = host_key(directory)
        seed = files(definition, instance_id=instance_id, host_key_private=private, host_key_public=public)
        write_iso(seed, directory / SEED)
        self.note(definition, material)

    def check(self, definition: Definition) -> Material:
        """Return what the machine's disk was made from; raises Invalid when that is not what it was."""
        material = self.material(definition)
        try:
            facts = (self._directory(definition) / BASE).stat()
        except OSError:
            raise self._unsound(definition, f"its image {material.base} is gone", "ImageUnavailable") from None
        if (facts.st_size, facts.st_mtime_ns) != (material.size, material.changed):
            raise self._unsound(definition, f"its image {material.base} has been changed", "ImageChanged")
        return material

    @staticmethod
    def _unsound(definition: Definition, cause: str, code: str) -> Invalid:
        return Invalid(
            f"Failed to start machine {definition.key}: {cause}, and its disk builds on it. Recreate the machine.",
            code=code,
        )

    def _directory(self, definition: Definition) -> Path:
        return self._places.directory(definition.namespace, definition.name)

    def _cache(self, known: Material) -> Cache:
        option = self._options.image_cache or known.image_cache
        return Cache(cache_directory(option, os.environ), Limits())


def keep(source: str, link: Path) -> None:
    """Let a file stay for a machine, whoever removes it elsewhere: a hard link where that can be, else a symbolic one.

    Without a source there is no link.
    """
    link.unlink(missing_ok=True)
    if not source:
        return
    try:
        link.hardlink_to(source)
    except OSError:  # another file system, or somebody else's file
        link.symlink_to(source)


def rotate(console: Path) -> None:
    """Begin a new console log; a few older ones are kept."""
    if not console.exists():
        return
    names = [console, *(console.with_name(f"{console.name}.{number}") for number in range(1, KEPT_CONSOLES + 1))]
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        if newer.exists():
            newer.replace(older)


def rotate_large(console: Path) -> None:
    """Begin a new console log when the one that is there has become long."""
    if console.exists() and console.stat().st_size > LONGEST_CONSOLE:
        rotate(console)
