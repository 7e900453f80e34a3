# SPDX-License-Identifier: Apache-2.0
"""What a user gets for what is wrong: a status that says what, which object, and what to do.

Nothing is half done, and nothing is tried again that cannot get better.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.daemon import Cluster, DaemonProcess, operation, profile, server
from tests.integration.datacenter import MockDatacenter
from tests.integration.sshd import SshHost
from tests.integration.test_operations import on_hosts, operations, secret

__all__ = ["operations"]

REF = {"name": "profile"}


def reason(status: dict[str, Any], kind: str = "Failed") -> str:
    """Return the reason of a condition."""
    return next((c["reason"] for c in status.get("conditions", ()) if c["type"] == kind), "")


def test_unknown_operation_lists_the_known_ones(cluster: Cluster, daemon: DaemonProcess) -> None:
    """An unknown operation fails at once and names those that there are."""
    daemon.start()
    cluster.apply(server("s"), operation("o", "s", "dance"))
    status = cluster.phase("o", "Failed")
    assert reason(status) == "UnknownOperation"
    assert "Unknown operation 'dance'" in status["message"]
    assert "repave" in status["message"]


def test_what_is_missing_is_waited_for(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """Apply order does not matter: Pending names what is missing, and the Operation goes on when it appears."""
    datacenter.start("--speed", "20")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF))
    cluster.until("o", lambda status: reason(status, "ReferencesResolved") == "ServerNotFound")
    cluster.apply(server("s", provider="dc-api"))
    cluster.until("o", lambda status: reason(status, "ReferencesResolved") == "ProfileNotFound")
    cluster.apply(profile(sshCredentialsSecretRef="ssh"))
    waiting = cluster.until("o", lambda status: reason(status, "ReferencesResolved") == "SecretNotFound")
    assert waiting["phase"] == "Pending"
    assert "Secret ssh" in waiting["message"]
    cluster.apply(secret("no key, none is needed", "root"))
    cluster.phase("o", "Succeeded")


def test_what_never_appears_fails_at_the_deadline(cluster: Cluster, daemon: DaemonProcess) -> None:
    """A Server that never comes is a failure at the Operation's deadline, not before."""
    daemon.start()
    cluster.apply(operation("o", "nowhere", "reboot", activeDeadlineSeconds=2))
    status = cluster.phase("o", "Failed")
    assert reason(status) == "ServerNotFound"
    assert "did not appear within 2 s" in status["message"]


def test_unknown_datacenter_is_named(cluster: Cluster, daemon: DaemonProcess) -> None:
    """Without an endpoint for its namespace an Operation waits and says which flag is missing."""
    daemon.start("--dc-api-url", "elsewhere=http://127.0.0.1:9")
    cluster.apply(server("s", provider="dc-api"), operation("o", "s", "reboot"))
    status = cluster.until("o", lambda status: reason(status, "ReferencesResolved") == "DatacenterUnknown")
    assert "--dc-api-url" in status["message"]


def test_unreachable_datacenter_is_retried_then_failed(cluster: Cluster, daemon: DaemonProcess) -> None:
    """An endpoint where nobody listens is a failure of the world: it says which URL, and counts its attempts."""
    daemon.start("--dc-api-url", "http://127.0.0.1:9")
    cluster.apply(server("s", provider="dc-api"), operation("o", "s", "reboot", activeDeadlineSeconds=8))
    status = cluster.phase("o", "Failed", seconds=90)
    assert "127.0.0.1:9" in status["message"] or reason(status) == "DeadlineExceeded"
    assert cluster.status("server", "s")["state"] == "error"


def test_a_job_that_fails_is_retried_with_a_new_job(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """A failed job is retried up to retryLimit, with a request id of its own each time."""
    datacenter.start("--speed", "30", "--failure-rate", "1")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), profile())
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF, retryLimit=1))
    status = cluster.phase("o", "Failed", seconds=60)
    assert (status["attempts"], status["failures"]) == (2, 1)
    jobs = (datacenter.directory / "jobs.json").read_text(encoding="utf-8")
    assert jobs.count('"id":"job-') == 2
    assert cluster.status("server", "s")["state"] == "error"


