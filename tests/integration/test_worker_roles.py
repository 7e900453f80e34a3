# SPDX-License-Identifier: Apache-2.0
"""A real machine becomes a Node of a real cluster by the roles node_runtime and kubeadm_join, changes and leaves.

The tests are one story, in the order in which they stand. Needs root.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.nodes import JoinableCluster
from tests.integration.worker_site import GATEWAY, NEEDS_ROOT, Worker, worker
from tests.unit.plugins.mirror import Mirror, mirror
from tests.unit.plugins.worker_world import ARCHITECTURE

pytestmark = NEEDS_ROOT
TREE = "file:///opt/stargate/kubernetes"
UNKNOWN = "abcdef.0123456789abcdef"
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: pause}
spec:
  nodeName: roles
  tolerations: [{operator: Exists}]
  terminationGracePeriodSeconds: 0
  containers:
    - name: pause
      image: localhost/stargate/pause:1
      imagePullPolicy: Never
      ports: [{containerPort: 80, hostPort: 8080}]
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Worker]:
    """Return a machine that has just been made."""
    with worker("roles") as made:
        yield made


@pytest.fixture(scope="module")
def versions(machine: Worker) -> list[str]:
    """Return the two versions that the machines' image has, the older one first."""
    return sorted(name.removeprefix("v") for name in machine.ssh("ls /opt/stargate/kubernetes").split())


@pytest.fixture(scope="module")
def runtime(versions: list[str]) -> dict[str, Any]:
    """Return the options of the runtime for a machine that is a container."""
    return {
        "kubernetes_version": versions[0],
        "source": "binaries",
        "binaries_url": TREE,
        "container_runtime": "installed",
        "sandbox_image": "localhost/stargate/pause:1",
        "images_dir": "/opt/stargate/images",
        "cni": "bridge",
        "pod_cidr": "10.244.7.0/24",
        "cgroup_driver": "cgroupfs",
        "restrict_oom_score_adj": True,
    }


@pytest.fixture(scope="module")
def join(joinable_control_plane: JoinableCluster) -> dict[str, Any]:
    """Return how the cluster is joined, with a token of kubeadm's."""
    token = joinable_control_plane.run("kubeadm", "token", "create", "--ttl", "1h").strip()
    ca = Path(joinable_control_plane.kubeconfig).parent / "pki" / "ca.crt"
    return {"endpoint": joinable_control_plane.endpoint, "token": token, "ca": ca.read_text(), "ca_hashes": []}


@pytest.fixture
def server() -> Iterator[Mirror]:
    """Return a mirror on the host's loopback that has nothing."""
    with mirror() as made:
        yield made


def node(cluster: JoinableCluster, name: str = "roles") -> dict[str, Any]:
    """Return a Node."""
    found: dict[str, Any] = json.loads(cluster.run("kubectl", "get", "node", name, "-o", "json"))
    return found


def await_version(cluster: JoinableCluster, version: str) -> dict[str, Any]:
    """Return the Node when it is Ready with a version; a kubelet that was restarted takes some seconds."""
    until = time.monotonic() + 60
    while True:
        cluster.run("kubectl", "wait", "node/roles", "--for=condition=Ready", "--timeout=60s")
        found = node(cluster)
        if found["status"]["nodeInfo"]["kubeletVersion"] == f"v{version}":
            return found
        assert time.monotonic() < until, found["status"]["nodeInfo"]
        time.sleep(0.2)


def test_runtime(machine: Worker, runtime: dict[str, Any]) -> None:
    """Check mode foretells the changes, the role makes them, and then neither finds any."""
    foretold = machine.must("node_runtime", check=True, **runtime)
    assert machine.ssh("ls /usr/bin/kubelet || true") == ""
    made = machine.must("node_runtime", **runtime)
    print(f"node_runtime: first run {machine.seconds:.1f} s, of them {made['seconds']} s there")
    assert made["changes"] == foretold["changes"]
    assert made["kubelet_version"] == f"v{runtime['kubernetes_version']}"
    again = machine.must("node_runtime", **runtime)
    print(f"node_runtime: second run {machine.seconds:.1f} s, of them {again['seconds']} s there")
    assert (again["changed"], again["changes"], again["seconds"] < 10) == (False, [], True)
    assert machine.must("node_runtime", check=True, **runtime)["changed"] is False
    assert machine.ssh("systemctl is-enabled kubelet || true") == "disabled"
    assert machine.ssh("sudo containerd config dump | grep -c localhost/stargate/pause:1") == "1"


