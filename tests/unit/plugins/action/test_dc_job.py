# SPDX-License-Identifier: Apache-2.0
"""dc_job and the operations that use it, in real ansible-playbook processes against the real mock.

What the client does with odd answers is tested beside module_utils; here it is what a run shows and reports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler.mock_dc.server import MockDatacenter
from stargate_reconciler.mock_dc.settings import Settings

OPERATIONS = Path(__file__).parents[4] / "playbooks" / "operations"
PROGRAM = str(Path(sys.executable).parent / "ansible-playbook")
# A callback that writes (task, host, result) per line: what the reconciler sees of a run.
RECORD = """
import json, os
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "record"
    def write(self, result, **_):
        task, facts = result._task.get_name(), json.loads(self._dump_results(result._result))
        with open(os.environ["RECORD"], "a") as out:
            out.write(json.dumps([task, result._host.get_name(), facts]) + "\\n")
    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = write
"""

Events = list[tuple[str, str, dict[str, Any]]]
Play = Callable[..., tuple[int, Events]]


@pytest.fixture
def dc(tmp_path: Path) -> Iterator[MockDatacenter]:
    """Return a mock datacenter that asks for a token and does a repave in 0.3 s."""
    (tmp_path / "token").write_text("canary-token")
    server = MockDatacenter(Settings(port=0, speed=100, admin=True, token_file=tmp_path / "token"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def play(dc: MockDatacenter, tmp_path: Path) -> Play:
    """Return what runs an operation over hosts of this datacenter; the token may not be printed, however loud."""
    (tmp_path / "record.py").write_text(RECORD)
    record = tmp_path / "record.jsonl"
    ansible = {"ANSIBLE_CALLBACK_PLUGINS": str(tmp_path), "ANSIBLE_CALLBACKS_ENABLED": "record", "RECORD": str(record)}

    def run(operation: str, *flags: str, hosts: int = 1, **hostvars: Any) -> tuple[int, Events]:
        known = {"stargate_dc": {"url": dc.url, "token_file": str(tmp_path / "token")}, "stargate_operation": {}}
        inventory = {"all": {"hosts": {f"s{number}.dc": {**known, **hostvars} for number in range(hosts)}}}
        (tmp_path / "inventory.json").write_text(json.dumps(inventory))
        record.write_text("")
        command = [PROGRAM, "-vvvv", "-i", str(tmp_path / "inventory.json"), *flags, str(OPERATIONS / operation)]
        done = subprocess.run(command, env={**os.environ, **ansible}, capture_output=True, text=True, check=False)
        assert "canary-token" not in done.stdout + done.stderr + record.read_text()
        assert "WARNING" not in done.stdout + done.stderr
        return done.returncode, [json.loads(line) for line in record.read_text().splitlines()]

    return run


def reported(events: Events, host: str = "s0.dc") -> list[dict[str, Any]]:
    """Return what a host reported through set_stats, in order."""
    found = [facts["ansible_stats"] for _, name, facts in events if name == host and "ansible_stats" in facts]
    assert all((stats["per_host"], stats["aggregate"]) == (True, False) for stats in found)
    return [stats["data"]["stargate"] for stats in found]


def test_repave(play: Play, dc: MockDatacenter) -> None:
    """Each host reports its job early and its system at the end; text that looks like a template stays text."""
    odd = {"__ansible_unsafe": "{{ lookup('pipe', 'id') }}"}  # as the inventory plugin marks what comes from a CR
    profile = {"spec": {"osVersion": "2.0.0", "cloudInit": odd, "osImage": odd}}
    code, events = play("repave.yml", "-f5", hosts=5, stargate_profile=profile)
    assert code == 0
    for number in range(5):
        early, final = reported(events, f"s{number}.dc")
        assert (early["dcJobID"], "final" in early) == (final["dcJobID"], False)
        assert (final["os"], final["final"]) == ("2.0.0", True)
    kept = dc.book._jobs.values()
    assert {job.request["osImage"] for job in kept} == {"{{ lookup('pipe', 'id') }}"}
    assert {job.request_id[:12] for job in kept} == {f"s{number}.dc-repave"[:12] for number in range(5)}


def test_the_request_id_is_the_operation_s(play: Play, dc: MockDatacenter) -> None:
    """Run twice for one Operation, the same job is found again; the system's name comes from the profile."""
    hostvars = {"stargate_operation": {"request_id": "uid-1"}, "stargate_name": "server-001"}
    spec = {"kubernetesVersion": "1.34"}
    first = reported(play("repave.yml", **hostvars, stargate_profile={"spec": spec})[1])[-1]
    second = reported(play("repave.yml", **hostvars, stargate_profile={"spec": {**spec, "osVersion": "3"}})[1])[-1]
    assert (first["os"], second["os"], first["dcJobID"]) == ("k8s-1.34", "3", second["dcJobID"])
    jobs = dc.book.jobs()
    assert [(job["requestId"], job["serverId"]) for job in jobs] == [("uid-1", "server-001")]


def test_check_mode_starts_nothing(play: Play, dc: MockDatacenter) -> None:
    """With --check no job is started and no system is reported."""
    code, events = play("repave.yml", "--check", stargate_profile={"spec": {"osVersion": "2.0.0"}})
    assert (code, dc.book.jobs()) == (0, [])
    assert "os" not in reported(events)[-1]


@pytest.mark.parametrize(
    ("hostvars", "code", "retryable"),
    [
        ({"stargate_dc": {}}, "DatacenterUnknown", False),
        ({"datacenter_job_deadline": "soon"}, "Invalid", False),
        ({"stargate_dc": {"url": "http://127.0.0.1:9"}, "datacenter_job_unreachable_after": 0.2}, "Unreachable", True),
    ],
)
def test_failures_are_reported_at_once(play: Play, *, hostvars: dict[str, Any], code: str, retryable: bool) -> None:
    """A failed task carries its code, and the rescue reports the task, the sentence and whether a retry may help."""
    exit_code, events = play("repave.yml", **hostvars)
    failed = next(facts for _, _, facts in events if "failure" in facts)
    assert (exit_code, failed["failure"]["code"], failed["failure"]["retryable"]) == (2, code, retryable)
    expected = {"failed": True, "task": "Submit the job", "message": failed["msg"], "retryable": retryable}
    assert reported(events) == [expected]
    assert events[-1][2]["msg"] == failed["msg"]


def test_a_failed_job_is_reported(play: Play, dc: MockDatacenter) -> None:
    """When the job fails, the host fails in the task that waits."""
    dc.book.set_faults({"failure_rate": 1.0})
    code, events = play("repave.yml")
    early, late = reported(events)
    assert (code, late["failed"], late["task"], late["retryable"]) == (2, True, "Wait for the job", True)
    assert early["dcJobID"] in late["message"]


def test_reboot_through_the_api(play: Play, dc: MockDatacenter) -> None:
    """A host with a datacenter is rebooted by a job, which reports no system."""
    code, events = play("reboot.yml")
    final = reported(events)[-1]
    assert (code, final["final"], "os" in final) == (0, True, False)
    assert [job["type"] for job in dc.book.jobs()] == ["reboot"]
