# SPDX-License-Identifier: Apache-2.0
"""The action node in real plays against a real API server, with the rights of reconciler/deploy/rbac.yaml and no more.

Pods end by a stand-in for the kubelet. Odd answers and long waits are in tests/unit, on clocks of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import RunningControlPlane
from tests.integration.plays import Plays, kubeconfig_of_account, with_shipped_rights
from tests.integration.stand_in_kubelet import StandInKubelet

from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster

NODE = "stargate.core.node"
CHECK = ("--check", "--diff")
Object = dict[str, Any]


@pytest.fixture(scope="module")
def admin(control_plane: RunningControlPlane) -> Iterator[Cluster]:
    """Return the cluster as its administrator sees it, with the rights that we ship given out."""
    with Cluster.of({"kubeconfig": control_plane.kubeconfig, "unreachable_after": 60.0}, {}) as cluster:
        with_shipped_rights(cluster, control_plane.run)
        yield cluster


@pytest.fixture
def plays(admin: Cluster, control_plane: RunningControlPlane, tmp_path: Path) -> Plays:
    """Return plays that have the reconciler's rights."""
    return Plays(tmp_path, kubeconfig_of_account(admin, control_plane.kubeconfig, tmp_path))


@pytest.fixture
def kubelet(admin: Cluster, namespace: str) -> Iterator[StandInKubelet]:
    """Return a stand-in whose Node is not registered yet."""
    running = StandInKubelet(admin, namespace).start()
    yield running
    running.stop()


def task(name: str, state: str, **arguments: Any) -> Object:
    """Return a task about a Node."""
    return {"name": f"test {state}", NODE: {"name": name, "state": state, "operation_uid": "op-1", **arguments}}


def test_drained_and_given_back(plays: Plays, kubelet: StandInKubelet) -> None:
    """A check changes nothing; a drain moves what has to go and no more; the second time nothing is left to do."""
    kubelet.register()
    web = kubelet.pod("web")
    kubelet.pod("agent", kind="DaemonSet")
    kubelet.pod("over", kind="Job")
    kubelet.cluster.patch(f"{kubelet._pods}/over/status", "end", {"status": {"phase": "Succeeded"}})
    foreseen = plays.one(NODE, name=kubelet.name, state="drained", operation_uid="op-1", flags=CHECK)
    assert (foreseen["changed"], foreseen["evicted"], kubelet.pods()) == (True, [web], {"web", "agent", "over"})
    assert "unschedulable" not in (kubelet.node() or {})["spec"]
    drain, give = task(kubelet.name, "drained", kubernetes_version="1.20"), task(kubelet.name, "uncordoned")
    first, second, back, again = plays.run(drain, drain, give, give)
    assert [result["changed"] for result in (first, second, back, again)] == [True, False, True, False]
    assert (first["evicted"], first["left"], kubelet.pods()) == ([web], [], {"agent", "over"})
    assert (first["node"]["cordoned_by_us"], first["node"]["uid"]) == (True, (kubelet.node() or {})["metadata"]["uid"])
    assert (back["node"]["unschedulable"], again["node"]["version"]) == (False, "v1.20.2")


def test_no_node(plays: Plays) -> None:
    """A Node that does not exist is drained, deleted and given back already."""
    states = ("drained", "absent", "uncordoned", "read")
    results = plays.run(*(task("no-such-node", state) for state in states))
    assert [(result["changed"], result["node"]["exists"]) for result in results] == [(False, False)] * 4


def budget(kubelet: StandInKubelet, allowed: int) -> None:
    """Have a PodDisruptionBudget for the pods that allows so many disruptions, as its controller would say."""
    path = kubelet._pods.replace("/api/v1/", "/apis/policy/v1beta1/").replace("/pods", "/poddisruptionbudgets")
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    if kubelet.cluster.find(f"{path}/web", "read") is None:
        body = {
            "apiVersion": "policy/v1beta1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": spec,
        }
        kubelet.cluster.create(path, "create", body)
    counts = {"disruptionsAllowed": allowed, "currentHealthy": 1 + allowed, "desiredHealthy": 1, "expectedPods": 2}
    kubelet.cluster.patch(f"{path}/web/status", "count", {"status": {**counts, "observedGeneration": 1}})


def test_a_budget_blocks(plays: Plays, kubelet: StandInKubelet) -> None:
    """A blocked drain names pod and budget and gives the Node back; with force it goes on and says who is left."""
    kubelet.register()
    web = kubelet.pod("web")
    budget(kubelet, 0)
    drain = task(kubelet.name, "drained", drain_timeout=1)
    force = task(kubelet.name, "drained", drain_timeout=1, drain_force=True)
    blocked, seen, forced, back = plays.run(drain, task(kubelet.name, "read"), force, task(kubelet.name, "uncordoned"))
    assert not seen["node"]["unschedulable"]
    assert blocked["failure"]["code"] == "DrainBlocked"
    assert blocked["failure"]["retryable"]
    assert "PodDisruptionBudget web," in blocked["msg"]
    assert f"{web} (The disruption budget web needs 1 healthy pods and has 1 currently)" in blocked["msg"]
    assert (forced["left"], forced["evicted"], kubelet.pods()) == ([web], [], {"web"})
    assert (back["node"]["unschedulable"], back["node"]["cordoned_by_us"]) == (False, False)