def test_join(machine: Worker, join: dict[str, Any], joinable_control_plane: JoinableCluster) -> None:
    """Check mode reaches the cluster, the role joins it, and then neither has anything to do."""
    labels = {"example.com/site": "west", "node-role.kubernetes.io/worker": ""}
    options = {"node_name": "roles", "node_ip": "192.168.100.11", "join": join, "labels": labels}
    foretold = machine.must("kubeadm_join", check=True, **options)
    assert (foretold["changed"], machine.ssh("sudo ls /etc/kubernetes 2>/dev/null || true")) == (True, "")
    made = machine.must("kubeadm_join", **options)
    print(f"kubeadm_join: first run {machine.seconds:.1f} s, {made['seconds']}")
    found = await_version(joinable_control_plane, made["kubelet_version"].removeprefix("v"))
    assert found["metadata"]["uid"] == made["node_uid"]
    assert found["metadata"]["labels"]["example.com/site"] == "west"
    assert list(made["labels_left"]) == ["node-role.kubernetes.io/worker"]
    assert {"type": "InternalIP", "address": "192.168.100.11"} in found["status"]["addresses"]
    for check in (False, True):
        again = machine.must("kubeadm_join", check=check, **options)
        print(f"kubeadm_join: run without change {machine.seconds:.1f} s")
        assert (again["changed"], again["node_uid"]) == (False, made["node_uid"])


def test_the_token_is_nowhere(machine: Worker, join: dict[str, Any]) -> None:
    """After the join the token is in no file of the machine."""
    pattern = join["token"][:-1] + f"[{join['token'][-1]}]"  # so that this command's own log does not match
    places = "/etc /run /root /home /tmp /var/lib/kubelet /var/lib/stargate /var/log"
    assert machine.ssh(f"sudo grep -rIl '{pattern}' {places} 2>/dev/null || true") == ""


def test_a_pod_runs(machine: Worker, joinable_control_plane: JoinableCluster, tmp_path: Path) -> None:
    """A pod on the Node gets its address from the machine's network and runs."""
    (tmp_path / "pod.yaml").write_text(POD)
    joinable_control_plane.run("kubectl", "apply", "-f", str(tmp_path / "pod.yaml"))
    joinable_control_plane.run("kubectl", "wait", "pod/pause", "--for=condition=Ready", "--timeout=60s")
    address = joinable_control_plane.run("kubectl", "get", "pod", "pause", "-o", "jsonpath={.status.podIP}")
    assert address.startswith("10.244.7.")
    assert int(machine.ssh("sudo iptables-save | grep -cE '^:(CNI|KUBE)-'")) > 0


def test_up_and_down(
    machine: Worker, runtime: dict[str, Any], versions: list[str], joinable_control_plane: JoinableCluster
) -> None:
    """The kubelet of a member goes up and down, and the Node says so; it stays the same Node with its pod."""
    before = node(joinable_control_plane)["metadata"]["uid"]
    older, newer = versions
    for was, version in ((older, newer), (newer, older)):
        options = {**runtime, "kubernetes_version": version}
        assert machine.must("node_runtime", check=True, **options)["changes"] == [f"kubelet v{was} -> v{version}"]
        done = machine.must("node_runtime", **options)
        print(f"v{was} -> v{version}: {machine.seconds:.1f} s")
        assert (done["kubelet_version"], done["previous_version"]) == (f"v{version}", f"v{was}")
        assert done["restarted"] == ["kubelet"]
        assert await_version(joinable_control_plane, version)["metadata"]["uid"] == before
    minor = older.rpartition(".")[0]
    assert machine.must("node_runtime", check=True, **{**runtime, "kubernetes_version": minor})["changed"]


def program(server: Mirror, machine: Worker, version: str, digest: str = "") -> None:
    """Put a kubelet and a kubeadm that are no programs on a mirror, with their checksums."""
    for name in ("kubeadm", "kubelet"):
        path = f"/{version}/bin/linux/{ARCHITECTURE}/{name}"
        server.files[path] = (f"Kubernetes {version}\n" * 1000).encode()
        right = hashlib.sha256(server.files[path]).hexdigest()
        server.files[f"{path}.sha256"] = (digest or right).encode()


def test_a_broken_source_leaves_the_member_as_it_is(
    machine: Worker, runtime: dict[str, Any], server: Mirror, joinable_control_plane: JoinableCluster
) -> None:
    """Wrong checksum, unknown version, cut connection, absent mirror: each has its name, and the Node runs on."""
    web = {**runtime, "kubernetes_version": "1.20.9", "binaries_url": f"http://{GATEWAY}:{server.port}"}
    before = machine.ssh("sha256sum /usr/bin/kubelet /usr/bin/kubeadm")
    program(server, machine, "v1.20.9", digest="0" * 64)
    assert machine.refused("node_runtime", **web)["code"] == "ChecksumMismatch"
    program(server, machine, "v1.20.9")
    assert machine.refused("node_runtime", **web)["code"] == "ChecksumMismatch"
    server.cut.add(f"/v1.20.9/bin/linux/{ARCHITECTURE}/kubeadm")
    cut = machine.refused("node_runtime", **web)
    assert (cut["code"], cut["retryable"]) == ("MirrorUnavailable", True)
    assert machine.refused("node_runtime", **{**web, "kubernetes_version": "1.21"})["code"] == "VersionNotFound"
    assert machine.refused("node_runtime", **{**runtime, "kubernetes_version": "1.99"})["code"] == "VersionNotFound"
    gone = machine.refused("node_runtime", **{**web, "binaries_url": f"http://{GATEWAY}:1"})
    assert (gone["code"], gone["retryable"]) == ("MirrorUnavailable", True)
    assert machine.ssh("sha256sum /usr/bin/kubelet /usr/bin/kubeadm") == before
    assert machine.must("node_runtime", **runtime)["changed"] is False
    await_version(joinable_control_plane, runtime["kubernetes_version"])


