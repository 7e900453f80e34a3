# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU can do on this host, found out by trying: virtual processors of the hardware, a switch for networks.

PRIVATE to the collection. A /dev/kvm that is there proves nothing: it may be forbidden, slower than no hardware at
all, or hang. The answer is kept for the boot in which it was found.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._machine import locked, write
from ansible_collections.stargate.core.plugins.module_utils._program import found
from ansible_collections.stargate.core.plugins.module_utils._qemu import PROGRAM

SLOWEST = 1.0
"""Seconds that the trial may take with the hardware, or five times as long as without it: it needs a tenth."""
_LONGEST = 20.0
_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DONE = 33  # QEMU's exit code after the boot sector has written 16 to the debug port
# cli; mov ecx, 2^18; dec ecx; jnz -4; mov al, 16; out 0xf4, al; hlt; jmp -3
_BOOT_SECTOR = bytes.fromhex("fa 66 b9 00 00 04 00 66 49 75 fc b0 10 e6 f4 f4 eb fd").ljust(510, b"\0") + b"\x55\xaa"


@dataclass(frozen=True)
class Ability:
    """What was found: `accel` is kvm or tcg, `reason` says why not kvm, `vde` whether QEMU can use a vde_switch."""

    accel: str
    reason: str
    vde: bool


def ability(machines_dir: Path) -> Ability:
    """Return what QEMU can do here, tried out once per boot and installation of QEMU."""
    program = Path(found(PROGRAM, doing="run virtual machines")).resolve()
    known_as = f"{_BOOT_ID.read_text().strip()} {program} {program.stat().st_mtime_ns}"
    record = machines_dir / "qemu-ability.json"
    with locked(machines_dir / ".qemu-ability.lock", "the trial of QEMU", 60.0):
        try:
            known = json.loads(record.read_text(encoding="utf-8"))
            if known["of"] == known_as:
                return Ability(**known["ability"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        answer = tried(program)
        write(record, json.dumps({"of": known_as, "ability": asdict(answer)}, indent=1) + "\n")
        return answer


def tried(program: Path, device: Path = _DEVICE) -> Ability:
    """Return what QEMU can do, by starting a machine that does nothing but count and switch itself off."""
    listing = subprocess.run([program, "-netdev", "help"], capture_output=True, text=True, timeout=30, check=False)
    vde = "vde" in listing.stdout.split()
    if not device.exists():
        return Ability("tcg", f"there is no {device}", vde)
    try:
        device.open("r+b", buffering=0).close()
    except OSError as error:
        return Ability("tcg", f"{device} cannot be opened ({error.strerror})", vde)
    plain = _seconds(program, "tcg", _LONGEST)
    limit = max(SLOWEST, 5 * plain)
    if _seconds(program, "kvm", limit) >= limit:
        return Ability("tcg", f"{device} is there but does not work, or is slower than no hardware", vde)
    return Ability("kvm", "", vde)


def _seconds(program: Path, accelerator: str, limit: float) -> float:
    """Return how long the trial took, `limit` when it failed or did not end in time."""
    with tempfile.TemporaryDirectory(prefix="stargate-") as scratch:
        disk = Path(scratch) / "disk"
        disk.write_bytes(_BOOT_SECTOR)
        command = [
            *(str(program), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-machine", "pc", "-accel", accelerator, "-m", "16"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive", f"file={disk},format=raw,if=ide"),
        ]
        began = time.monotonic()
        trial = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            code = trial.wait(limit)
        except subprocess.TimeoutExpired:
            trial.kill()
            with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it is left there
                trial.wait(2.0)
            return limit
        return time.monotonic() - began if code == _DONE else limit
