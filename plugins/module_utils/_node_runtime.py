# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of node_runtime to its result: each part of the runtime in its order.

PRIVATE to the collection. What a part needs and how it is had is the business of the part.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _runtime_containerd as containerd
from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils import _runtime_kernel as kernel
from ansible_collections.stargate.core.plugins.module_utils import _runtime_kubernetes as kubernetes
from ansible_collections.stargate.core.plugins.module_utils import _runtime_packages as packages
from ansible_collections.stargate.core.plugins.module_utils import _runtime_swap as swap
from ansible_collections.stargate.core.plugins.module_utils import _version as version
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

SPEC: dict[str, Any] = {
    "argument_spec": {
        "kubernetes_version": {"type": "str", "required": True},
        "source": {"type": "str", "choices": ["packages", "binaries", "directory"], "default": "packages"},
        "repository": {"type": "str", "default": "https://pkgs.k8s.io/core:/stable:"},
        "repository_key": {"type": "str", "default": "", "no_log": False},
        "binaries_url": {"type": "str", "default": "https://dl.k8s.io/release"},
        "packages_dir": {"type": "path"},
        "container_runtime": {
            "type": "str",
            "choices": ["distribution", "vendor", "installed"],
            "default": "distribution",
        },
        "container_runtime_repository": {"type": "str", "default": "https://download.docker.com/linux"},
        "container_runtime_key": {"type": "str", "default": "", "no_log": False},
        "sandbox_image": {"type": "str", "default": ""},
        "images_dir": {"type": "path"},
        "cni": {"type": "str", "choices": ["none", "bridge"], "default": "none"},
        "pod_cidr": {"type": "str", "default": ""},
        "cni_bin_dir": {"type": "path"},
        "cgroup_driver": {"type": "str", "choices": ["systemd", "cgroupfs"], "default": "systemd"},
        "restrict_oom_score_adj": {"type": "bool", "default": False},
        "kubelet_extra_args": {"type": "list", "elements": "str", "default": []},
        "restart_kubelet": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 600},
    },
    "required_if": [("source", "directory", ("packages_dir",)), ("cni", "bridge", ("pod_cidr",))],
    "supports_check_mode": True,
}


def perform(params: Mapping[str, Any], host: Host, *, check_mode: bool) -> dict[str, Any]:
    """Have the machine as the options say; returns the module's result, raises what went wrong."""
    start = time.monotonic()
    wanted = kubernetes_wanted(params)
    require_sound(params)
    host.require_debian()
    ledger = Ledger(host, Memory(host, read_only=check_mode), check_mode)
    previous = ledger.memory.version(kubernetes.KUBELET)
    kernel.ensure(ledger)
    swap.ensure(ledger)
    plugins_dir = packages.ensure(ledger, _packages_wanted(params))
    runtime = ledger.memory.version(packages.CONTAINERD)
    if runtime:
        containerd.ensure_running(ledger, _containerd_file(params, runtime, plugins_dir))
    _ensure_network(ledger, params)
    target = kubernetes.ensure(ledger, wanted)
    driver = files.kubelet_arguments(params["cgroup_driver"], target, runtime)
    arguments = files.kubelet_defaults([*driver, *params["kubelet_extra_args"]])
    ledger.file(files.KUBELET_DEFAULTS_FILE, arguments, owes=["kubelet"])
    if params["images_dir"]:
        containerd.ensure_images(ledger, params["images_dir"])
    pending = kubernetes.settle(ledger, restart=params["restart_kubelet"])
    now = ledger.memory.version(kubernetes.KUBELET)
    return {
        **ledger.result(),
        "kubernetes_version": target.tag,
        "kubelet_version": now.tag if now else "",
        "previous_version": previous.tag if previous else "",
        "containerd_version": str(runtime or ""),
        "restart_pending": pending,
        "seconds": round(time.monotonic() - start, 3),
        "warnings": ledger.warnings,
    }


def kubernetes_wanted(params: Mapping[str, Any]) -> kubernetes.Wanted:
    """Return which kubelet is wanted."""
    return kubernetes.Wanted(
        version=version.asked(params["kubernetes_version"]),
        source=params["source"],
        repository=params["repository"].rstrip("/"),
        repository_key=params["repository_key"],
        binaries_url=params["binaries_url"].rstrip("/"),
        packages_dir=params["packages_dir"] or "",
        timeout=float(params["timeout"]),
    )


def require_sound(params: Mapping[str, Any]) -> None:
    """Refuse what would break a file that it is written to, or the network."""
    texts = [*params["kubelet_extra_args"], params["sandbox_image"], params["repository"], params["repository_key"]]
    texts += [params["container_runtime_repository"], params["container_runtime_key"], params["binaries_url"]]
    for text in texts:
        if not text.isprintable() or any(char in text for char in "\"'\\`"):
            raise Invalid(
                f"Failed to take {text[:60]!r}: quotes, backslashes and control characters are not supported."
            )
    if params["cni"] == "bridge":
        import ipaddress

        try:
            ipaddress.ip_network(params["pod_cidr"])
        except ValueError as error:
            raise Invalid(f"Failed to take the pod network {params['pod_cidr'][:60]!r}: {error}.") from error


def _packages_wanted(params: Mapping[str, Any]) -> packages.Wanted:
    return packages.Wanted(
        runtime=params["container_runtime"],
        repository=params["container_runtime_repository"].rstrip("/"),
        key=params["container_runtime_key"],
        cni=params["cni"],
        cni_bin_dir=params["cni_bin_dir"] or "",
        timeout=float(params["timeout"]),
    )


def _containerd_file(params: Mapping[str, Any], runtime: version.Version, plugins_dir: str) -> str:
    return files.containerd_config(
        files.Containerd(
            runtime,
            sandbox_image=params["sandbox_image"],
            cgroup_driver=params["cgroup_driver"],
            restrict_oom_score_adj=params["restrict_oom_score_adj"],
            cni_bin_dir=plugins_dir,
        )
    )


def _ensure_network(ledger: Ledger, params: Mapping[str, Any]) -> None:
    """Have the machine's own pod network, or none of ours."""
    if params["cni"] == "bridge":
        ledger.file(files.CONFLIST_FILE, files.conflist(params["pod_cidr"]))
    else:
        ledger.gone(files.CONFLIST_FILE)
