# SPDX-License-Identifier: Apache-2.0
"""The acts of kubeadm_join, each in check mode first, on a machine that is a directory; kubeadm is played.

The API server is a small one with real TLS; a real cluster is in tests/integration/test_worker_roles.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.plugins.api_server import TOKEN, Api, api
from tests.unit.plugins.worker_world import Machine, machine, task

from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_cluster as clusters
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_member as members
from ansible_collections.stargate.core.plugins.module_utils._kubeadm_join import (
    BOOTSTRAP_FILE,
    ENABLED,
    JOIN_FILE,
    SPEC,
)
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory
from ansible_collections.stargate.core.plugins.modules import kubeadm_join

ROLE = Path(__file__).parents[4] / "roles/kubeadm_join"
SECRETS = ("/run/stargate/join.json", "/run/stargate/cluster.json", BOOTSTRAP_FILE)


class Joining(Machine):
    """A machine whose kubeadm joins a cluster; `seen` is the configuration that it was given."""

    cluster: Api
    seen: dict[str, Any]

    def play(self, cluster: Api) -> Joining:
        """Have kubeadm answered."""
        self.cluster = cluster
        self.have("/usr/bin/kubelet", "Kubernetes v1.20.2\n")
        self.have("/usr/bin/kubeadm", "v1.20.2\n")
        self.answers["kubeadm", "join"] = self.join
        self.answers["systemctl", "enable"] = self.enable
        self.answers["systemctl", "is-active"] = Done(0, "active\n")
        return self

    def enable(self, argv: Sequence[str], stdin: str) -> Done:
        """Enable the kubelet."""
        del argv, stdin
        self.path(ENABLED).parent.mkdir(parents=True, exist_ok=True)
        self.path(ENABLED).symlink_to("/etc/systemd/system/kubelet.service")
        return Done(0)

    def join(self, argv: Sequence[str], stdin: str) -> Done:
        """Join as kubeadm does, leaving its copy of the token as one that is killed does."""
        assert TOKEN not in " ".join(argv) + stdin
        self.seen = json.loads(Path(argv[-1]).read_text())
        assert Path(argv[-1]).stat().st_mode & 0o777 == 0o600
        name = self.seen["nodeRegistration"]["name"]
        self.have(BOOTSTRAP_FILE, TOKEN)
        self.have(members.KUBECONFIG, self.cluster.kubeconfig)
        self.cluster.authority.issue(f"system:node:{name}", self.path(members.CLIENT_CERTIFICATE))
        self.cluster.nodes[name] = f"uid-of-{name}"
        return Done(0, "This node has joined the cluster\n")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Return a cluster that is waited for half a second at most."""
    monkeypatch.setattr(clusters, "TOKEN_LAG", 0.5)
    with api(tmp_path) as made:
        yield made


@pytest.fixture
def host(cluster: Api) -> Iterator[Joining]:
    """Return a machine that can join it."""
    with machine() as made:
        yield Joining(made.root).play(cluster)


