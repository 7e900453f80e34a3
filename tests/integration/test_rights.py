# SPDX-License-Identifier: Apache-2.0
"""The shipped rights, right by right, on a real API server: each is used by a call of ours, and enough for it.

What the account must not be able to do is in test_manifests.py.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from tests.conftest import ROOT
from tests.integration import daemon as running
from tests.integration.daemon import DaemonProcess, operation, profile, server
from tests.integration.plays import kubeconfig_of_account, with_shipped_rights
from tests.integration.test_operations import secret

from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster
from stargate_reconciler.errors import Forbidden, ReconcilerError
from stargate_reconciler.kube import Kube, connect

SHIPPED = ROOT / "reconciler/deploy/rbac.yaml"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/stargate-system/leases"
CONFIG = "/api/v1/namespaces/{}/configmaps"
QUIET = """- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: done
"""

Right = tuple[str, str, str]
"""The namespace of its Role ("" for the ClusterRole), a resource and a verb."""
Call = Callable[[Kube, Cluster], object]


def rights() -> list[Right]:
    """Return every right that we ship."""
    found = []
    for item in yaml.safe_load_all(SHIPPED.read_text(encoding="utf-8")):
        for rule in item.get("rules") or ():
            names = [(resource, verb) for resource in rule["resources"] for verb in rule["verbs"]]
            found += [(item["metadata"].get("namespace", ""), *name) for name in names]
    return found


def listed(kind: str) -> Call:
    """Return the first list of a watch of ours."""
    return lambda kube, _: kube.watcher(kind, None)._list_or_watch()


def watched(kind: str) -> Call:
    """Return the opening of a watch of ours."""

    def call(kube: Kube, _cluster: Cluster) -> object:
        opened = kube.watcher(kind, None)._list_or_watch(watch=True, timeout_seconds=1, _preload_content=False)
        return opened.close()

    return call


def reads(path: str, **query: Any) -> Call:
    """Return the reading of an object, or of a list."""
    return lambda _, cluster: cluster.get(path, "read", **query)


def follows(path: str, **query: Any) -> Call:
    """Return a watch of an action plugin."""
    return lambda _, cluster: list(cluster.watch(path, "watch", seconds=1, **query))


def made(path: str, **body: Any) -> Call:
    """Return the creation of an object that is not valid: whether it is allowed is asked before."""
    return lambda _, cluster: cluster.create(path, "create", body)


ONE = {"fieldSelector": "metadata.name=cluster-info"}
CALLS: dict[Right, Call] = {
    ("", "servers", "list"): listed("Server"),
    ("", "servers", "watch"): watched("Server"),
    ("", "provisioningprofiles", "list"): listed("ProvisioningProfile"),
    ("", "provisioningprofiles", "watch"): watched("ProvisioningProfile"),
    ("", "operations", "list"): listed("Operation"),
    ("", "operations", "watch"): watched("Operation"),
    ("", "operations", "get"): lambda kube, _: kube.operation("default", "absent"),
    ("", "operations", "create"): made("/apis/stargate.io/v1alpha1/namespaces/default/operations"),
    ("", "operations", "delete"): lambda kube, _: kube.delete_operation("default", "absent", "u"),
    ("", "servers/status", "patch"): lambda kube, _: kube.patch_status("Server", "default", "absent", {}),
    ("", "operations/status", "patch"): lambda kube, _: kube.patch_status("Operation", "default", "absent", {}),
    ("", "events", "create"): lambda kube, _: kube.create_event("default", {"metadata": {}, "involvedObject": {}}),
    ("", "nodes", "get"): lambda kube, _: kube.node("absent"),
    ("", "nodes", "list"): reads("/api/v1/nodes", limit=1),
    ("", "nodes", "watch"): follows("/api/v1/nodes"),
    ("", "nodes", "patch"): lambda kube, _: kube.uncordon("absent", "stargate.io/cordoned-by", "u"),
    ("", "nodes", "delete"): lambda _, cluster: cluster.delete("/api/v1/nodes/absent", "delete"),
    ("", "pods", "list"): reads("/api/v1/pods", limit=1),
    ("", "pods", "watch"): follows("/api/v1/pods"),
    ("", "pods/eviction", "create"): made("/api/v1/namespaces/default/pods/absent/eviction"),
    ("stargate-system", "leases", "create"): made(LEASES),
    ("stargate-system", "leases", "get"): reads(f"{LEASES}/stargate-reconciler"),
    ("stargate-system", "leases", "update"): lambda _, cluster: cluster.ask(
        "PUT", f"{LEASES}/stargate-reconciler", "renew", body={}
    ),
    ("kube-system", "secrets", "create"): made("/api/v1/namespaces/kube-system/secrets"),
    ("kube-system", "secrets", "delete"): lambda _, cluster: cluster.delete(
        "/api/v1/namespaces/kube-system/secrets/absent", "revoke"
    ),
    ("kube-system", "configmaps", "get"): reads(f"{CONFIG.format('kube-system')}/kubeadm-config"),
    ("kube-public", "configmaps", "get"): reads(f"{CONFIG.format('kube-public')}/cluster-info"),
    ("kube-public", "configmaps", "list"): reads(CONFIG.format("kube-public"), **ONE),
    ("kube-public", "configmaps", "watch"): follows(CONFIG.format("kube-public"), **ONE),
    ("dc-west", "secrets", "get"): reads("/api/v1/namespaces/dc-west/secrets/absent"),
    ("dc-east", "secrets", "get"): reads("/api/v1/namespaces/dc-east/secrets/absent"),
}
"""The call of ours that needs a right."""


def is_allowed(call: Call, kube: Kube, cluster: Cluster) -> bool:
    """Whether a call is let through; that there is no such object is beside the point."""
    try:
        call(kube, cluster)
    except (Denied, Forbidden):
        return False
    except ApiException as error:
        return error.status != 403
    except (StargateError, ReconcilerError):
        return True
    return True


def _let_through(call: Call, kube: Kube, cluster: Cluster) -> list[Call]:
    return [call] if is_allowed(call, kube, cluster) else []


@pytest.fixture
def account(control_plane: Any, crds: Any, tmp_path: Path) -> Iterator[str]:
    """Return the kubeconfig of the reconciler's account, with exactly the rights that we ship, before and after."""
    with Cluster.of({"kubeconfig": control_plane.kubeconfig, "unreachable_after": 30.0}, {}) as admin:
        with_shipped_rights(admin, control_plane.run)
        yield kubeconfig_of_account(admin, control_plane.kubeconfig, tmp_path)
        control_plane.run("apply", "-f", str(SHIPPED))
        ours = ("server/rights", "provisioningprofile/profile", "secret/ssh")
        control_plane.run("delete", "-n", "dc-west", "--ignore-not-found", *ours)