def test_a_budget_that_gives_way(plays: Plays, kubelet: StandInKubelet) -> None:
    """The eviction is tried again until the budget allows it."""
    kubelet.register()
    web = kubelet.pod("web")
    budget(kubelet, 0)
    timer = threading.Timer(4, budget, (kubelet, 1))
    timer.start()
    (result,) = plays.run(task(kubelet.name, "drained", drain_timeout=60))
    timer.join()
    assert (result["evicted"], kubelet.pods()) == ([web], set())


def test_refused_before_anything_is_changed(plays: Plays, kubelet: StandInKubelet) -> None:
    """Another machine's Node, a version that does not fit, a pod that nobody makes again: the Node stays as it was."""
    before = kubelet.register(**{"stargate.io/server": "ns/other"})
    kubelet.pod("alone", kind=None)
    mine = {"server": "ns/mine", "address": "10.0.0.1"}
    results = plays.run(
        task(kubelet.name, "drained", **mine),
        task(kubelet.name, "absent", **mine),
        task(kubelet.name, "ready", **mine, timeout=5),
        task(kubelet.name, "drained", kubernetes_version="1.21"),
        task(kubelet.name, "drained", kubernetes_version="1.17"),
        task(kubelet.name, "drained"),
        task("../pods", "absent"),
    )
    codes = [result["failure"]["code"] for result in results]
    assert codes == [*["NodeNameTaken"] * 3, "VersionSkew", "VersionSkew", "DrainBlocked", "Invalid"]
    assert not any(result["failure"]["retryable"] for result in results)
    assert kubelet.node() == before


def test_a_person_s_cordon(plays: Plays, kubelet: StandInKubelet) -> None:
    """A person's cordon is left by every state, told, and put on the Node that comes after."""
    kubelet.register()
    kubelet.cluster.patch(f"/api/v1/nodes/{kubelet.name}", "cordon", {"spec": {"unschedulable": True}})
    states = ("drained", "uncordoned", "ready", "absent")
    drained, given, ready, gone = plays.run(*(task(kubelet.name, state) for state in states))
    assert [result["changed"] for result in (drained, given, ready, gone)] == [False, False, False, True]
    assert (drained["node"]["cordoned_by_person"], ready["node"]["unschedulable"]) == (True, True)
    kubelet.register()
    (ready,) = plays.run(task(kubelet.name, "ready", keep_cordon=True, not_uid=drained["node"]["uid"]))
    assert ready["node"]["cordoned_by_person"]


def test_an_earlier_operation_s_cordon(plays: Plays, kubelet: StandInKubelet) -> None:
    """A cordon that an earlier Operation has left is taken over by a drain, and not given back by anybody else."""
    kubelet.register(**{"stargate.io/cordoned-by": "op-0"})
    kubelet.cluster.patch(f"/api/v1/nodes/{kubelet.name}", "cordon", {"spec": {"unschedulable": True}})
    left, drained, back = plays.run(*(task(kubelet.name, state) for state in ("uncordoned", "drained", "uncordoned")))
    assert (left["changed"], left["node"]["unschedulable"]) == (False, True)
    assert (drained["node"]["cordoned_by_us"], back["node"]["unschedulable"]) == (True, False)


def test_deleted_once(plays: Plays, kubelet: StandInKubelet) -> None:
    """Only the Node that is meant is deleted: one with another uid is the next one already."""
    uid = kubelet.register()["metadata"]["uid"]
    delete = task(kubelet.name, "absent", node_uid=uid, server="ns/w", address="10.0.0.1")
    check = {**task(kubelet.name, "absent"), "check_mode": True}
    foreseen, other, gone, again = plays.run(check, task(kubelet.name, "absent", node_uid="another"), delete, delete)
    assert [result["changed"] for result in (foreseen, other, gone, again)] == [True, False, True, False]
    assert (gone["node"]["uid"], gone["node"]["exists"], kubelet.node()) == (uid, False, None)
    kubelet.register()
    assert not plays.run(delete)[0]["changed"]


TAINT = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}