def test_an_unreachable_host_is_a_failure(
    cluster: Cluster,
    daemon: DaemonProcess,
    operations: Path,
    key: str,
    ssh_hosts: Callable[[int], list[SshHost]],
) -> None:
    """A dead host fails by name and with its reason, and does not hold up the live ones of its run."""
    hosts = ssh_hosts(2)
    hosts[1].stop()
    daemon.start("--operations-dir", str(operations))
    cluster.apply(secret(key, hosts[0].user), profile(sshCredentialsSecretRef="ssh"), *on_hosts(hosts))
    for n in range(2):
        cluster.apply(operation(f"o{n}", f"s{n}", "hello", provisioningProfileRef=REF, retryLimit=0))
    cluster.phase("o0", "Succeeded")
    status = cluster.phase("o1", "Failed")
    assert reason(status) == "Unreachable"
    assert "Server s1 was not reached" in status["message"]


def test_a_changed_host_key_is_refused(
    cluster: Cluster,
    daemon: DaemonProcess,
    operations: Path,
    key: str,
    ssh_hosts: Callable[[int], list[SshHost]],
) -> None:
    """A key is pinned at first contact; another machine at the same address gets no command."""
    (host,) = ssh_hosts(1)
    daemon.start("--operations-dir", str(operations))
    cluster.apply(secret(key, host.user), profile(sshCredentialsSecretRef="ssh"), *on_hosts([host]))
    cluster.apply(operation("first", "s0", "hello", provisioningProfileRef=REF))
    cluster.phase("first", "Succeeded")
    host.new_host_key()
    cluster.apply(operation("second", "s0", "hello", provisioningProfileRef=REF))
    status = cluster.phase("second", "Failed")
    assert reason(status) == "HostKeyChanged"
    assert "sshHostKeys" in status["message"]


def test_deleting_a_running_operation_stops_it(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """An Operation that is deleted while it runs is stopped and its Server is given back."""
    datacenter.start()
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), profile())
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF))
    run = cluster.phase("o", "Running")["runID"]
    cluster.run("delete", "operation", "o", "--wait=false")
    _until(lambda: cluster.status("server", "s").get("state") == "error")
    machine = cluster.status("server", "s")
    assert "activeOperation" not in machine
    assert "deleted while it ran" in machine["message"]
    assert _processes(run) == 0


def test_cancel_stops_it(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """spec.cancel ends the run within seconds; nothing of it is left and the Server says what happened."""
    datacenter.start()
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), profile())
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF))
    run = cluster.until("o", lambda status: status.get("dcJobID"))["runID"]
    cluster.run("patch", "operation", "o", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    status = cluster.phase("o", "Failed", seconds=5)
    assert reason(status) == "Cancelled"
    assert _processes(run) == 0
    assert cluster.status("server", "s")["state"] == "error"


def test_a_deadline_stops_it(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """A job that hangs is ended at activeDeadlineSeconds."""
    datacenter.start()
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), profile())
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF, activeDeadlineSeconds=4))
    status = cluster.phase("o", "Failed", seconds=12)
    assert reason(status) == "DeadlineExceeded"


def test_an_edit_after_the_start_is_ignored(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """On an API server that does not refuse it, an edited spec changes nothing and an Event says so."""
    datacenter.start("--speed", "8")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), server("other", provider="dc-api"), profile())
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF))
    cluster.phase("o", "Running")
    edit = '{"spec":{"serverRef":{"name":"other"},"operation":"reboot"}}'
    said = cluster.run("patch", "operation", "o", "--type=merge", "-p", edit, check=False)
    status = cluster.phase("o", "Succeeded")
    assert status["result"]["os"] == "2.0.0"
    assert cluster.status("server", "s")["state"] == "ready"
    assert cluster.status("server", "other") == {}
    assert "SpecChangeIgnored" in cluster.events("o") or not said


