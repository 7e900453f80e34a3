# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of kubeadm_join to its result: member already, or reach, reset, join, in this order.

PRIVATE to the collection. The secret lives in one file below /run, as long as kubeadm runs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _certificates as certificates
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm as kubeadm
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_cluster as clusters
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_member as members
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout, clipped
from ansible_collections.stargate.core.plugins.module_utils._journal import Step, Turn
from ansible_collections.stargate.core.plugins.module_utils._version import Version
from ansible_collections.stargate.core.plugins.module_utils._worker_host import RUN_DIR, Host
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

JOIN_FILE = f"{RUN_DIR}/join.json"
BOOTSTRAP_FILE = "/etc/kubernetes/bootstrap-kubelet.conf"  # kubeadm's own copy of the token, left when it is killed
RESET = Step("reset", destructive=True, repeats=True)
JOIN = Step("join", repeats=True)
ENABLED = "/etc/systemd/system/multi-user.target.wants/kubelet.service"

SPEC: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["present", "reset"], "default": "present"},
        "node_name": {"type": "str"},
        "node_ip": {"type": "str", "default": ""},
        "join": {
            "type": "dict",
            "options": {
                "method": {"type": "str", "choices": ["kubeadm"], "default": "kubeadm"},
                "endpoint": {"type": "str", "required": True},
                "token": {"type": "str", "default": "", "no_log": True},
                "token_id": {"type": "str", "no_log": False},
                "ca": {"type": "str", "default": ""},
                "ca_hashes": {"type": "list", "elements": "str", "default": []},
                "server_version": {"type": "str"},
                "dns": {"type": "str"},
                "cluster_dns": {"type": "raw"},
            },
        },
        "labels": {"type": "dict", "default": {}},
        "taints": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "key": {"type": "str", "required": True, "no_log": False},
                "value": {"type": "str", "default": ""},
                "effect": {"type": "str", "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"], "required": True},
            },
        },
        "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
        "cri_socket": {"type": "path", "default": "/run/containerd/containerd.sock"},
        "timeout": {"type": "int", "default": 300},
    },
    "required_if": [("state", "present", ("node_name", "join"))],
    "supports_check_mode": True,
}


@dataclass
class Run:
    """One run of the module: what is asked for, where, and how long each step took."""

    params: Mapping[str, Any]
    host: Host
    turn: Turn
    check_mode: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - start, 3)

    @contextmanager
    def act(self, step: Step) -> Iterator[None]:
        """Measure the block and write it into the machine's journal."""
        with self.step(step.name), self.turn.step(step):
            yield


def perform(params: Mapping[str, Any], host: Host, turn: Turn, *, check_mode: bool) -> dict[str, Any]:
    """Have the machine be a member or not; returns the module's result, raises what went wrong."""
    run = Run(params, host, turn, check_mode)
    if params["state"] == "present":
        result = _present(run)
    else:
        changes = _reset(run)
        result = {"changed": bool(changes), "changes": changes}
    return {**result, "seconds": run.seconds}


def _reset(run: Run) -> list[str]:
    # What a member that is left alone need not read.
    from ansible_collections.stargate.core.plugins.module_utils._kubeadm_reset import leftovers, require_worker, reset

    if not leftovers(run.host):
        return []
    require_worker(run.host)
    if not run.check_mode:
        if run.turn.known(RESET) is None:
            with run.act(RESET):
                reset(run.host, run.params["cri_socket"])
        left = leftovers(run.host)
        if left:
            text = f"Failed to reset the machine: {', '.join(left[:3])} are still there."
            raise StargateError(text, code="ResetFailed", details=", ".join(left), retryable=True)
    return ["reset"]


def _present(run: Run) -> dict[str, Any]:
    member, join = member_of(run.params, run.host), run.params["join"]
    require_sound(run.params, check_mode=run.check_mode)
    memory = Memory(run.host, read_only=run.check_mode)
    kubelet = _kubelet(memory)
    left = {key: value for key, value in member.labels.items() if key not in kubeadm.own_labels(member.labels)}
    known = {"node_name": member.name, "kubelet_version": kubelet.tag, "labels_left": left}
    with run.step("look"):
        standing = members.standing(run.host, member.name, join)
    if not standing.reason:
        changes = _wake(run, standing)
        known.update(node_uid=standing.uid, endpoint=standing.endpoint)
        return {**known, "changed": bool(changes), "changes": changes}
    with run.step("reach"):
        cluster = clusters.reached(join, join["token"])
        clusters.require_same_door(cluster)
    require_no_skew(kubelet, cluster)
    changes = [*_reset(run), f"joined {cluster.server} as {member.name}"]
    if not run.check_mode:
        with run.act(JOIN):
            _join(run.host, _configuration(kubelet, member, cluster, join["token"]), member, join["token"])
        for debt in ("kubelet", "upgrade"):  # the kubelet runs as it is installed now
            memory.paid(debt)
        known["node_uid"] = members.registered(run.host, member.name, cluster.ca, cluster.server)[0]
    known.update(endpoint=cluster.server, reason=standing.reason)
    return {"node_uid": "", **known, "changed": True, "changes": changes}