def joined(host: Joining, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """Return the result of a task that has the machine be the Node w1; no token is in it."""
    given = {"node_name": "w1", "join": host.cluster.join, **options}
    result = task(kubeadm_join, host, {key: value for key, value in given.items() if value is not None}, check=check)
    result.pop("invocation", None)
    assert TOKEN not in json.dumps(result)
    return result


def reset(host: Joining, *, check: bool = False) -> dict[str, Any]:
    """Return the result of a task that takes the machine out."""
    return joined(host, check=check, state="reset", node_name=None, join=None)


def test_joined_and_left_alone(host: Joining) -> None:
    """Check mode reaches the cluster and changes nothing; the task joins; a second one changes nothing."""
    foretold = joined(host, check=True)
    assert (foretold["changed"], foretold["node_uid"], host.written) == (True, "", [])
    made = joined(host)
    assert made["changes"] == foretold["changes"] == [f"joined {host.cluster.endpoint} as w1"]
    assert (made["node_uid"], made["endpoint"]) == ("uid-of-w1", host.cluster.endpoint)
    assert made["reason"] == "the machine belongs to no cluster"
    assert set(made["seconds"]) == {"look", "reach", "join"}
    assert not [name for name in SECRETS if host.path(name).exists()]
    for check in (True, False):
        again = joined(host, check=check)
        assert (again["changed"], again["changes"], again["node_uid"]) == (False, [], "uid-of-w1")


def test_what_kubeadm_is_given(host: Joining) -> None:
    """Name, address, labels and taints reach kubeadm; labels that a kubelet may not give itself are returned."""
    labels = {"zone": "west", "node-role.kubernetes.io/worker": ""}
    taints = [{"key": "new", "effect": "NoSchedule"}]
    made = joined(host, node_ip="192.168.100.11", labels=labels, taints=taints, ignore_preflight_errors=["Swap"])
    node = host.seen["nodeRegistration"]
    assert made["labels_left"] == {"node-role.kubernetes.io/worker": ""}
    assert node["kubeletExtraArgs"] == {"node-ip": "192.168.100.11", "node-labels": "zone=west"}
    assert node["taints"] == [{"key": "new", "value": "", "effect": "NoSchedule"}]
    assert node["ignorePreflightErrors"] == ["FileExisting-crictl", "Swap"]
    assert host.seen["discovery"]["bootstrapToken"]["caCertHashes"][0].startswith("sha256:")


def test_a_cluster_that_shows_nothing(host: Joining) -> None:
    """Where strangers see nothing the cluster is in a file; with crictl its check counts."""
    host.cluster.shows = False
    host.have("/usr/bin/crictl")
    joined(host)
    assert "file" in host.seen["discovery"]
    assert host.seen["nodeRegistration"]["ignorePreflightErrors"] == []
    assert not host.path("/run/stargate/cluster.json").exists()


def test_another_name(host: Joining) -> None:
    """A machine that is another Node is reset first; what node_runtime owed is paid by the join."""
    joined(host)
    Memory(host).owe("kubelet")
    foretold = joined(host, check=True, node_name="w2")
    made = joined(host, node_name="w2")
    assert made["changes"] == foretold["changes"] == ["reset", f"joined {host.cluster.endpoint} as w2"]
    assert (made["reason"], made["node_uid"]) == ("the machine is the Node w1", "uid-of-w2")
    assert Memory(host).owed == []


def test_a_stopped_kubelet(host: Joining) -> None:
    """A member whose kubelet was stopped only has it started."""
    joined(host)
    host.lack(ENABLED)
    host.answers["systemctl", "is-active"] = Done(3, "inactive\n")
    assert joined(host, check=True)["changes"] == ["kubelet started"]
    assert joined(host)["changes"] == ["kubelet started"]
    assert host.commands()[-1] == "systemctl enable --now kubelet"


def test_reset_and_left_alone(host: Joining) -> None:
    """A member is taken out; a machine of no cluster is left alone."""
    joined(host)
    for check in (True, False):
        assert reset(host, check=check)["changes"] == ["reset"]
    assert not host.path(members.KUBECONFIG).exists()
    for check in (True, False):
        assert reset(host, check=check)["changed"] is False


@pytest.mark.parametrize(
    ("spoil", "code", "retryable"),
    [
        ({"status": 500}, "ApiUnreachable", True),
        ({"tokens": set()}, "TokenExpired", True),
        ({"version": "v1.19.9"}, "VersionSkew", False),
        ({"server": "127.0.0.1:1"}, "EndpointMismatch", False),
    ],
)
def test_nothing_is_lost_for_a_cluster_that_cannot_be_joined(
    host: Joining, spoil: dict[str, Any], code: str, *, retryable: bool
) -> None:
    """A machine keeps what it has when the other cluster cannot be reached or does not want it."""
    host.have("/var/lib/kubelet/config.yaml")
    for name, value in spoil.items():
        setattr(host.cluster, name, value)
    failed = joined(host)
    assert (failed["failure"]["code"], failed["failure"]["retryable"]) == (code, retryable)
    assert host.path("/var/lib/kubelet/config.yaml").exists()
    assert not [line for line in host.commands() if line.startswith("kubeadm")]


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (Done(1, err="error execution phase preflight:\n\t[ERROR Swap]: swap is on\n"), "PreflightFailed"),
        (Done(1, "[kubelet-check] It seems like the kubelet isn't running\n"), "KubeletUnhealthy"),
        (Done(1, err=f"error: something about {TOKEN}\n"), "JoinFailed"),
        (Done(None, f"[discovery] {TOKEN}\n"), "JoinTimeout"),
    ],
)
def test_a_join_that_fails(host: Joining, done: Done, code: str) -> None:
    """After a failed join the token is nowhere, and the kubelet is not left to fail again and again."""
    host.answers["kubeadm", "join"] = done
    host.have(BOOTSTRAP_FILE, TOKEN)
    host.answers["journalctl",] = Done(0, 'I1 fine\nE1121 kubelet.go] "no cgroups"\nStopped.\n')
    failed = joined(host)
    assert failed["failure"]["code"] == code
    assert ("no cgroups" in failed["failure"]["details"]) is (code == "KubeletUnhealthy")
    assert not [name for name in SECRETS if host.path(name).exists()]
    assert host.commands()[-1] == "systemctl disable --now kubelet"


