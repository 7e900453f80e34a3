# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a machine is a member of a cluster already, under a name: by its files, its kubelet and the cluster's word.

PRIVATE to the collection. Changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _certificates as certificates
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_cluster as clusters
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host

KUBECONFIG = "/etc/kubernetes/kubelet.conf"
CLIENT_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"


@dataclass(frozen=True)
class Standing:
    """What a machine is to a cluster. An empty `reason` means that it is a member."""

    reason: str = ""
    uid: str = ""
    endpoint: str = ""
    kubelet: str = ""  # as systemd has it: active, inactive, failed, activating


def standing(host: Host, name: str, join: Mapping[str, Any]) -> Standing:
    """Return what the machine is to the cluster; fails when it seems a member and the cluster does not answer."""
    kubeconfig = host.text(KUBECONFIG)
    if kubeconfig is None:
        return Standing("the machine belongs to no cluster")
    facts = clusters.kubeconfig_facts(kubeconfig)
    ca = base64.b64decode(facts.get("certificate-authority-data", "")).decode(errors="replace")
    server = facts.get("server", "").removeprefix("https://").rstrip("/")
    reason = _difference(host, name, join, ca)
    if not reason and server != join["endpoint"] and server != clusters.server_of(join["endpoint"], ca):
        reason = f"the machine's kubelet talks to {server}"
    if reason:
        return Standing(reason)
    kubelet = host.run(["systemctl", "is-active", "kubelet"]).out.strip()
    if kubelet not in ("active", "inactive"):
        return Standing(f"the kubelet is {kubelet}")
    uid, reason = registered(host, name, ca, server)
    return Standing(reason, uid, server, kubelet)


def registered(host: Host, name: str, ca: str, server: str) -> tuple[str, str]:
    """Return the uid of the Node, asked with the kubelet's own certificate; else "" and why there is none."""
    try:
        door = clusters.Door(server, ca, client_certificate=str(host.path(CLIENT_CERTIFICATE)))
    except Invalid:
        return "", "the kubelet has no certificate that can be read"
    answer = door.get(f"/api/v1/nodes/{name}")
    if answer.status == 200:
        return str(answer.body.get("metadata", {}).get("uid", "")), ""
    if answer.status == 404:
        return "", "the cluster has no Node of this name"
    return "", f"the cluster does not accept the kubelet's certificate (HTTP {answer.status})"


def _difference(host: Host, name: str, join: Mapping[str, Any], ca: str) -> str:
    """Return what in the kubelet's files speaks of another cluster or another name, "" when nothing does."""
    pinned = set(join["ca_hashes"] or []) or certificates.key_hashes(join["ca"])
    if not pinned & certificates.key_hashes(ca):
        return "the machine belongs to another cluster"
    known = certificates.node_name(host.text(CLIENT_CERTIFICATE) or "")
    return "" if known == name else f"the machine is the Node {known}" if known else "the kubelet has no certificate"
