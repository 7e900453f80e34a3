# SPDX-License-Identifier: Apache-2.0
"""Operations from `kubectl apply` to their end: real API server, real ansible-playbook, real sshd, the mock datacenter.

One test per thing that a user sees; what goes wrong stands in test_bad_input.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon import Cluster, DaemonProcess, operation, profile, server
from tests.integration.datacenter import MockDatacenter
from tests.integration.sshd import SshHost

HELLO = """- name: Say hello
  hosts: all
  gather_facts: false
  tasks:
    - name: Leave a greeting
      ansible.builtin.command: touch {directory}/hello-{{{{ inventory_hostname_short }}}}
"""


def secret(key: str, user: str) -> dict[str, Any]:
    """Return the Secret with SSH credentials that the profile of `with_ssh` names."""
    data = {"privateKey": key, "username": user}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ssh"}, "stringData": data}


@pytest.fixture
def operations(tmp_path: Path) -> Path:
    """Return a directory with the six-line operation `hello`."""
    directory = tmp_path / "operations"
    directory.mkdir()
    (directory / "hello.yml").write_text(HELLO.format(directory=tmp_path), encoding="utf-8")
    return directory


def on_hosts(hosts: list[SshHost]) -> list[dict[str, Any]]:
    """Return a Server per sshd host."""
    return [server(f"s{n}", sshPort=host.port) for n, host in enumerate(hosts)]


def test_repave_goes_through_the_datacenter(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """An Operation goes Pending, Running with its job's id, Succeeded; the Server is ready with the profile's OS."""
    datacenter.start("--speed", "20")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("server-001", provider="dc-api"), profile("os-2-0-0"))
    cluster.apply(operation("repave", "server-001", "repave", provisioningProfileRef={"name": "os-2-0-0"}))
    status = cluster.phase("repave", "Succeeded")
    assert status["dcJobID"].startswith("job-")
    assert (status["attempts"], status["result"]["os"]) == (1, "2.0.0")
    machine = cluster.status("server", "server-001")
    assert (machine["state"], machine["currentOS"], machine["os"]) == ("ready", "2.0.0", "2.0.0")
    assert machine["appliedProvisioningProfile"] == "os-2-0-0"
    assert "activeOperation" not in machine
    assert cluster.events("repave") == ["Started", "Succeeded"]


def test_kubectl_wait_returns(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """`kubectl wait --for=condition=Complete` returns when an Operation has Succeeded."""
    datacenter.start("--speed", "20")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), profile(), operation("r", "s", "reboot"))
    said = cluster.run("wait", "--for=condition=Complete", "operation/r", "--timeout=30s")
    assert "condition met" in said


def test_a_person_adds_an_operation(
    cluster: Cluster,
    daemon: DaemonProcess,
    tmp_path: Path,
    operations: Path,
    key: str,
    ssh_hosts: Callable[[int], list[SshHost]],
) -> None:
    """A six-line playbook in a directory is an operation; it runs on three real hosts over SSH, in one run."""
    hosts = ssh_hosts(3)
    daemon.start("--operations-dir", str(operations))
    cluster.apply(secret(key, hosts[0].user), profile(sshCredentialsSecretRef="ssh"), *on_hosts(hosts))
    names = [f"hello-s{n}" for n in range(3)]
    reference = {"name": "profile"}
    cluster.apply(*[operation(f"hello-s{n}", f"s{n}", "hello", provisioningProfileRef=reference) for n in range(3)])
    ended = [cluster.phase(name, "Succeeded", seconds=60) for name in names]
    assert all((tmp_path / name).exists() for name in names)
    assert len({status["runID"] for status in ended}) < 3
    assert cluster.status("server", "s0")["sshHostKeys"][0].split()[1] == "ssh-ed25519"


def test_a_dropped_in_playbook_needs_no_restart(cluster: Cluster, daemon: DaemonProcess, operations: Path) -> None:
    """An operation that was dropped in while the daemon runs is known at the next Operation."""
    daemon.start("--operations-dir", str(operations))
    cluster.apply(server("s"), operation("first", "s", "later"))
    cluster.phase("first", "Failed")
    later = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.meta: noop\n"
    later += "    - ansible.builtin.debug:\n        msg: fine\n"
    (operations / "later.yml").write_text(later, encoding="utf-8")
    cluster.apply(operation("second", "s", "later"))
    cluster.phase("second", "Succeeded")


def test_two_operations_on_one_server_take_turns(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """The second Operation on a Server waits, says for whom, and runs afterwards."""
    datacenter.start("--speed", "10")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), profile())
    cluster.apply(operation("a", "s", "repave", provisioningProfileRef={"name": "profile"}))
    cluster.phase("a", "Running")
    cluster.apply(operation("b", "s", "reboot"))
    waiting = cluster.until("b", lambda status: status.get("message"))
    assert waiting["message"] == "Waits for Operation a to end on Server s."
    first, second = cluster.phase("a", "Succeeded"), cluster.phase("b", "Succeeded")
    assert first["completionTime"] <= second["startTime"]


def test_one_process_serves_two_datacenters(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter, tmp_path: Path
) -> None:
    """Servers go to the datacenter that their annotation names, out of those that the daemon was given."""
    west, east = datacenter.start("--speed", "20"), MockDatacenter(tmp_path / "east").start("--speed", "20")
    daemon.start("--dc-api-url", f"dc-west={west.url}", "--dc-api-url", f"dc-east={east.url}")
    for name in ("west", "east"):
        machine = server(name, provider="dc-api")
        machine["metadata"]["annotations"] = {"stargate.io/datacenter": f"dc-{name}"}
        cluster.apply(profile(), machine, operation(name, name, "reboot"))
    try:
        ids = {name: cluster.phase(name, "Succeeded")["dcJobID"] for name in ("west", "east")}
    finally:
        east.stop()
    assert ids["west"] in (west.directory / "jobs.json").read_text(encoding="utf-8")
    assert ids["east"] in (east.directory / "jobs.json").read_text(encoding="utf-8")


def test_once_drains_and_exits(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """--once ends with 0 when all Succeeded, and with 3 when something still waits."""
    datacenter.start("--speed", "20")
    cluster.apply(server("s", provider="dc-api"), profile(), operation("r", "s", "reboot"))
    done = daemon.once("--dc-api-url", datacenter.url)
    assert done.returncode == 0, done.stderr
    assert "1 Succeeded" in done.stderr
    cluster.apply(operation("lost", "nowhere", "reboot"))
    waiting = daemon.once("--dc-api-url", datacenter.url)
    assert waiting.returncode == 3, waiting.stderr
    assert "Server nowhere does not exist" in waiting.stderr


def test_dry_run_writes_nothing(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """--dry-run prints what would be done and touches neither cluster nor datacenter."""
    cluster.apply(server("s", provider="dc-api"), profile(), operation("r", "s", "reboot"))
    done = daemon.once("--dry-run", "--dc-api-url", datacenter.url)
    assert done.returncode == 0, done.stderr
    assert "reboot on Server s" in done.stdout
    assert cluster.status("operation", "r") == {"phase": "Pending"}


def test_a_finished_operation_is_deleted_after_its_time(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """ttlSecondsAfterFinished deletes a finished Operation and nothing else."""
    datacenter.start("--speed", "20")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), operation("kept", "s", "reboot"))
    cluster.apply(operation("gone", "s", "reboot", ttlSecondsAfterFinished=1))
    cluster.run("wait", "--for=delete", "operation/gone", "--timeout=30s")
    assert cluster.phase("kept", "Succeeded")
