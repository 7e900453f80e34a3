# SPDX-License-Identifier: Apache-2.0
"""A short soak: faults of every kind at real hosts, reconcilers and API server, and a handful of kill points.

The long one is `make soak`; its record is docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts in namespaces need root"),
    pytest.mark.timeout(900),
]


def played(part: str, *words: str) -> str:
    """Play a part of the soak; returns what it has said, fails when it has found a violation."""
    command = [sys.executable, "-m", part, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=850)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_faults_do_no_harm(tmp_path: Path) -> None:
    """Operations under a hundred faults: none lost, none done twice, none that lies, nothing left."""
    output = tmp_path / "soak.json"
    size = ("--seed", "7", "--ops", "24", "--faults", "100", "--hosts", "8", "--cancels", "4")
    played("soak", *size, "--output", str(output))
    said = json.loads(output.read_text(encoding="utf-8"))
    assert (said["violations"], said["survivors"]) == ([], 0)
    assert (said["operations"] >= 24, said["faults"] >= 100) == (True, True)


def test_a_kill_at_a_write_loses_nothing() -> None:
    """The reconciler is killed before and after its first writes of a scene; the Operation still ends as it should."""
    assert " 0 with a violation" in played("soak.points", "success", "--most", "6", "--lanes", "2")
