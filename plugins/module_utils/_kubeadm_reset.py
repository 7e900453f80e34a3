# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a membership leaves on a machine, and how it is taken away: what kubeadm forgets, too.

PRIVATE to the collection. What node_runtime has set up stays, so that the machine can join again at once.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._runtime_files import CONFLIST_FILE
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done, Host, disk_errors

KUBELET_DIR = "/var/lib/kubelet"
TASKS_DIR = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
MANIFESTS = "/etc/kubernetes/manifests"
PATIENCE = 60.0  # seconds for the pods' containers to go away
CNI_FILES = "/etc/cni/net.d"

_SIGNS = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
    f"{KUBELET_DIR}/config.yaml",
    f"{KUBELET_DIR}/kubeadm-flags.env",
    f"{KUBELET_DIR}/pki",
)
_EMPTIED = (
    KUBELET_DIR,
    MANIFESTS,
    "/etc/kubernetes/pki",
    "/var/lib/cni",
    "/run/kubernetes",
    "/run/flannel",
    "/var/log/containers",
    "/var/log/pods",
)
_LINKS = (
    "cni0",
    "cbr0",
    "flannel.1",
    "flannel-v6.1",
    "cilium_host",
    "cilium_vxlan",
    "vxlan.calico",
    "kube-ipvs0",
    "nodelocaldns",
)
_NETWORKS = re.compile(r"flannel|cilium|calico|canal|weave|antrea|kube-router|kube-ovn|multus|kindnet")
_CHAIN = r"(?:KUBE|CNI)-[\w-]*"


def leftovers(host: Host) -> list[str]:
    """Return what shows that the machine is, or was, a member of a cluster."""
    found = [name for name in _SIGNS if host.path(name).exists()]
    found += [name for name in ("/var/lib/cni", TASKS_DIR) if _entries(host.path(name))]
    found += [f"link {link}" for link in _links(host)]
    return found + [str(path) for path in _generated_networks(host)]


def require_worker(host: Host) -> None:
    """Refuse to take apart a machine that a control plane runs on."""
    parts = [name for name in ("kube-apiserver", "etcd") if host.path(f"{MANIFESTS}/{name}.yaml").exists()]
    if parts:
        raise Invalid(
            f"Failed to reset the machine: {' and '.join(parts)} run here, so it is part of a control plane. "
            "Run kubeadm reset on it yourself if that is what you want.",
            code="IsControlPlane",
        )


def reset(host: Host, cri_socket: str) -> None:
    """Take away what a membership has left."""
    _stop_kubelet(host)
    if host.program("kubeadm"):
        # Its exit code says little: it also fails for want of crictl. What counts is what is left, looked at below.
        host.run(["kubeadm", "reset", "-f", "--cri-socket", f"unix://{cri_socket}"], timeout=300)
    _remove_containers(host)
    _unmount(host)
    with disk_errors("remove what the kubelet has left"):
        for name in _EMPTIED:
            _empty(host.path(name))
        for path in [*host.path("/etc/kubernetes").glob("*.conf"), *_generated_networks(host)]:
            path.unlink()
    for link in _links(host):
        host.must(["ip", "link", "delete", link], f"remove the link {link}")
    for command in ("iptables", "ip6tables"):
        _remove_rules(host, command)


def without_chains(saved: str) -> str:
    """Return what iptables-restore has to do to take away the chains of kube-proxy, kubelet and CNI, "" if nothing.

    Each chain is emptied first, then the rules elsewhere that lead to one go, then the chains.
    """
    script = []
    for table in re.findall(r"^\*\w+$.*?^COMMIT$", saved, re.MULTILINE | re.DOTALL):
        chains = re.findall(rf"^:({_CHAIN}) ", table, re.MULTILINE)
        rules = re.findall(rf"^-A (?!{_CHAIN} )(.*-[jg] {_CHAIN}(?: .*)?)$", table, re.MULTILINE)
        if chains or rules:
            script.append(table.splitlines()[0])
            script += [f":{chain} - [0:0]" for chain in chains]
            script += [f"-D {rule}" for rule in rules]
            script += [f"-X {chain}" for chain in chains]
            script.append("COMMIT")
    return "\n".join([*script, ""]) if script else ""


def _stop_kubelet(host: Host) -> None:
    """Stop the kubelet for good, or it would start again what is taken away."""
    done = host.run(["systemctl", "disable", "--now", "kubelet"], timeout=120)
    if not done.ok and "does not exist" not in done.err:
        raise StargateError(
            f"Failed to reset the machine: the kubelet does not stop: {done.last_words}.",
            code="ResetFailed",
            details=done.last_words,
            retryable=True,
        )


def _remove_containers(host: Host) -> None:
    """Remove the pods' containers, also where kubeadm could not for want of crictl."""
    if not _entries(host.path(TASKS_DIR)):
        return
    _remove_all(host, "tasks", "rm", "-f")
    _remove_all(host, "containers", "rm")
    host.must(["systemctl", "restart", "containerd"], "have containerd forget the pods", timeout=120)


def _remove_all(host: Host, kind: str, *remove: str) -> None:
    """Remove whatever containerd has of a kind; it removes some by itself meanwhile, which ctr takes for an error."""
    ctr = ["ctr", "-n", "k8s.io", kind]
    until = time.monotonic() + PATIENCE
    done = Done(0)
    while names := host.must([*ctr, "ls", "-q"], f"list the pods' {kind}").split():
        if time.monotonic() > until:
            raise StargateError(
                f"Failed to reset the machine: {len(names)} {kind} of pods do not go away: {done.last_words}.",
                code="ResetFailed",
                details=done.last_words,
                retryable=True,
            )
        done = host.run([*ctr, *remove, *names], timeout=120)


def _unmount(host: Host) -> None:
    """Unmount volumes and the pods' network namespaces; what is mounted must not be emptied."""
    points = _mounts(host)
    if points:
        host.run(["umount", "--lazy", *points], timeout=120)
    if [point for point in _mounts(host) if point.startswith(KUBELET_DIR)]:
        raise StargateError(
            f"Failed to reset the machine: volumes below {KUBELET_DIR} stay mounted.",
            code="ResetFailed",
            retryable=True,
        )
    for namespace in host.path("/run/netns").glob("cni-*"):
        namespace.unlink()


def _mounts(host: Host) -> list[str]:
    """Return the mount points of pods, the deepest first."""
    lines = (host.text("/proc/self/mountinfo") or "").splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    ours = [point for point in points if point.startswith((f"{KUBELET_DIR}/", "/run/netns/cni-"))]
    return sorted(ours, key=len, reverse=True)


def _remove_rules(host: Host, command: str) -> None:
    saved = host.run([f"{command}-save"])
    script = without_chains(saved.out) if saved.ok else ""
    if script:
        host.must([f"{command}-restore", "--noflush"], f"remove the rules of {command}", stdin=script)


def _links(host: Host) -> list[str]:
    return [link for link in _LINKS if host.path(f"/sys/class/net/{link}").exists()]


def _generated_networks(host: Host) -> list[Path]:
    """Return the network configurations that a pod of the cluster has put there; ours is node_runtime's."""
    paths = _entries(host.path(CNI_FILES))
    return [path for path in paths if _NETWORKS.search(path.name) and path != host.path(CONFLIST_FILE)]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _empty(folder: Path) -> None:
    """Remove what is in a directory; the directory may be a mount point and stays."""
    for path in _entries(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
