# SPDX-License-Identifier: Apache-2.0
"""A step on a machine with systemd, through sudo and a router: in a scope of its own, and gone with its connection.

No daemon is needed for it: ansible-playbook is killed as the kernel would. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.worker_site import NEEDS_ROOT, Worker, worker
from tests.waiting import until

pytestmark = NEEDS_ROOT
STEPS = {"service": ["systemd-run", "--unit=stays", "sleep", "400"]}
STEPS["work"] = ["sh", "-c", "env -i setsid sleep 300 & sleep 300"]
TASKS = [{"stargate.core.operation_step": {"name": name, "argv": argv}} for name, argv in STEPS.items()]
PLAY = [{"hosts": "all", "gather_facts": False, "become": True, "tasks": TASKS}]
SEEN_GONE = """echo watching
until [ "$(pgrep -cx sleep)" = 1 ]; do :; done
date +%s.%N
"""
"""Says when the last process of the work was gone; a machine has its host's clock."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Worker]:
    """Return a machine that has just been made."""
    with worker("stop") as made:
        yield made


def play(machine: Worker, directory: Path, operation: dict[str, object]) -> subprocess.Popen[bytes]:
    """Start ansible-playbook in a session of its own."""
    (directory / "play.yml").write_text(json.dumps(PLAY), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"{machine.name},"]
    command += ["-e", json.dumps({"stargate_operation": operation}), str(directory / "play.yml")]
    config = machine.prep.outputs(machine.site)["ssh_config"]
    environ = {
        "ANSIBLE_SSH_ARGS": f"-F {config} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_PIPELINING": "1",
    }
    environ |= {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory), "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
    log = (directory / "log").open("wb")
    return subprocess.Popen(command, env={**os.environ, **environ}, start_new_session=True, stdout=log, stderr=log)


@contextlib.contextmanager
def watching(machine: Worker) -> Iterator[subprocess.Popen[str]]:
    """Look at a machine's processes on the machine itself, without a pause; what it says comes from its output."""
    command = ["ssh", "-F", machine.prep.outputs(machine.site)["ssh_config"], machine.name, SEEN_GONE]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "watching\n"
            yield process
        finally:
            process.kill()


def test_it_ends_with_its_connection(machine: Worker, tmp_path: Path) -> None:
    """Killed here without warning, a step is gone on the machine; what it has asked systemd for stays."""
    uid = str(uuid.uuid4())
    machine.ssh("true")
    ansible = play(machine, tmp_path, {"uid": uid, "attempt": 1, "name": "o"})
    count = "pgrep -cx sleep || true"
    until(lambda: machine.ssh(count).strip() == "3", seconds=120, pause=0.05)
    assert f"stargate-{uid}.scope" in machine.ssh("systemctl list-units --type=scope --plain --no-legend")
    with watching(machine) as watch:
        killed = time.time()
        os.killpg(ansible.pid, signal.SIGKILL)
        left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
        for pid in left.stdout.split():
            with contextlib.suppress(ProcessLookupError):  # the connection that ssh keeps open, gone already maybe
                os.kill(int(pid), signal.SIGKILL)
        gone, _ = watch.communicate(timeout=60)
    assert float(gone) - killed < 2.0
    assert machine.ssh("pgrep -ax sleep").endswith(" 400")
    states = json.loads(machine.ssh("sudo cat /var/lib/stargate/operation.json"))["history"]
    assert [(entry["step"], entry["state"]) for entry in states] == [("service", "done"), ("work", "killed")]
    assert uid not in machine.ssh("systemctl list-units --type=scope --plain --no-legend")
