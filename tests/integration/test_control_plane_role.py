# SPDX-License-Identifier: Apache-2.0
"""The role control_plane in real plays: each mode ends in the same fact; each door does its one thing.

A program stands in for docker that runs the rest of its command line here; sshd, kubeadm and the cluster are real.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.nodes import JoinableCluster
from tests.integration.plays import Plays
from tests.integration.sshd import SshHost
from tests.integration.stand_in_kubelet import StandInKubelet

from ansible_collections.stargate.core.plugins.module_utils._certificates import key_hashes
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster

Object = dict[str, Any]


@pytest.fixture
def plays(joinable_control_plane: JoinableCluster, tmp_path: Path) -> Plays:
    """Return plays with the administrator's kubeconfig."""
    return Plays(tmp_path, joinable_control_plane.kubeconfig)


@pytest.fixture
def kubeadm(joinable_control_plane: JoinableCluster, tmp_path: Path) -> Path:
    """Return kubeadm as it is on a control plane machine, where it finds its own credentials."""
    path = tmp_path / "bin" / "kubeadm"
    path.parent.mkdir()
    program = joinable_control_plane.programs["kubeadm"]
    path.write_text(f'#!/bin/sh\nexec {program} "$@" --kubeconfig={joinable_control_plane.kubeconfig}\n')
    path.chmod(0o755)
    return path


def door(name: str, **variables: Any) -> Object:
    """Return a task that includes the role by one of its doors."""
    role = {"name": "stargate.core.control_plane", "tasks_from": name}
    return {"ansible.builtin.include_role": role, "vars": {f"control_plane_{key}": v for key, v in variables.items()}}


def kept(plays: Plays, *tasks: Object) -> Object:
    """Return the fact control_plane_join after some tasks."""
    path = plays.directory / "join"
    copy = {"content": "{{ control_plane_join | to_json }}", "dest": str(path), "mode": "0600"}
    plays.run(*tasks, {"name": "test keep", "ansible.builtin.copy": copy, "no_log": True})
    assert path.exists(), plays.shown
    join = json.loads(path.read_text())
    assert join["token"].partition(".")[2] not in plays.shown
    return dict(join)


def tokens(cluster: JoinableCluster, node: str) -> list[str]:
    """Return the public halves of a Node's tokens, as kubeadm lists them."""
    lines = cluster.run("kubeadm", "token", "list").splitlines()
    return [line.partition(".")[0] for line in lines if f"stargate:node/{node} " in line]


def failures(plays: Plays) -> list[str]:
    """Return what the failed tasks of the last play say."""
    return [str(result.get("msg")) for _, result in plays.events if result.get("failed")]


def test_mode_api(plays: Plays, joinable_control_plane: JoinableCluster) -> None:
    """The fact comes from the API; revoked, the token is gone, and revoking is no change the second time."""
    join = kept(plays, door("main", node_name="a1"))
    assert join["endpoint"] == joinable_control_plane.endpoint
    assert join["ca_hashes"] == list(key_hashes(join["ca"]))
    assert tokens(joinable_control_plane, "a1") == [join["token_id"]]
    plays.run(*[door("revoke", node_name="a1")] * 2)
    assert [result["changed"] for name, result in plays.events if name.endswith("Node's token")] == [True, False]
    assert tokens(joinable_control_plane, "a1") == []


def stand_in_docker(plays: Plays, kubeadm: Path) -> str:
    """Write a program that takes `exec CONTAINER` and runs the rest, with kubeadm on its PATH; returns its path."""
    path = plays.directory / "podman"
    path.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "exec kind-control-plane" ] || exit 125\nshift 2\n'
        f'echo "$*" >>{plays.directory}/said\nPATH={kubeadm.parent}:$PATH exec "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def test_mode_kind(plays: Plays, kubeadm: Path, joinable_control_plane: JoinableCluster) -> None:
    """kubeadm in the container makes the token, for the endpoint that is given or that it knows; one for each Node."""
    kind = {"mode": "kind", "docker": stand_in_docker(plays, kubeadm), "container": "kind-control-plane"}
    join = kept(plays, door("main", node_name="k1", **kind), door("main", node_name="k1", **kind))
    assert join["endpoint"] == f"127.0.0.1:{joinable_control_plane.endpoint.rpartition(':')[2]}"  # of its kubeconfig
    assert "which no other machine reaches" in plays.shown
    assert tokens(joinable_control_plane, "k1") == [join["token_id"]]
    other = kept(plays, door("revoke", node_name="k1", **kind), door("main", node_name="k1", endpoint="h:1", **kind))
    assert (other["endpoint"], tokens(joinable_control_plane, "k1")) == ("h:1", [other["token_id"]])
    api = kept(plays, door("revoke", node_name="k1", **kind), door("main", node_name="k2"))
    assert (set(join), join["ca_hashes"]) == (set(api), api["ca_hashes"])
    assert tokens(joinable_control_plane, "k1") == []
    assert join["token"].partition(".")[2] not in (plays.directory / "said").read_text()


