# SPDX-License-Identifier: Apache-2.0
"""What QEMU can do here: with the real one, and with programs that behave as it does on worse hosts.

What a machine makes of the answer is test__qemu.py's.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _qemu_ability
from ansible_collections.stargate.core.plugins.module_utils._qemu_ability import Ability, ability, tried

REAL = Path(shutil.which("qemu-system-x86_64") or "/usr/bin/qemu-system-x86_64")
SCRIPT = """#!/bin/sh
case "$*" in
  *"-netdev help"*) printf 'Available netdev backend types:\\n%s\\n' {netdevs}; exit 0 ;;
  *"-accel kvm"*) {kvm} ;;
  *) exit 33 ;;
esac
"""


def program(place: Path, kvm: str, netdevs: str = "user") -> Path:
    """Return a program that stands for QEMU; `kvm` is what it does with the hardware."""
    path = place / "qemu-system-x86_64"
    path.write_text(SCRIPT.format(kvm=kvm, netdevs=netdevs), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Return a file that stands for /dev/kvm."""
    path = tmp_path / "kvm"
    path.touch()
    return path


def test_the_trial_works() -> None:
    """The real QEMU runs the boot sector to its end, without the hardware."""
    assert _qemu_ability._seconds(REAL, "tcg", 30) < 30


def test_the_real_one(tmp_path: Path) -> None:
    """The answer about this host comes within seconds whatever its /dev/kvm does, and is kept."""
    began = time.monotonic()
    answer = ability(tmp_path)
    assert time.monotonic() - began < 30
    assert (answer.accel == "kvm") == (answer.reason == "")
    record = tmp_path / "qemu-ability.json"
    kept = json.loads(record.read_text())
    kept["ability"]["reason"] = "kept"
    record.write_text(json.dumps(kept))
    assert ability(tmp_path).reason == "kept"
    kept["of"] = "another boot"
    record.write_text(json.dumps(kept))
    assert ability(tmp_path).reason != "kept"
    record.write_text("{")
    assert ability(tmp_path).accel == answer.accel


def test_working_hardware(tmp_path: Path, device: Path) -> None:
    """Hardware that ends the trial in time is used."""
    assert tried(program(tmp_path, "exit 33", "vde"), device) == Ability("kvm", "", True)


@pytest.mark.parametrize("kvm", ["sleep 30", "exit 1", "kill -9 $$"])
def test_hardware_that_does_not_work(tmp_path: Path, device: Path, kvm: str) -> None:
    """Hardware that hangs, refuses or crashes is not used, and that is known soon."""
    began = time.monotonic()
    answer = tried(program(tmp_path, kvm), device)
    assert (answer.accel, answer.vde) == ("tcg", False)
    assert "does not work" in answer.reason
    assert time.monotonic() - began < 5


def test_no_hardware(tmp_path: Path) -> None:
    """A device that is not there, or cannot be opened, is not tried."""
    quick = program(tmp_path, "sleep 30")
    assert tried(quick, tmp_path / "none").reason == f"there is no {tmp_path}/none"
    assert "cannot be opened" in tried(quick, tmp_path).reason
