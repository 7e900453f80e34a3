# SPDX-License-Identifier: Apache-2.0
"""What a membership leaves, and that all of it goes and nothing else does.

The machine is a directory; its commands are those that would be run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from tests.unit.plugins.worker_world import Machine, in_turn, machine

from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_reset as resets
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done

SOCKET = "/run/containerd/containerd.sock"
RUNNING = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc/config.json"


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


@pytest.mark.parametrize(
    "name",
    [
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/bootstrap-kubelet.conf",
        "/etc/kubernetes/pki/ca.crt",
        "/var/lib/kubelet/config.yaml",
        "/var/lib/kubelet/pki/kubelet.crt",
        "/var/lib/cni/networks/stargate/10.244.1.2",
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc/config.json",
        "/sys/class/net/cni0",
        "/etc/cni/net.d/10-flannel.conflist",
        "/etc/cni/net.d/05-cilium.conflist",
    ],
)
def test_leftovers(host: Machine, name: str) -> None:
    """Whatever shows a membership is found."""
    assert resets.leftovers(host) == []
    host.have(name)
    assert len(resets.leftovers(host)) == 1


@pytest.mark.parametrize(
    "name", ["/etc/cni/net.d/10-stargate.conflist", "/etc/cni/net.d/87-podman-bridge.conflist", "/etc/kubernetes/notes"]
)
def test_what_is_no_leftover(host: Machine, name: str) -> None:
    """The network of node_runtime and other people's files do not show a membership."""
    host.have(name)
    assert resets.leftovers(host) == []


def test_reset(host: Machine) -> None:
    """After a reset nothing is left over, and what is not the cluster's is still there."""
    gone = ["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/pki/ca.crt", "/var/lib/kubelet/pods/1/volumes/x"]
    gone += [
        "/var/lib/cni/networks/a",
        "/etc/cni/net.d/10-flannel.conflist",
        "/run/netns/cni-1",
        "/var/log/pods/a/0.log",
    ]
    stay = ["/etc/cni/net.d/10-stargate.conflist", "/etc/kubernetes/notes", "/run/netns/mine", "/usr/bin/kubeadm"]
    for name in [*gone, *stay]:
        host.have(name)
    host.path("/var/lib/kubelet/link").symlink_to("/etc")
    resets.reset(host, SOCKET)
    assert not [name for name in gone if host.path(name).exists()]
    assert all(host.path(name).exists() for name in stay)
    assert host.path("/var/lib/kubelet").is_dir()
    assert host.path("/etc/os-release").exists()
    assert resets.leftovers(host) == []
    assert host.commands()[:2] == [
        "systemctl disable --now kubelet",
        f"kubeadm reset -f --cri-socket unix://{SOCKET}",
    ]


def test_containers(host: Machine) -> None:
    """Containers that kubeadm has left are removed, and containerd forgets their pods."""
    host.have(RUNNING)
    host.answers["ctr", "-n", "k8s.io", "tasks", "ls"] = in_turn(Done(0, "abc\ndef\n"), Done(0, "def\n"), Done(0))
    host.answers["ctr", "-n", "k8s.io", "tasks", "rm"] = Done(
        1, err="ctr: cannot delete a deleted process: not found\n"
    )
    host.answers["ctr", "-n", "k8s.io", "containers", "ls"] = in_turn(Done(0, "abc\n"), Done(0))
    resets.reset(host, SOCKET)
    asked = [line.partition("ctr -n k8s.io ")[2] for line in host.commands()]
    assert [line for line in asked if line] == [
        "tasks ls -q",
        "tasks rm -f abc def",
        "tasks ls -q",
        "tasks rm -f def",
        "tasks ls -q",
        "containers ls -q",
        "containers rm abc",
        "containers ls -q",
    ]
    assert "systemctl restart containerd" in host.commands()


