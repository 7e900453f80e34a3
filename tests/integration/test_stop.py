# SPDX-License-Identifier: Apache-2.0
"""A stop is a stop: whatever ends a run, within two seconds nothing of it is left, here or on the host.

The hosts are real sshd with processes of their own, which are counted; the time is counted from the outside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.apart import ApartHost, carriers
from tests.integration.daemon import Cluster, DaemonProcess, operation, profile
from tests.integration.sshd import free_port
from tests.integration.test_operations import on_hosts, secret
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with processes of their own need root"),
    pytest.mark.timeout(400),
]
WITHIN = 2.0
REF = {"name": "profile"}
DOUBLE_FORK = "import os, time; os.fork() or (os.setsid(), os.fork(), os.environ.clear()); time.sleep(300)"
WORK = {
    "step": {"stargate.core.operation_step": {"name": "work", "argv": ["sh", "-c", "setsid sleep 300 & sleep 300"]}},
    "forks": {
        "stargate.core.operation_step": {"name": "work", "argv": [sys.executable, "-c", DOUBLE_FORK]},
        "become": True,
        "become_method": "su",
    },
    "plain": {"ansible.builtin.command": {"argv": ["sh", "-c", "setsid sleep 300 & sleep 300"]}},
    "local": {"ansible.builtin.command": {"argv": ["sleep", "300"]}, "delegate_to": "localhost"},
}


@pytest.fixture
def host(tmp_path: Path, key: str) -> Iterator[ApartHost]:
    """Return a host that lets the key in."""
    del key
    made = ApartHost(tmp_path / "host", free_port(), (tmp_path / "key.pub").read_text(encoding="utf-8"))
    yield made.start()
    made.stop()


@pytest.fixture
def working(
    cluster: Cluster, daemon: DaemonProcess, host: ApartHost, tmp_path: Path, key: str
) -> Callable[..., dict[str, Any]]:
    """Return what has an Operation at work: its status, once its work runs."""
    cluster.apply(secret(key, host.user), profile(sshCredentialsSecretRef="ssh"), *on_hosts([host]))

    def begin(work: str, *flags: str, **spec: Any) -> dict[str, Any]:
        (tmp_path / "operations").mkdir()
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Work", **WORK[work]}]}]
        (tmp_path / "operations" / "work.yml").write_text(json.dumps(play), encoding="utf-8")
        daemon.start("--operations-dir", str(tmp_path / "operations"), *flags)
        cluster.apply(operation("o", "s0", "work", provisioningProfileRef=REF, **spec))
        status = cluster.until("o", lambda said: said.get("runID"), seconds=90)
        until(lambda: any("sleep" in line and "300" in line for line in everything(host, status)), seconds=120)
        return status

    return begin


def everything(host: ApartHost, status: dict[str, Any]) -> list[str]:
    """Return the command line of all that is left of a run: what works on the host, and what bears its mark here."""
    return [*host.workers().values(), *carriers(f"STARGATE_RUN_ID={status['runID']}").values()]


def gone(host: ApartHost, status: dict[str, Any], began: float) -> float:
    """Return how long it took from `began` until nothing was left of a run; fails with what is left."""
    while left := everything(host, status):
        assert time.monotonic() - began < 15, left
        time.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("work", WORK)
def test_cancel(working: Callable[..., dict[str, Any]], cluster: Cluster, host: ApartHost, work: str) -> None:
    """A cancelled Operation leaves no process: steps, double forks without an environment, anybody's command, here."""
    status = working(work, "--lease-seconds", "20")
    cluster.run("patch", "operation", "o", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    assert gone(host, status, time.monotonic()) < WITHIN
    assert cluster.phase("o", "Failed")["conditions"][0]["reason"] == "Cancelled"


def test_deadline(working: Callable[..., dict[str, Any]], cluster: Cluster, host: ApartHost) -> None:
    """An Operation that takes too long is stopped like one that is cancelled."""
    status = working("step", "--lease-seconds", "20", activeDeadlineSeconds=30)
    cluster.phase("o", "Failed", seconds=60)
    assert gone(host, status, time.monotonic()) < WITHIN


def test_sigterm(working: Callable[..., dict[str, Any]], daemon: DaemonProcess, host: ApartHost) -> None:
    """A daemon that is told to end gives its runs the time it was told to, and then ends them."""
    status = working("step", "--drain-seconds", "2", "--lease-seconds", "20")
    began = time.monotonic()
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert everything(host, status)
    assert gone(host, status, began + 2) < WITHIN


def test_lost_lease(
    working: Callable[..., dict[str, Any]], daemon: DaemonProcess, host: ApartHost, control_plane: Any
) -> None:
    """A leader that cannot renew has ended its work, on the hosts as well, before anybody else can lead."""
    status = working("plain")
    control_plane.stop_apiserver()
    try:
        assert gone(host, status, time.monotonic()) < 5.0
        assert daemon.process is not None
        assert daemon.process.wait(15) == 1
    finally:
        control_plane.start_apiserver()


@pytest.mark.parametrize("victims", ["daemon", "everything here", "connection"])
def test_killed(working: Callable[..., dict[str, Any]], daemon: DaemonProcess, host: ApartHost, victims: str) -> None:
    """Killed without warning, the daemon alone, or with all of its run's processes, it leaves nothing on the host."""
    status = working("forks")
    assert daemon.process is not None
    began = time.monotonic()
    mark = f"STARGATE_RUN_ID={status['runID']}"
    if victims == "connection":
        daemon.process.send_signal(signal.SIGSTOP)
    else:
        daemon.kill()
    for pid, line in carriers(mark).items() if victims != "daemon" else ():
        if victims != "connection" or "ssh" in line:
            os.kill(pid, signal.SIGKILL)
    until(lambda: not host.workers(), seconds=15)
    assert time.monotonic() - began < WITHIN