@pytest.fixture
def ssh(ssh_hosts: Callable[[int], list[SshHost]], kubeadm: Path, tmp_path: Path) -> Object:
    """Return the role's variables for a control plane machine whose host key is known."""
    (host,) = ssh_hosts(1)
    public = (host.directory / "host_key.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[{host.address}]:{host.port} {public}")
    arguments = ["-F", "none", "-i", str(tmp_path / "key"), "-o", f"UserKnownHostsFile={tmp_path}/known_hosts"]
    reached = {"ssh_host": host.address, "ssh_port": host.port, "ssh_user": host.user, "ssh_args": arguments}
    return {"mode": "ssh", **reached, "ssh_become": False, "kubeadm": [str(kubeadm)]}


def test_mode_ssh(plays: Plays, ssh: Object, joinable_control_plane: JoinableCluster, tmp_path: Path) -> None:
    """kubeadm on the control plane machine makes the token, over SSH whose host key is checked."""
    join = kept(plays, door("main", node_name="s1", **ssh))
    assert (len(join["ca_hashes"]), join["method"]) == (1, "kubeadm")
    assert tokens(joinable_control_plane, "s1") == [join["token_id"]]
    stranger = {**ssh, "ssh_args": [*ssh["ssh_args"][:-1], f"UserKnownHostsFile={tmp_path}/none"]}
    plays.run(door("revoke", node_name="s1", **ssh), door("main", node_name="s1", **stranger))
    assert "does not let us in: Host key verification failed" in failures(plays)[0]
    assert tokens(joinable_control_plane, "s1") == []


def test_check_mode(plays: Plays, ssh: Object, joinable_control_plane: JoinableCluster) -> None:
    """A check ends in the fact too, without a token."""
    told = {"name": "test told", "ansible.builtin.debug": {"var": "control_plane_join"}}
    (result,) = plays.run(door("main", node_name="c1", **ssh), told, flags=("--check",))
    assert (result["control_plane_join"]["token"], bool(result["control_plane_join"]["ca_hashes"])) == ("", True)
    assert tokens(joinable_control_plane, "c1") == []


def test_refusals(plays: Plays, kubeadm: Path) -> None:
    """What cannot be done is refused in a sentence, and nothing else is tried."""
    kind = {"mode": "kind", "docker": stand_in_docker(plays, kubeadm), "container": "other"}
    asked = [{"mode": "aks"}, {"mode": "ssh"}, {"mode": "magic"}, {"mode": "kind", "docker": "/no/docker"}, kind]
    plays.run(*(door("main", node_name="r1", **variables) for variables in asked))
    words = [
        "mode aks is not supported yet. Use api, kind or ssh.",
        "needs the address of the control plane machine",
        "value of control_plane_mode must be one of",
        "/no/docker cannot be run",
        "ended with 125",
    ]
    said = failures(plays)
    assert [word for word in words if not any(word in sentence for sentence in said)] == []


def test_a_node_s_doors(plays: Plays, joinable_control_plane: JoinableCluster) -> None:
    """Drain, forget, wait: each door is one task, whose result is there for the play."""
    with Cluster.of({"kubeconfig": joinable_control_plane.kubeconfig, "unreachable_after": 60.0}, {}) as cluster:
        kubelet = StandInKubelet(cluster, "default").start()
        kubelet.register()
        mine = {"node_name": kubelet.name, "server": "ns/w", "operation_uid": "op"}
        named = ("drained", "ready", "forgotten")
        seen = [{"name": "test", "ansible.builtin.debug": {"var": f"control_plane_{name}.node"}} for name in named]
        results = plays.run(
            door("drain_node", **mine, address="10.0.0.1", drain_timeout=20),
            door("await_node", **mine, server_uid="u", labels={"zone": "a"}, kubernetes_version="1.20", timeout=20),
            door("forget_node", node_name=kubelet.name, server="ns/w"),
            *seen,
        )
        drained, ready, forgotten = (
            result[f"control_plane_{name}.node"] for name, result in zip(named, results, strict=True)
        )
        kubelet.stop()
    assert (drained["cordoned_by_us"], drained["ready"]) == (True, True)
    assert (ready["server"], ready["unschedulable"], ready["uid"]) == ("ns/w", False, drained["uid"])
    assert (forgotten["exists"], forgotten["uid"]) == (False, drained["uid"])
