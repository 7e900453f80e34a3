# SPDX-License-Identifier: Apache-2.0
"""Nothing grows with the number of Operations: descriptors, threads, memory, run directories, bytes on the disk.

STARGATE_GROWTH_OPERATIONS=1000 makes the long measurement of it (CONTRIBUTING.md).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.integration.daemon import Cluster, DaemonProcess, operation, server

OPERATIONS = int(os.environ.get("STARGATE_GROWTH_OPERATIONS", "60"))
BATCH = 20
WARM_UP = BATCH
"""Operations after which everything that is loaded once has been loaded."""
QUIET = """- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: done
"""
ALLOWED = {"descriptors": 6, "threads": 3, "kilobytes": 40_000, "in_memory": 0}
"""How much more there may be at the end than after the warm-up, however many Operations lie between."""
KEPT_RUNS = 50


@dataclass(frozen=True)
class Sample:
    """What a daemon has after so many Operations."""

    operations: int
    descriptors: int
    threads: int
    kilobytes: int
    runs: int
    run_bytes: int
    in_memory: int
    """Private directories of runs."""


def sample(daemon: DaemonProcess, operations: int) -> Sample:
    """Look at a daemon from outside."""
    assert daemon.process is not None
    proc = Path(f"/proc/{daemon.process.pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    runs = daemon.directory / "runs"
    mine = [path for path in Path("/dev/shm").glob("sg-*/owner") if _is_of(path, daemon.process.pid)]  # noqa: S108 - where runs have their secrets
    return Sample(
        operations=operations,
        descriptors=len(list((proc / "fd").iterdir())),
        threads=int(status["Threads"]),
        kilobytes=int(status["VmRSS"].split()[0]),
        runs=len(list(runs.iterdir())),
        run_bytes=sum(path.stat().st_size for path in runs.rglob("*") if path.is_file()),
        in_memory=len(mine),
    )


def _is_of(path: Path, pid: int) -> bool:
    try:
        return path.read_text().split()[0] == str(pid)
    except (OSError, IndexError):
        return False


def run_batch(cluster: Cluster, number: int) -> None:
    """Run an Operation on each Server, wait for all, and delete them."""
    names = [f"o{number}-{n}" for n in range(BATCH)]
    cluster.apply(*[operation(name, f"s{n}", "quiet") for n, name in enumerate(names)])
    for name in names:
        cluster.phase(name, "Succeeded", seconds=120)
    cluster.run("delete", "operations", "--all", "--wait=false")


@pytest.mark.timeout(60 + OPERATIONS * 4)
def test_nothing_grows(cluster: Cluster, daemon: DaemonProcess, tmp_path: Path) -> None:
    """After a warm-up, more Operations leave the daemon with no more than it had; run directories are bounded."""
    (tmp_path / "quiet.yml").write_text(QUIET, encoding="utf-8")
    daemon.start("--operations-dir", str(tmp_path), "--lease-seconds", "30")
    cluster.apply(*[server(f"s{n}") for n in range(BATCH)])
    samples: list[Sample] = []
    for number in range(OPERATIONS // BATCH):
        run_batch(cluster, number)
        done = (number + 1) * BATCH
        if done == WARM_UP or done % 100 == 0 or done == OPERATIONS // BATCH * BATCH:
            samples.append(sample(daemon, done))
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "growth.json").write_text(json.dumps([asdict(item) for item in samples], indent=1))
    first, last = asdict(samples[0]), asdict(samples[-1])
    grown = {key: last[key] - first[key] for key, most in ALLOWED.items() if last[key] - first[key] > most}
    assert grown == {}, samples
    assert last["runs"] <= KEPT_RUNS + 1
