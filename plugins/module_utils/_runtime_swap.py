# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Swap off, now and at the next boot, whoever turns it on: fstab, a systemd unit, a generator or a service.

PRIVATE to the collection. The plan is pure; in a container the swap is the host's, and nothing is done.
"""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

MARK = "# off for the kubelet (stargate): "

_UNIT_PLACES = (
    "/etc/systemd/system",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
    "/usr/lib/systemd/system",
)
_SERVICES = ("zramswap.service", "dphys-swapfile.service", "systemd-zram-setup@.service")
_ZRAM_GENERATOR = "/usr/lib/systemd/system-generators/zram-generator"
_ZRAM_FILE = "/etc/systemd/zram-generator.conf"


def ensure(ledger: Ledger) -> None:
    """Have no swap, and none at the next boot."""
    host = ledger.host
    active = active_swap(host.text("/proc/swaps") or "")
    if host.is_container:
        if active:
            ledger.warnings.append("The host of this container has swap: a kubelet that refuses swap will not start.")
        return
    fstab = host.text("/etc/fstab")
    if fstab is not None:
        ledger.file("/etc/fstab", without_swap(fstab), host.mode("/etc/fstab") or 0o644)
    for unit in units_to_mask(host):
        _mask(ledger, unit)
    if host.path(_ZRAM_GENERATOR).exists():
        ledger.file(_ZRAM_FILE, MARK.rstrip(": ") + "\n", owes=["reload"])
    ledger.reload()
    if active:
        ledger.do("swap off", lambda: host.must(["swapoff", "-a"], "turn swap off", timeout=300))


def active_swap(swaps: str) -> list[str]:
    """Return what the machine swaps to, from the text of /proc/swaps."""
    return [line.split()[0] for line in swaps.splitlines()[1:] if line.strip()]


def without_swap(fstab: str) -> str:
    """Return an fstab whose swap entries are comments; only the third field decides, and nothing else changes."""
    lines = fstab.splitlines(keepends=True)
    return "".join(MARK + line.lstrip() if is_swap(line) else line for line in lines)


def is_swap(line: str) -> bool:
    """Whether a line of fstab is an entry of swap."""
    fields = line.split()
    return len(fields) >= 3 and not fields[0].startswith("#") and fields[2] == "swap"


def units_to_mask(host: Host) -> list[str]:
    """Return the units that would turn swap on and are not masked yet, other than those that stand for fstab."""
    found = {path.name for place in _UNIT_PLACES for path in host.path(place).glob("*.swap") if not _is_of_fstab(path)}
    found.update(name for name in _SERVICES if host.path(f"/usr/lib/systemd/system/{name}").exists())
    return sorted(name for name in found if not _is_masked(host, name))


def _is_of_fstab(unit: Path) -> bool:
    try:
        return bool(re.search(r"^SourcePath=/etc/fstab$", unit.read_text(encoding="utf-8"), re.MULTILINE))
    except OSError:
        return False


def _is_masked(host: Host, name: str) -> bool:
    path = host.path(f"/etc/systemd/system/{name}")
    return path.is_symlink() and str(path.readlink()) == "/dev/null"


def _mask(ledger: Ledger, name: str) -> None:
    ledger.memory.owe("reload")
    path = ledger.host.path(f"/etc/systemd/system/{name}")

    def act() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")

    ledger.do(f"{name} masked", act)