def test_a_reset_that_leaves_something(host: Joining) -> None:
    """A reset after which something is left has failed."""
    host.have("/sys/class/net/cni0")
    failed = reset(host)
    assert (failed["failure"]["code"], failed["failure"]["details"]) == ("ResetFailed", "link cni0")


def test_a_control_plane(host: Joining) -> None:
    """The machine of a control plane is never taken apart."""
    host.have("/etc/kubernetes/manifests/etcd.yaml")
    host.have("/etc/kubernetes/pki/ca.crt")
    for result in (joined(host), reset(host)):
        assert result["failure"]["code"] == "IsControlPlane"
    assert host.path("/etc/kubernetes/pki/ca.crt").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"node_name": "W_1"}, "no name for a Node"),
        ({"node_ip": "10.0.0.1; x"}, "it is none"),
        ({"labels": {"a b": "c"}}, "is no label"),
        ({"labels": {"a": "b,c=d"}}, "is no label"),
    ],
)
def test_mistakes(host: Joining, given: dict[str, Any], words: str) -> None:
    """A user's mistake fails with a sentence before anybody is asked."""
    failed = joined(host, **given)
    assert (failed["failure"]["code"], failed["failure"]["retryable"]) == ("Invalid", False)
    assert words in failed["msg"]
    assert host.cluster.asked == []


@pytest.mark.parametrize(
    ("join", "check", "code"),
    [
        ({"ca": ""}, True, "Invalid"),
        ({"endpoint": "10.0.2.2"}, True, "Invalid"),
        ({"token": "no-token"}, True, "Invalid"),
        ({"token": ""}, False, "Invalid"),
        ({"token": ""}, True, ""),
    ],
)
def test_mistakes_in_what_is_joined(host: Joining, join: dict[str, Any], code: str, *, check: bool) -> None:
    """The cluster needs an address, a CA and a token, which check mode does without."""
    result = joined(host, check=check, join={**host.cluster.join, **join})
    assert result.get("failure", {}).get("code", "") == code


def test_nothing_installed(host: Joining) -> None:
    """Without kubelet and kubeadm the other module is named."""
    host.lack("/usr/bin/kubeadm")
    failed = joined(host)
    assert failed["failure"]["code"] == "KubeadmMissing"
    assert "stargate.core.node_runtime" in failed["msg"]


def test_documentation() -> None:
    """Documentation, argument spec and role know the same options with the same defaults."""
    documented = yaml.safe_load(kubeadm_join.DOCUMENTATION)["options"]
    spec = SPEC["argument_spec"]
    assert documented.keys() == spec.keys()
    for name, option in spec.items():
        assert documented[name].get("default") == option.get("default"), name
        assert documented[name].get("suboptions", {}).keys() == option.get("options", {}).keys(), name
    role = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {f"kubeadm_join_{name}" for name in spec} == role.keys()
    assert spec["join"]["options"]["token"]["no_log"] is True
    assert JOIN_FILE.startswith("/run/")
