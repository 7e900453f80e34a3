# SPDX-License-Identifier: Apache-2.0
"""A root file system as what QEMU boots: a disk without partitions, kernel and initramfs beside it.

No loop device, no mount and no boot loader is needed: mkfs fills the file system, QEMU loads the kernel.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import commands, image_recipe
from stargate_reconciler.local.progress import Progress


def make(root: Path, directory: Path, *, log: Path, progress: Progress) -> None:
    """Make disk.qcow2, vmlinuz and initrd in `directory` out of a root file system."""
    _take(root, "vmlinuz-*", directory / "vmlinuz")
    _take(root, "initrd.img-*", directory / "initrd")
    raw = directory / "disk.raw"
    with progress.step("writing the file system into a disk"):
        with raw.open("wb") as file:
            file.truncate(_bytes(image_recipe.DISK_SIZE))
        options = ["-q", "-F", "-L", "root", "-E", "lazy_itable_init=0,nodiscard", "-d", str(root)]
        commands.run(["nice", "mkfs.ext4", *options, raw], log=log)
        commands.run(["nice", "qemu-img", "convert", "-O", "qcow2", raw, directory / "disk.qcow2"], log=log)
        raw.unlink()


def _take(root: Path, pattern: str, target: Path) -> None:
    found = sorted((root / "boot").glob(pattern))
    if not found:
        raise WorldError(f"there is no {pattern} in {root}/boot")
    shutil.copyfile(found[-1], target)


def _bytes(size: str) -> int:
    return int(size.removesuffix("G")) << 30