@pytest.mark.parametrize(
    "spec",
    [
        {"ipv4": "-oProxyCommand=touch /tmp/pwned"},
        {"ipv4": "127.0.0.1; touch /tmp/pwned"},
        {"ipv4": "{{ lookup('pipe', 'touch /tmp/pwned') }}"},
        {"ipv4": "100.x.x.x"},
        {"ipv4": "../../etc/passwd"},
    ],
)
def test_values_that_would_break_out_are_refused(
    cluster: Cluster, daemon: DaemonProcess, operations: Path, spec: dict[str, Any]
) -> None:
    """An address that is none ends the Operation before anything is started; its text is quoted, not used."""
    daemon.start("--operations-dir", str(operations))
    cluster.apply(server("s", **spec), operation("o", "s", "hello"))
    status = cluster.phase("o", "Failed")
    assert reason(status) == "InvalidSpec"
    assert "ipv4" in status["message"]
    assert "runID" not in status
    assert not Path("/tmp/pwned").exists()  # noqa: S108 - what an injected command would have made


def test_a_custom_resource_of_one_megabyte(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """One of a megabyte is refused by the API server, by field; the largest that it takes is served like any other."""
    datacenter.start("--speed", "20")
    daemon.start("--dc-api-url", datacenter.url)
    large = "#cloud-config\n# " + "x" * 1_000_000
    with pytest.raises(AssertionError, match=r"spec\.cloudInit"):
        cluster.run("create", "-f", "-", stdin=yaml.safe_dump(profile(cloudInit=large)))
    fits = profile(cloudInit=large[:262_144], customBootstrapScript=large[:262_144])
    cluster.run("create", "-f", "-", stdin=yaml.safe_dump(fits))
    cluster.apply(server("s", provider="dc-api"))
    cluster.apply(operation("o", "s", "repave", provisioningProfileRef=REF))
    cluster.phase("o", "Succeeded")


def test_a_playbook_with_a_syntax_error_says_so(cluster: Cluster, daemon: DaemonProcess, operations: Path) -> None:
    """A playbook that cannot be read fails its Operation with Ansible's words, and is not tried again."""
    (operations / "broken.yml").write_text("- hosts: all\n  tasks:\n    - nonsense: {}\n", encoding="utf-8")
    daemon.start("--operations-dir", str(operations))
    cluster.apply(server("s"), operation("o", "s", "broken"))
    status = cluster.phase("o", "Failed")
    assert (reason(status), status["attempts"]) == ("PlaybookError", 1)
    assert "nonsense" in status["message"]


def test_a_playbook_for_nobody_is_no_success(cluster: Cluster, daemon: DaemonProcess, operations: Path) -> None:
    """A host on which nothing was done has not Succeeded."""
    (operations / "nobody.yml").write_text("- hosts: nobody\n  tasks: []\n", encoding="utf-8")
    daemon.start("--operations-dir", str(operations))
    cluster.apply(server("s"), operation("o", "s", "nobody"))
    status = cluster.phase("o", "Failed")
    assert reason(status) == "NoResult"


def test_a_wrong_kubeconfig_is_one_sentence(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A kubeconfig that is none, or whose server is not there, ends the start with exit code 2 and what to do."""
    nonsense = tmp_path / "kubeconfig"
    nonsense.write_text("this: is\nno: kubeconfig\n", encoding="utf-8")
    for path in (str(nonsense), str(tmp_path / "absent")):
        daemon.kubeconfig = path
        done = daemon.once()
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("stargate-reconciler: ")
        assert "--kubeconfig" in done.stderr
        assert "Traceback" not in done.stderr


def _processes(run: str) -> int:
    found = subprocess.run(["pgrep", "-f", run], capture_output=True, text=True, check=False)
    return len(found.stdout.split())


def _until(check: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)