def test_each_right_is_listed() -> None:
    """There is no right without a call that needs it, and no call without its right."""
    assert sorted(rights()) == sorted(CALLS)


def test_without_any_right_something_fails(control_plane: Any, account: str) -> None:
    """With all rights every call is let through; with one taken away, the call that needs it is refused."""
    kube = connect(account, None)
    stuck = []
    with (
        Cluster.of({"kubeconfig": control_plane.kubeconfig, "unreachable_after": 30.0}, {}) as admin,
        Cluster.of({"kubeconfig": account, "unreachable_after": 0.0}, {}) as cluster,
    ):
        assert _settled(lambda: [r for r, call in CALLS.items() if not is_allowed(call, kube, cluster)]) == []
        for item in _roles():
            for number, resource, verb in _single(item):
                _write(admin, _without(item, number, resource, verb))
                call = CALLS[item["metadata"].get("namespace", ""), resource, verb]
                stuck += _settled(partial(_let_through, call, kube, cluster))
            _write(admin, item)
    assert stuck == []


def test_the_daemon_needs_no_more(
    cluster: running.Cluster, daemon: DaemonProcess, account: str, tmp_path: Path
) -> None:
    """With exactly these rights it leads, reads a Secret, runs an Operation, tells of it and deletes it."""
    (tmp_path / "quiet.yml").write_text(QUIET, encoding="utf-8")
    daemon.kubeconfig, daemon.namespace, cluster.namespace = account, "dc-west", "dc-west"
    cluster.apply(secret("no key, none is needed", "root"), profile(sshCredentialsSecretRef="ssh"), server("rights"))
    spec = {"provisioningProfileRef": {"name": "profile"}, "ttlSecondsAfterFinished": 1}
    cluster.apply(operation("rights", "rights", "quiet", **spec))
    daemon.start("--operations-dir", str(tmp_path), "--lease-namespace", "stargate-system", "--lease-seconds", "30")
    assert _settled(lambda: list(cluster.get("operation", "rights")), 150) == []
    assert "Succeeded" in cluster.events("rights")
    assert not [line for line in daemon.log.splitlines() if "403" in line or "Forbidden" in line]


def _roles() -> list[Any]:
    items = yaml.safe_load_all(SHIPPED.read_text(encoding="utf-8"))
    return [item for item in items if item.get("rules")]


def _single(item: Any) -> list[tuple[int, str, str]]:
    rules = enumerate(item["rules"])
    return [(n, resource, verb) for n, rule in rules for resource in rule["resources"] for verb in rule["verbs"]]


def _without(item: Any, number: int, resource: str, verb: str) -> Any:
    """Return a Role without one verb on one resource."""
    changed = copy.deepcopy(item)
    rule = changed["rules"].pop(number)
    others = [name for name in rule["resources"] if name != resource]
    verbs = [name for name in rule["verbs"] if name != verb]
    changed["rules"] += [{**rule, "resources": others}] if others else []
    changed["rules"] += [{**rule, "resources": [resource], "verbs": verbs}] if verbs else []
    return changed


def _write(admin: Cluster, item: Any) -> None:
    meta = item["metadata"]
    place = f"namespaces/{meta['namespace']}/roles" if "namespace" in meta else "clusterroles"
    admin.ask("PUT", f"{RBAC}/{place}/{meta['name']}", "write a Role", body=json.loads(json.dumps(item)))


def _settled(left: Callable[[], list[Any]], seconds: float = 15) -> list[Any]:
    """Wait until nothing is left: rights take a moment to be in force; returns what still is."""
    deadline = time.monotonic() + seconds
    found: list[Any] = ["not asked yet"]
    while found and time.monotonic() < deadline:
        with suppress(OSError):
            found = left()
    return found
