# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost and nothing runs twice: the daemon killed, doubled, cut off; secrets looked for in every place.

The witnesses are the hosts and the datacenter, not the daemon.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.api import Upstream
from prometheus_client.parser import text_string_to_metric_families
from soak.daemons import kubeconfig_of
from soak.proxy import PASS, Deed, Proxy, Request
from tests.integration.daemon import Cluster, DaemonProcess, operation, profile, server
from tests.integration.datacenter import MockDatacenter
from tests.integration.sshd import SshHost
from tests.integration.test_operations import on_hosts, secret
from tests.waiting import until

REF = {"name": "profile"}

WITNESS = """- name: Write what happens
  hosts: all
  gather_facts: false
  strategy: ansible.builtin.free
  tasks:
    - name: Begin
      ansible.builtin.shell: echo begin {{{{ stargate_operation.attempt }}}} >> {0}/{{{{ stargate_name }}}}
    - name: Work
      ansible.builtin.command: sleep 3
    - name: End
      ansible.builtin.shell: echo end {{{{ stargate_operation.attempt }}}} >> {0}/{{{{ stargate_name }}}}
"""


def processes(mark: str) -> list[str]:
    """Return the processes whose command line has `mark`."""
    found = subprocess.run(["pgrep", "-f", "-a", mark], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


def ten_repaves(cluster: Cluster) -> list[str]:
    """Apply ten Servers and an Operation on each; returns the Operations' names."""
    names = [f"m{n}" for n in range(10)]
    cluster.apply(profile(), *[server(name, provider="dc-api") for name in names])
    cluster.apply(*[operation(name, name, "repave", provisioningProfileRef=REF) for name in names])
    return names


def test_killed_in_the_middle_of_ten_operations(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter
) -> None:
    """kill -9 in the middle of ten Operations: no process is left, none is lost, each has had exactly one job."""
    datacenter.start("--speed", "3")
    daemon.start("--dc-api-url", datacenter.url)
    names = ten_repaves(cluster)
    runs = {cluster.until(name, lambda status: status.get("dcJobID"))["runID"] for name in names}
    daemon.kill()
    time.sleep(2)
    assert [line for run in runs for line in processes(run)] == []
    daemon.start("--dc-api-url", datacenter.url)
    ended = [cluster.phase(name, "Succeeded", seconds=60) for name in names]
    assert all(status["attempts"] == 2 for status in ended)
    jobs = (datacenter.directory / "jobs.json").read_text(encoding="utf-8")
    assert jobs.count('"id":"job-') == 10


def test_sigterm_lets_runs_end(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """SIGTERM waits for the runs that it has, starts no more, gives the Lease back and exits with 0."""
    datacenter.start("--speed", "6")
    daemon.start("--dc-api-url", datacenter.url)
    names = ten_repaves(cluster)
    for name in names:
        cluster.phase(name, "Running")
    assert daemon.stop(seconds=40) == 0
    assert {cluster.status("operation", name)["phase"] for name in names} == {"Succeeded"}
    assert cluster.get("lease", "stargate-reconciler")["spec"].get("holderIdentity", "") == ""


def test_hosts_never_see_two_runs_at_once(
    cluster: Cluster,
    daemon: DaemonProcess,
    tmp_path: Path,
    key: str,
    ssh_hosts: Callable[[int], list[SshHost]],
) -> None:
    """After a kill the work is taken up again, and no host has begun twice before it was let go of."""
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / "witness.yml").write_text(WITNESS.format(tmp_path), encoding="utf-8")
    hosts = ssh_hosts(2)
    daemon.start("--operations-dir", str(tmp_path / "operations"))
    cluster.apply(secret(key, hosts[0].user), profile(sshCredentialsSecretRef="ssh"), *on_hosts(hosts))
    cluster.apply(*[operation(f"w{n}", f"s{n}", "witness", provisioningProfileRef=REF) for n in range(2)])
    until(lambda: (tmp_path / "s0").exists() and (tmp_path / "s1").exists(), seconds=20)
    daemon.kill()
    daemon.start("--operations-dir", str(tmp_path / "operations"))
    for n in range(2):
        cluster.phase(f"w{n}", "Succeeded", seconds=60)
        lines = (tmp_path / f"s{n}").read_text(encoding="utf-8").split("\n")
        told = [tuple(line.split()[:2]) for line in lines if line]
        assert told == [("begin", "1"), ("begin", "2"), ("end", "2")]


def test_two_daemons_share_nothing_but_the_api(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter, tmp_path: Path
) -> None:
    """Only the holder of the Lease acts; when it is killed the other takes over and takes up its Operations."""
    datacenter.start("--speed", "3")
    daemon.start("--dc-api-url", datacenter.url)
    until(lambda: "Leading" in daemon.log, seconds=20)
    other = DaemonProcess(cluster.kubeconfig, cluster.namespace, tmp_path / "other").start(
        "--dc-api-url", datacenter.url
    )
    try:
        names = ten_repaves(cluster)
        for name in names:
            cluster.until(name, lambda status: status.get("dcJobID"))
        assert "Leading" not in other.log
        daemon.kill()
        ended = [cluster.phase(name, "Succeeded", seconds=60) for name in names]
    finally:
        other.kill()
    assert "Leading" in other.log
    assert all(status["attempts"] == 2 for status in ended)
    assert (datacenter.directory / "jobs.json").read_text(encoding="utf-8").count('"id":"job-') == 10


def test_the_api_server_goes_and_comes_back(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter, control_plane: Any
) -> None:
    """Results that cannot be written while the API server is away are written when it is back."""
    datacenter.start("--speed", "10")
    daemon.start("--dc-api-url", datacenter.url, "--lease-seconds", "60")
    names = ten_repaves(cluster)
    for name in names:
        cluster.until(name, lambda status: status.get("dcJobID"))
    control_plane.stop_apiserver()
    time.sleep(6)
    control_plane.start_apiserver()
    for name in names:
        assert cluster.phase(name, "Succeeded", seconds=40)["attempts"] == 1


def test_a_lost_lease_stops_all_runs(
    cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter, control_plane: Any
) -> None:
    """A leader that cannot renew ends its runs before the Lease can be taken, and exits with 1."""
    datacenter.start()
    daemon.start("--dc-api-url", datacenter.url)
    names = ten_repaves(cluster)
    runs = {cluster.until(name, lambda status: status.get("dcJobID"))["runID"] for name in names}
    control_plane.stop_apiserver()
    cut_off = time.monotonic()
    try:
        until(lambda: not any(processes(run) for run in runs), seconds=20)
        assert time.monotonic() - cut_off < 5.0
        assert daemon.process is not None
        assert daemon.process.wait(15) == 1
    finally:
        control_plane.start_apiserver()
    assert "could not be renewed" in daemon.log


def test_metrics_and_health_are_served(cluster: Cluster, daemon: DaemonProcess, datacenter: MockDatacenter) -> None:
    """/metrics parses with the official client and counts what ended; /healthz and /readyz say ok."""
    datacenter.start("--speed", "20")
    daemon.start("--dc-api-url", datacenter.url)
    cluster.apply(server("s", provider="dc-api"), operation("o", "s", "reboot"))
    cluster.phase("o", "Succeeded")
    families = {f.name: f for f in text_string_to_metric_families(_get(daemon.metrics_port, "/metrics"))}
    ended = [s for s in families["stargate_operations_ended"].samples if s.name.endswith("_total")]
    assert [(s.labels["operation"], s.labels["phase"], s.value) for s in ended] == [("reboot", "Succeeded", 1.0)]
    assert families["stargate_leader"].samples[0].value == 1.0
    assert _get(daemon.health_port, "/healthz") == _get(daemon.health_port, "/readyz") == "ok\n"


def test_canaries_are_found_nowhere(
    cluster: Cluster,
    daemon: DaemonProcess,
    tmp_path: Path,
    key: str,
    ssh_hosts: Callable[[int], list[SshHost]],
) -> None:
    """An SSH key and a secret that a task prints are in no status, Event, log, artifact, argument or leftover file."""
    line = key.splitlines()[2]
    (tmp_path / "operations").mkdir()
    task = f"ansible.builtin.command: sh -c 'echo {line} >&2; exit 1'"
    loud = f"- hosts: all\n  gather_facts: false\n  tasks:\n    - {task}\n"
    (tmp_path / "operations" / "loud.yml").write_text(loud, encoding="utf-8")
    (host,) = ssh_hosts(1)
    daemon.start("--operations-dir", str(tmp_path / "operations"))
    cluster.apply(secret(key, host.user), profile(sshCredentialsSecretRef="ssh"), *on_hosts([host]))
    cluster.apply(operation("o", "s0", "loud", provisioningProfileRef=REF, retryLimit=0))
    status = cluster.phase("o", "Failed")
    assert "[redacted]" in status["message"]
    told = cluster.run("get", "operations,servers,events", "-o", "yaml") + daemon.log
    assert line not in told
    left = subprocess.run(["grep", "-rlF", line, "/dev/shm"], capture_output=True, text=True, check=False)  # noqa: S108 - where keys of runs are
    assert left.stdout == ""
    begin = "BEGIN OPENSSH PRIVATE KEY"
    kept = subprocess.run(["grep", "-rlF", begin, str(daemon.directory)], capture_output=True, text=True, check=False)
    assert kept.stdout == ""


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


class BusyAtFirst:
    """The rule of an API server that is overloaded, then has a new leader to find, and is well from then on."""

    def __init__(self) -> None:
        self.answers = ["429", "500", "429"]

    def before(self, _request: Request) -> Deed:
        """Refuse while there is an answer of that kind left."""
        return Deed(self.answers.pop(0)) if self.answers else PASS

    def after(self, _request: Request, _status: int) -> Deed:
        """Pass on what the API server says."""
        return PASS


def test_a_busy_api_server_at_the_start(
    cluster: Cluster, daemon: DaemonProcess, control_plane: Any, tmp_path: Path
) -> None:
    """An API server that says 429 and 500 when the daemon starts is asked again, with a line for each time."""
    rule = BusyAtFirst()
    with Proxy(0, Upstream(control_plane.port, Path(cluster.kubeconfig).parent / "pki"), rule) as proxy:
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(kubeconfig_of(proxy.url)), encoding="utf-8")
        daemon.kubeconfig = str(path)
        cluster.apply(server("s"), operation("o", "s", "reboot"))
        done = daemon.once("--dry-run")
        proxy.shutdown()
    assert done.returncode == 0, done.stderr
    assert (rule.answers, done.stderr.count("; asking again in ")) == ([], 3)
    assert "reboot on Server s" in done.stdout
