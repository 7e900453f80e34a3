# SPDX-License-Identifier: Apache-2.0
"""Malformed and hostile custom resources: each ends with a clear condition, nothing is executed, nothing stays.

STARGATE_HOSTILE_CASES=1000 makes a thousand of them, in some minutes (CONTRIBUTING.md).

The CRDs let everything through here, as a careless or older installation of them might; what ours refuse by themselves
is in test_manifests.py.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import ROOT
from tests.integration import daemon as running
from tests.integration.daemon import DaemonProcess, operation, server
from tests.integration.hostile import ACT, Case, Maker
from tests.integration.remains import KEPT_RUNS, kept_of_runs, private_directories, tree, using

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster

CASES, SEED = int(os.environ.get("STARGATE_HOSTILE_CASES", "150")), 20
WITHIN = 240 + CASES
"""Seconds until each has its end."""
PLURALS = {"Server": "servers", "ProvisioningProfile": "provisioningprofiles", "Operation": "operations"}
SHOW = """- name: Show every variable
  hosts: all
  gather_facts: false
  tasks:
    - name: Render all that is known
      ansible.builtin.debug:
        msg: "{{ vars | to_json | length }}"
    - name: Render each by itself
      ansible.builtin.debug:
        msg: "{{ lookup('ansible.builtin.vars', item, default='') }}"
      loop: "{{ vars | select('match', 'stargate_|ansible_host|ansible_port|ansible_user|ansible_ssh') }}"
"""
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

Object = dict[str, Any]


@pytest.fixture
def api(cluster: running.Cluster) -> Iterator[Cluster]:
    """Return an API server whose CRDs let everything through; afterwards they are as shipped, and all is gone."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        for version in crd["spec"]["versions"]:
            version["schema"]["openAPIV3Schema"] = ANYTHING
        cluster.run("apply", "--validate=false", "-f", "-", stdin=json.dumps(crd))
    with Cluster.of({"kubeconfig": cluster.kubeconfig, "unreachable_after": 60.0}, {}) as api:
        probe = operation("probe", "nobody", "none")
        probe["spec"] = ["accepted once the new schema is in force"]
        assert _settled(lambda: list(filter(None, [_created(api, cluster.namespace, probe)])), 20) == []
        yield api
        for kind in PLURALS:
            _deleted(api, _path(cluster.namespace, kind))
    cluster.run("apply", "--validate=false", "-f", str(ROOT / "crds"))


@pytest.mark.timeout(600 + 3 * CASES)
def test_hostile_objects(cluster: running.Cluster, daemon: DaemonProcess, api: Cluster, tmp_path: Path) -> None:
    """No crash, a clear condition for each, no run for what is not fit, nothing executed; others go on meanwhile."""
    canary = tmp_path / "canary"
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / f"{ACT}.yml").write_text(SHOW, encoding="utf-8")
    daemon.start("--operations-dir", str(tmp_path / "operations"), "--no-leader-elect")
    cases = list(Maker(SEED, str(canary)).cases(CASES))
    with ThreadPoolExecutor(4) as pool:
        refused = list(pool.map(lambda case: _applied(api, cluster.namespace, case), cases))
    assert sum(map(bool, refused)) < CASES / 10, refused
    cluster.apply(server("good"), operation("good", "good", ACT))
    cluster.phase("good", "Succeeded", seconds=240)
    there = [case for case, refusal in zip(cases, refused, strict=True) if not refusal]
    assert _settled(lambda: _unclear(api, cluster.namespace, there), WITHIN) == []
    assert _settled(lambda: _running(api, cluster.namespace), WITHIN) == []
    assert not canary.exists()
    figures = _no_run_for_the_unfit(api, cluster.namespace, daemon, there)
    _unharmed(daemon)
    print(f"{len(cases)} cases, {sum(map(bool, refused))} refused by the API server, {figures}")
    _nothing_left(api, cluster.namespace, daemon)


def _no_run_for_the_unfit(api: Cluster, namespace: str, daemon: DaemonProcess, cases: list[Case]) -> str:
    """Fail when a case that did not succeed had a run, has a lock, or is in a run's directory; returns figures."""
    found = _statuses(api, namespace, "Operation")
    statuses = {case.operation: found.get(case.operation, {}) for case in cases}
    given = {case.operation: case.statuses for case in cases}
    unfit = {name for name, status in statuses.items() if status.get("phase") != "Succeeded"}
    assert {name: statuses[name] for name in unfit if statuses[name].get("runID")} == {}
    assert sorted(unfit & set(re.findall(r"\bh\d{4}\b", kept_of_runs(daemon.directory)))) == []
    locks = {name: lock for name, lock in _locks(api, namespace).items() if "Server" not in given.get(name, {})}
    assert locks == {}
    phases = Counter(str(status.get("phase")) for status in statuses.values())
    return f"{dict(phases)}, runs {len(list((daemon.directory / 'runs').iterdir()))}, without a run {len(unfit)}"