def test_a_cluster_that_cannot_be_joined_leaves_the_member_as_it_is(
    machine: Worker, join: dict[str, Any], joinable_control_plane: JoinableCluster
) -> None:
    """An absent API server, unknown and expired tokens, another CA: each has its name, and the Node runs on."""
    short = joinable_control_plane.run("kubeadm", "token", "create", "--ttl", "1s").strip()
    time.sleep(1.5)
    cases = [
        ({"endpoint": f"{GATEWAY}:1"}, "ApiUnreachable", True),
        ({"token": UNKNOWN}, "TokenExpired", True),
        ({"token": short}, "TokenExpired", True),
        ({"ca": "", "ca_hashes": [f"sha256:{'0' * 64}"]}, "CaMismatch", False),
    ]
    for part, code, retryable in cases:
        failure = machine.refused("kubeadm_join", node_name="other", join={**join, **part})
        assert (failure["code"], failure["retryable"]) == (code, retryable)
    assert node(joinable_control_plane)["status"]["conditions"][-1]["status"] == "True"
    assert machine.must("kubeadm_join", node_name="roles", join=join)["changed"] is False


def test_reset(machine: Worker, join: dict[str, Any], joinable_control_plane: JoinableCluster) -> None:
    """A reset leaves no container, mount, link, rule or file of the cluster, and containerd runs on."""
    assert machine.must("kubeadm_join", check=True, state="reset")["changes"] == ["reset"]
    done = machine.must("kubeadm_join", state="reset")
    print(f"reset: {machine.seconds:.1f} s, {done['seconds']}")
    assert machine.must("kubeadm_join", state="reset")["changed"] is False
    assert machine.ssh("sudo ctr -n k8s.io tasks ls -q; sudo ctr -n k8s.io containers ls -q") == ""
    assert machine.ssh("sudo iptables-save | grep -E 'CNI-|KUBE-' || true") == ""
    assert machine.ssh("sudo find /var/lib/kubelet /var/lib/cni -mindepth 1; ls /run/netns") == ""
    assert machine.ssh("ls /sys/class/net | grep -E 'cni0|veth' || true") == ""
    assert machine.ssh("systemctl is-active containerd kubelet || true").split() == ["active", "inactive"]
    joinable_control_plane.run("kubectl", "delete", "node", "roles")
    joinable_control_plane.run("kubectl", "delete", "pod", "pause", "--force", "--grace-period=0")


def test_rejoin(machine: Worker, join: dict[str, Any], joinable_control_plane: JoinableCluster, tmp_path: Path) -> None:
    """The machine joins again, by nothing but the hash of the CA's key, as another Node, and runs a pod."""
    from ansible_collections.stargate.core.plugins.module_utils._certificates import key_hashes

    pinned = {**join, "ca": "", "ca_hashes": sorted(key_hashes(join["ca"]))}
    made = machine.must("kubeadm_join", node_name="again", join=pinned)
    assert made["changes"] == [f"joined {join['endpoint']} as again"]
    joinable_control_plane.run("kubectl", "wait", "node/again", "--for=condition=Ready", "--timeout=60s")
    (tmp_path / "pod.yaml").write_text(POD.replace("nodeName: roles", "nodeName: again"))
    joinable_control_plane.run("kubectl", "apply", "-f", str(tmp_path / "pod.yaml"))
    joinable_control_plane.run("kubectl", "wait", "pod/pause", "--for=condition=Ready", "--timeout=60s")


def test_a_deleted_node_is_made_again(
    machine: Worker, join: dict[str, Any], joinable_control_plane: JoinableCluster
) -> None:
    """A member whose Node somebody has deleted joins once more, in one run."""
    joinable_control_plane.run("kubectl", "delete", "node", "again", "--wait=true")
    made = machine.must("kubeadm_join", node_name="again", join=join)
    assert made["reason"] == "the cluster has no Node of this name"
    assert made["changes"][0] == "reset"
    joinable_control_plane.run("kubectl", "wait", "node/again", "--for=condition=Ready", "--timeout=60s")