def test_ready(plays: Plays, kubelet: StandInKubelet) -> None:
    """A Node that comes later is dressed as soon as it is there; a check and a second run find nothing to do."""

    def arrive() -> None:
        kubelet.register()
        kubelet.report(status="False", message="the network is not ready")
        time.sleep(1.5)
        kubelet.report()

    thread = threading.Timer(2, arrive)
    thread.start()
    wait = {"server": "ns/w", "server_uid": "u-1", "labels": {"zone": "a", "n": 1}, "taints": [TAINT], "timeout": 30}
    (first,) = plays.run(task(kubelet.name, "ready", kubernetes_version="1.20", not_uid="old", **wait))
    thread.join()
    assert (first["changed"], first["node"]["ready"], first["node"]["server"]) == (True, True, "ns/w")
    node = kubelet.node() or {}
    assert node["metadata"]["labels"] == {"zone": "a", "n": "1"}
    assert node["metadata"]["annotations"] == {"stargate.io/server": "ns/w", "stargate.io/server-uid": "u-1"}
    assert TAINT in node["spec"]["taints"]
    again, more = task(kubelet.name, "ready", **wait), task(kubelet.name, "ready", labels={"more": "x"})
    results = plays.run(again, {**again, "check_mode": True}, {**more, "check_mode": True})
    assert [result["changed"] for result in results] == [False, False, True]


def test_not_ready(plays: Plays, kubelet: StandInKubelet) -> None:
    """What is missing when time is up is said in the Node's own words."""
    kubelet.register()
    uid = (kubelet.node() or {})["metadata"]["uid"]
    asked = [{"kubernetes_version": "1.20.3"}, {"not_uid": uid}, {"not_boot_id": "b1"}]
    results = plays.run(*(task(kubelet.name, "ready", timeout=0.5, **one) for one in asked))
    kubelet.report(status="False", message="runtime network not ready")
    results += plays.run(task(kubelet.name, "ready", timeout=0.5), task("no-such-node", "ready", timeout=0.5))
    codes = [result["failure"]["code"] for result in results]
    assert codes == ["WrongVersion", *["NodeNotReady"] * 4]
    words = [
        "v1.20.2, and 1.20.3 was asked for",
        uid,
        "not started again",
        "runtime network not ready",
        "not registered",
    ]
    assert [word in result["msg"] for word, result in zip(words, results, strict=True)] == [True] * 5


def test_the_api_server_goes_away_meanwhile(
    plays: Plays, kubelet: StandInKubelet, control_plane: RunningControlPlane
) -> None:
    """A wait outlives an API server that is killed and comes back."""
    kubelet.register()
    kubelet.report(status="False", message="not yet")

    def disturb() -> None:
        control_plane.stop_apiserver(kill=True)
        time.sleep(1)
        control_plane.start_apiserver()
        kubelet.report()

    thread = threading.Timer(3, disturb)
    thread.start()
    (result,) = plays.run(task(kubelet.name, "ready", timeout=60))
    thread.join()
    assert result.get("failure") is None, result
    assert result["node"]["ready"]


def test_what_is_forbidden_stays_so(
    admin: Cluster, control_plane: RunningControlPlane, tmp_path: Path, kubelet: StandInKubelet
) -> None:
    """Without our rights nothing works, and what is missing is said; with them other things still do not work."""
    kubelet.register()
    control_plane.run("-n", "stargate-system", "create", "serviceaccount", "nobody")
    nobody = Plays(tmp_path, kubeconfig_of_account(admin, control_plane.kubeconfig, tmp_path, "nobody"))
    (result,) = nobody.run(task(kubelet.name, "drained"))
    assert (result["failure"]["code"], result["failure"]["retryable"]) == ("Forbidden", False)
    assert "reconciler/deploy/rbac.yaml has the rights" in result["msg"]
    ours = kubeconfig_of_account(admin, control_plane.kubeconfig, tmp_path)
    with Cluster.of({"kubeconfig": ours, "unreachable_after": 0.0}, {}) as cluster:
        secrets = "/api/v1/namespaces/kube-system/secrets"
        paths = [
            ("GET", secrets),
            ("GET", f"{secrets}/x"),
            ("DELETE", f"{kubelet._pods}/x"),
            ("GET", "/api/v1/secrets"),
        ]
        paths += [
            ("GET", "/api/v1/namespaces/kube-system/configmaps"),
            ("PATCH", f"/api/v1/nodes/{kubelet.name}/status"),
        ]
        answers = [cluster.ask(method, path, "try", body={}, expected=(403,)).status for method, path in paths]
    assert answers == [403] * len(paths)


def test_another_cluster_s_kubeconfig(plays: Plays, control_plane: RunningControlPlane) -> None:
    """A certificate of another authority is a mistake that is named; an address without a server may be tried again."""
    content = yaml.safe_load(Path(plays.kubeconfig).read_text(encoding="utf-8"))
    cluster = content["clusters"][0]["cluster"]
    del cluster["certificate-authority-data"]
    untrusted, away = plays.directory / "untrusted", plays.directory / "away"
    untrusted.write_text(yaml.safe_dump(content), encoding="utf-8")
    cluster["server"] = "https://127.0.0.1:9"
    away.write_text(yaml.safe_dump(content), encoding="utf-8")
    results = plays.run(
        *(task("w", "read", kubeconfig=str(path), unreachable_after=1) for path in (untrusted, away, "/nowhere"))
    )
    found = [(result["failure"]["code"], result["failure"]["retryable"]) for result in results]
    assert found == [("CertificateInvalid", False), ("Unreachable", True), ("KubeconfigInvalid", False)]
