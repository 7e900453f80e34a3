# SPDX-License-Identifier: Apache-2.0
"""Nothing grows with the number of Operations: descriptors, threads, memory, run directories, bytes on the disk.

STARGATE_GROWTH_OPERATIONS=1000 makes the long measurement of it (CONTRIBUTING.md).
"""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.integration.daemon import Cluster, DaemonProcess, operation, server
from tests.integration.remains import KEPT_RUNS, private_directories

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
SETTLED = 200
"""Operations after which the allocator has what it needs: from here on a slope is measured."""
MEASURED = ("descriptors", "threads", "kilobytes", "runs", "run_bytes")
SLOPES = {"descriptors": 2.0, "threads": 1.0, "kilobytes": 4_000.0}
"""How much more there may be per 1,000 Operations. 4 MB are 4 KB for each: one status or log line that is kept."""


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
    return Sample(
        operations=operations,
        descriptors=len(list((proc / "fd").iterdir())),
        threads=int(status["Threads"]),
        kilobytes=int(status["VmRSS"].split()[0]),
        runs=len(list(runs.iterdir())),
        run_bytes=sum(path.stat().st_size for path in runs.rglob("*") if path.is_file()),
        in_memory=len(private_directories(daemon.process.pid)),
    )


def slopes(samples: list[Sample]) -> dict[str, float]:
    """Return how much more there is per 1,000 Operations, by the straight line through the settled samples."""
    settled = [item for item in samples if item.operations >= SETTLED]
    if len(settled) < 3:
        return {}
    done = [item.operations for item in settled]
    lines = {name: statistics.linear_regression(done, [getattr(item, name) for item in settled]) for name in MEASURED}
    return {name: round(line.slope * 1000, 1) for name, line in lines.items()}


def record(samples: list[Sample]) -> dict[str, float]:
    """Print the samples and their slopes, write them to build/growth.json; returns the slopes."""
    per_1000 = slopes(samples)
    said = {"samples": [asdict(item) for item in samples], "per_1000_operations": per_1000}
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "growth.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print(*samples, f"per 1,000 Operations from number {SETTLED} on: {per_1000}", sep="\n")
    return per_1000


def run_batch(cluster: Cluster, number: int) -> None:
    """Run an Operation on each Server, wait for all, and delete them."""
    names = [f"o{number}-{n}" for n in range(BATCH)]
    cluster.apply(*[operation(name, f"s{n}", "quiet") for n, name in enumerate(names)])
    until, phases = time.monotonic() + 600, ["get", "operations", "-o", "jsonpath={.items[*].status.phase}"]
    while (found := cluster.run(*phases)).split().count("Succeeded") < BATCH:  # one question for all of them
        assert time.monotonic() < until, found
        time.sleep(1)
    cluster.run("delete", "operations", "--all", "--wait=false")


@pytest.mark.timeout(180 + OPERATIONS * 4)
def test_nothing_grows(cluster: Cluster, daemon: DaemonProcess, tmp_path: Path) -> None:
    """After a warm-up, more Operations leave the daemon with no more than it had; run directories are bounded."""
    (tmp_path / "quiet.yml").write_text(QUIET, encoding="utf-8")
    daemon.start("--operations-dir", str(tmp_path), "--lease-seconds", "300")
    cluster.apply(*[server(f"s{n}") for n in range(BATCH)])
    samples: list[Sample] = []
    for number in range(OPERATIONS // BATCH):
        run_batch(cluster, number)
        done = (number + 1) * BATCH
        if done == WARM_UP or done % 100 == 0 or done == OPERATIONS // BATCH * BATCH:
            samples.append(sample(daemon, done))
    per_1000 = record(samples)
    first, last = asdict(samples[0]), asdict(samples[-1])
    grown = {key: last[key] - first[key] for key, most in ALLOWED.items() if last[key] - first[key] > most}
    assert grown == {}, samples
    assert {name: per_1000[name] for name, most in SLOPES.items() if per_1000.get(name, 0) > most} == {}, samples
    assert last["runs"] <= KEPT_RUNS + 1