def member_of(params: Mapping[str, Any], host: Host) -> kubeadm.Member:
    """Return the Node that the machine is to become."""
    ignored = list(params["ignore_preflight_errors"])
    if not host.program("crictl"):
        ignored.append("FileExisting-crictl")
    return kubeadm.Member(
        name=params["node_name"],
        ip=params["node_ip"],
        labels={str(key): str(value) for key, value in params["labels"].items()},
        taints=params["taints"],
        cri_socket=params["cri_socket"],
        ignored=sorted(set(ignored)),
        timeout=params["timeout"],
    )


def require_sound(params: Mapping[str, Any], *, check_mode: bool) -> None:
    """Refuse what kubeadm would stumble over later, with a message that says less."""
    join = params["join"]
    clusters.split(join["endpoint"])
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", params["node_name"]):
        raise Invalid(f"Failed to join as {params['node_name'][:60]!r}: that is no name for a Node.")
    if not re.fullmatch(r"[0-9a-fA-F:.,]*", params["node_ip"]):
        raise Invalid(f"Failed to join with the address {params['node_ip'][:60]!r}: it is none.")
    if not (join["ca"] or join["ca_hashes"]):
        raise Invalid(f"Failed to join {join['endpoint']}: neither its CA nor a hash of the CA's key was given.")
    if not re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", join["token"]) and (join["token"] or not check_mode):
        raise Invalid(f"Failed to join {join['endpoint']}: what was given as a token is none.")
    for key, value in params["labels"].items():
        if not re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9._-]+", str(key)) or not re.fullmatch(r"[\w.-]*", str(value)):
            raise Invalid(
                f"Failed to join as {params['node_name']}: {str(key)[:60]!r} is no label, or has no fit value."
            )


def require_no_skew(kubelet: Version, cluster: clusters.Cluster) -> None:
    """Refuse a kubelet that is newer than its API server; Kubernetes does not allow that."""
    if cluster.version and kubelet.line > cluster.version.line:
        raise Invalid(
            f"Failed to join {cluster.endpoint}: the kubelet is {kubelet.tag}, and newer than the API server, "
            f"which is {cluster.version.tag}.",
            code="VersionSkew",
        )


def _kubelet(memory: Memory) -> Version:
    version = memory.version("/usr/bin/kubelet")
    if version is None or not memory.host.path("/usr/bin/kubeadm").exists():
        raise Invalid(
            "Failed to join: kubelet and kubeadm are not installed. Use stargate.core.node_runtime first.",
            code="KubeadmMissing",
        )
    return version


def _wake(run: Run, standing: members.Standing) -> list[str]:
    """Have the kubelet of a member run, now and after a boot."""
    if standing.kubelet == "active" and run.host.path(ENABLED).is_symlink():
        return []
    if not run.check_mode:
        run.host.must(["systemctl", "enable", "--now", "kubelet"], "start the kubelet")
    return ["kubelet started"]


def _configuration(kubelet: Version, member: kubeadm.Member, cluster: clusters.Cluster, token: str) -> dict[str, str]:
    """Return the files that kubeadm reads, by their names."""
    if cluster.is_signed:
        pins = certificates.key_hashes(cluster.ca)
        discovery = kubeadm.discovery_by_token(cluster.endpoint, token, pins)
        return {JOIN_FILE: kubeadm.join_configuration(kubelet, member, discovery)}
    join = kubeadm.join_configuration(kubelet, member, kubeadm.discovery_by_file(token))
    return {kubeadm.DISCOVERY_FILE: kubeadm.discovery_kubeconfig(cluster.endpoint, cluster.ca), JOIN_FILE: join}


def _join(host: Host, files: Mapping[str, str], member: kubeadm.Member, token: str) -> None:
    """Run kubeadm join; whatever happens, the token's files are gone afterwards, and so is a kubelet that failed."""
    joined = False
    host.path(RUN_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for name, content in files.items():
            host.write(name, content, 0o600)
        if not host.path(ENABLED).is_symlink():
            host.must(["systemctl", "enable", "kubelet"], "enable the kubelet")
        done = host.run(["kubeadm", "join", "--config", str(host.path(JOIN_FILE))], timeout=member.timeout)
        joined = done.ok
        if done.code is None:
            text = f"Failed to join the cluster as {member.name}: kubeadm did not end within {member.timeout} seconds."
            raise Timeout(text, code="JoinTimeout", details=kubeadm.meaningful(done.out + done.err).replace(token, ""))
        if not done.ok:
            raise _with_kubelet_words(host, kubeadm.join_failure(member.name, done.out + done.err, token))
    finally:
        for name in (*files, BOOTSTRAP_FILE):
            with suppress(FileNotFoundError):
                host.path(name).unlink()
        if not joined:
            host.run(["systemctl", "disable", "--now", "kubelet"], timeout=60)


def _with_kubelet_words(host: Host, error: StargateError) -> StargateError:
    """Return the failure with the kubelet's last word where kubeadm only says that the kubelet does not run."""
    if error.code == "KubeletUnhealthy":
        words = host.run(["journalctl", "-u", "kubelet", "-n", "20", "-o", "cat", "--no-pager"], timeout=20).out
        lines = [line for line in words.splitlines() if line[:1] in "EF" or "rror" in line]
        error.details = clipped(lines[-1] if lines else error.details)
    return error
