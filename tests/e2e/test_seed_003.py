# SPDX-License-Identifier: Apache-2.0
"""The QEMU quick start of seed 003, in its order and with its values: bridge, router, worker, Operation, Ready Node.

QEMU machines boot from nothing here, which takes minutes where there is no KVM. Runs as root in a network of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALONE = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "alone"]
"""A network with nothing but its loopback: the bridge of the machines is made in it, and goes with it."""


@pytest.mark.skipif(os.geteuid() != 0, reason="seed 003 bridges its machines, which needs root: sudo make test")
@pytest.mark.timeout(1200)
def test_the_qemu_quick_start_of_seed_003(tmp_path: Path) -> None:
    """prep-dc-inventory over stargate-br0 with 192.168.100.0/24 and user ubuntu, one repave, one Ready Node."""
    output = tmp_path / "e2e.json"
    story = ["scripts/e2e", "--provider", "qemu", "--network", "bridge", "--only-join", "--output", str(output)]
    subprocess.run([*ALONE, *story], cwd=ROOT, check=True)
    steps = json.loads(output.read_text(encoding="utf-8"))
    assert all(step["ok"] for step in steps)
    assert [step["step"] for step in steps][-1] == "join"
    assert "router and 1 worker" in [step["step"] for step in steps]