def test_a_container_that_stays(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that cannot be removed fails the reset, which may work later."""
    monkeypatch.setattr(resets, "PATIENCE", -1)
    host.have(RUNNING)
    host.answers["ctr", "-n", "k8s.io", "tasks", "ls"] = Done(0, "abc\n")
    with pytest.raises(StargateError, match="1 tasks of pods do not go away") as caught:
        resets.reset(host, SOCKET)
    assert (caught.value.code, caught.value.retryable) == ("ResetFailed", True)


def test_containers_that_are_only_directories(host: Machine) -> None:
    """When containerd knows of no containers there is nothing to remove."""
    host.have(RUNNING)
    resets.reset(host, SOCKET)
    assert not [line for line in host.commands() if " rm " in line]


MOUNTS = """\
30 1 8:1 / / rw - ext4 /dev/sda1 rw
31 30 8:1 / /var/lib/kubelet rw - ext4 /dev/sda1 rw
32 31 0:50 / /var/lib/kubelet/pods/1/volumes/a\\040b rw - tmpfs tmpfs rw
33 31 0:51 / /var/lib/kubelet/pods/1/volumes/a\\040b/deep rw - nfs server:/data rw
34 30 0:4 net:[1] /run/netns/cni-1 rw - nsfs nsfs rw
"""


def test_mounts(host: Machine) -> None:
    """Volumes are unmounted, the deepest first, and the kubelet's own directory stays mounted."""
    host.have("/proc/self/mountinfo", MOUNTS)

    def umount(argv: Sequence[str], stdin: str) -> Done:
        del argv, stdin
        host.have("/proc/self/mountinfo", "".join(MOUNTS.splitlines(keepends=True)[:2]))
        return Done(0)

    host.answers["umount",] = umount
    resets.reset(host, SOCKET)
    volume = "/var/lib/kubelet/pods/1/volumes/a b"
    assert next(argv for argv in host.ran if argv[0] == "umount")[2:] == [f"{volume}/deep", volume, "/run/netns/cni-1"]


def test_a_mount_that_stays(host: Machine) -> None:
    """What is mounted is never emptied."""
    host.have("/proc/self/mountinfo", MOUNTS)
    host.have("/var/lib/kubelet/pods/1/volumes/a b/deep/data")
    with pytest.raises(StargateError, match="stay mounted") as caught:
        resets.reset(host, SOCKET)
    assert (caught.value.code, caught.value.retryable) == ("ResetFailed", True)
    assert host.path("/var/lib/kubelet/pods/1/volumes/a b/deep/data").exists()


def test_links(host: Machine) -> None:
    """Links of pod networks are deleted."""
    host.have("/sys/class/net/cni0")
    host.have("/sys/class/net/lan")
    resets.reset(host, SOCKET)
    assert "ip link delete cni0" in host.commands()
    assert "ip link delete lan" not in host.commands()


@pytest.mark.parametrize(
    ("done", "fine"),
    [
        (Done(1, err="Failed to disable unit: Unit file kubelet.service does not exist.\n"), True),
        (Done(1, err="Failed to connect to bus\n"), False),
        (Done(None), False),
    ],
)
def test_the_kubelet_stops_first(host: Machine, done: Done, *, fine: bool) -> None:
    """Nothing is taken away under a kubelet that runs; a machine without one is fine."""
    host.have("/var/lib/kubelet/config.yaml")
    host.answers["systemctl", "disable"] = done
    if not fine:
        with pytest.raises(StargateError) as caught:
            resets.reset(host, SOCKET)
        assert caught.value.code == "ResetFailed"
    else:
        resets.reset(host, SOCKET)
    assert host.path("/var/lib/kubelet/config.yaml").exists() is not fine


SAVED = """\
# Generated by iptables-save v1.8.9 (nf_tables)
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [1:60]
:CNI-1a2b - [0:0]
:KUBE-MARK-MASQ - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -p tcp -j MINE
-A POSTROUTING -s 10.244.1.2/32 -m comment --comment "name: \\"stargate\\" id: \\"1\\"" -j CNI-1a2b
-A CNI-1a2b -d 10.244.1.0/24 -j ACCEPT
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A MINE -m comment --comment "not KUBE-this" -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
-A INPUT -j ACCEPT
COMMIT
"""
SCRIPT = """\
*nat
:CNI-1a2b - [0:0]
:KUBE-MARK-MASQ - [0:0]
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-D POSTROUTING -s 10.244.1.2/32 -m comment --comment "name: \\"stargate\\" id: \\"1\\"" -j CNI-1a2b
-X CNI-1a2b
-X KUBE-MARK-MASQ
COMMIT
"""


def test_without_chains() -> None:
    """Only chains of Kubernetes and CNI go, with the rules that lead to them."""
    assert resets.without_chains(SAVED) == SCRIPT
    assert resets.without_chains(SAVED[SAVED.index("*filter") :]) == ""


def test_rules(host: Machine) -> None:
    """The rules of both families are cleaned, where there are any."""
    given = []

    def restore(argv: Sequence[str], stdin: str) -> Done:
        given.append((argv[0], stdin))
        return Done(0)

    host.answers["iptables-save",] = Done(0, SAVED)
    host.answers["ip6tables-save",] = Done(1, "", "ip6tables-save: no such table\n")
    host.answers["iptables-restore",] = restore
    resets.reset(host, SOCKET)
    assert given == [("iptables-restore", SCRIPT)]


@pytest.mark.parametrize(
    ("part", "code"), [("kube-apiserver", "IsControlPlane"), ("etcd", "IsControlPlane"), ("own-pod", "")]
)
def test_require_worker(host: Machine, part: str, code: str) -> None:
    """A machine that a control plane runs on is refused."""
    host.have(f"/etc/kubernetes/manifests/{part}.yaml")
    if not code:
        resets.require_worker(host)
        return
    with pytest.raises(StargateError, match=part) as caught:
        resets.require_worker(host)
    assert caught.value.code == code