def _running(api: Cluster, namespace: str) -> list[Object]:
    """Return the Operations that are fit to run and have not ended."""
    statuses = _statuses(api, namespace, "Operation").values()
    return [status for status in statuses if status.get("runID") and status.get("phase") in ("Running", "Pending")]


def _locks(api: Cluster, namespace: str) -> Object:
    """Return the Operations that Servers are locked by, by Server."""
    found = _statuses(api, namespace, "Server")
    return {name: status["activeOperation"] for name, status in found.items() if status.get("activeOperation")}


def _statuses(api: Cluster, namespace: str, kind: str) -> dict[str, Object]:
    """Return the statuses of all objects of a kind, by name."""
    items, _ = api.items(_path(namespace, kind), "list")
    return {item["metadata"]["name"]: item.get("status") or {} for item in items}


def _nothing_left(api: Cluster, namespace: str, daemon: DaemonProcess) -> None:
    """Delete everything; fail when a process or a private directory of a run stays, or more runs than are kept."""
    assert daemon.process is not None
    for kind in ("Operation", "Server", "ProvisioningProfile"):
        _deleted(api, _path(namespace, kind))
    own = daemon.process.pid
    assert _settled(lambda: [{"process": pid} for pid in tree(own) - {own}], 60) == []
    assert private_directories(own) == []
    assert len(list((daemon.directory / "runs").iterdir())) <= KEPT_RUNS + 1
    _unharmed(daemon)
    assert daemon.stop(seconds=30) == 0
    assert using(daemon.directory) == []


def _unharmed(daemon: DaemonProcess) -> None:
    """Fail unless the daemon still is what it was: alive, well, without a bug in its log or a byte of others' ANSI."""
    assert daemon.process is not None
    assert daemon.process.poll() is None
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.health_port}/healthz", timeout=5) as answer:
        assert answer.read() == b"ok\n"
    assert "Traceback" not in daemon.log
    assert "\x1b" not in daemon.log
    assert max(map(len, daemon.log.splitlines())) < 8192


def _deleted(api: Cluster, path: str) -> None:
    """Delete all objects of a kind, some at a time: the answer has each of them whole."""
    while api.get(path, "list", limit=1)["items"]:
        api.ask("DELETE", path, "delete some", query={"limit": 50})


def _path(namespace: str, kind: str, *names: str) -> str:
    return "/".join([f"/apis/stargate.io/v1alpha1/namespaces/{namespace}", PLURALS[kind], *names])


def _created(api: Cluster, namespace: str, item: Object) -> str:
    try:
        api.create(_path(namespace, item["kind"]), "create", item)
    except StargateError as error:
        return str(error)
    return ""


def _applied(api: Cluster, namespace: str, case: Case) -> str:
    """Create all of a case, statuses too; returns why the API server did not take it."""
    for item in case.objects:
        refusal = _created(api, namespace, item)
        if refusal:
            return refusal
        if item["kind"] in case.statuses:
            path = _path(namespace, item["kind"], item["metadata"]["name"], "status")
            api.patch(path, "write", {"status": case.statuses[item["kind"]]})
    return ""


def _unclear(api: Cluster, namespace: str, cases: list[Case]) -> list[Object]:
    """Return the cases whose Operation has no clear end, or no clear reason to wait."""
    statuses = _statuses(api, namespace, "Operation")
    return [
        {"case": case.what, "name": case.operation, "status": statuses.get(case.operation)}
        for case in cases
        if case.operation in statuses and not _is_clear(statuses[case.operation])
    ]


def _is_clear(status: Object) -> bool:
    conditions = {c.get("type"): c for c in status.get("conditions") or () if isinstance(c, dict)}
    message = str(status.get("message", ""))
    if status.get("phase") == "Succeeded":
        return conditions.get("Complete", {}).get("status") == "True"
    if status.get("phase") == "Failed":
        told = conditions.get("Failed", {})
    else:
        told = next((c for c in conditions.values() if c.get("status") == "False" and c.get("message")), {})
    return bool(re.fullmatch("[A-Z][A-Za-z]+", told.get("reason", ""))) and 10 < len(message.encode()) <= 1024


def _settled(left: Callable[[], list[Object]], seconds: float) -> list[Object]:
    """Wait until nothing is left; returns what still is."""
    deadline = time.monotonic() + seconds
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(1)
    return found
