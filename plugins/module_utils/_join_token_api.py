# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens straight from the Kubernetes API: everything is read and checked before a token is made.

PRIVATE to the collection. What tokens and ConfigMaps say is known to _bootstrap_token.py.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _bootstrap_token
from ansible_collections.stargate.core.plugins.module_utils._bootstrap_token import Token
from ansible_collections.stargate.core.plugins.module_utils._certificates import key_hashes
from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Denied, StargateError, Timeout
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, Object, path_of
from ansible_collections.stargate.core.plugins.module_utils._kube_follow import Followed

CONFIG_MAPS, SECRETS = "/api/v1/namespaces/{}/configmaps", "/api/v1/namespaces/kube-system/secrets"
PUBLIC, SYSTEM = CONFIG_MAPS.format("kube-public"), CONFIG_MAPS.format("kube-system")
CLUSTER_INFO = "cluster-info"


class ApiTokens:
    """The tokens of one cluster; `timeout` is how long it may take to sign cluster-info."""

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        """Ask nothing yet."""
        self._cluster = cluster
        self._timeout = timeout

    def described(self, endpoint: str, *, verify_ca: bool) -> dict[str, Any]:
        """Return how the cluster is joined, without a token."""
        found = self._cluster.find(path_of(PUBLIC, CLUSTER_INFO), "read the ConfigMap kube-public/cluster-info")
        info = _bootstrap_token.cluster_info(found)
        refusal = _bootstrap_token.ca_mismatch(info, self._cluster.ca) if verify_ca else None
        if refusal is not None:
            raise refusal
        domain, server = _bootstrap_token.dns_of(self._kubeadm_config())
        return {
            "method": "kubeadm",
            "endpoint": _bootstrap_token.endpoint(endpoint or info.server),
            "token": "",
            "token_id": "",
            "ca": info.ca,
            "ca_hashes": sorted(key_hashes(info.ca)),
            "server_version": "",
            "dns": domain,
            "cluster_dns": server,
        }

    def version(self) -> tuple[str, str]:
        """Return the API server's version, and its clock as an HTTP date."""
        answer = self._cluster.ask("GET", "/version", "read the version of the API server")
        return str(answer.body.get("gitVersion", "")), answer.date

    def make(self, node: str, ttl: int, date: str) -> Token:
        """Return a new token for a Node, in place of its earlier one, when the cluster can be joined with it."""
        token = _bootstrap_token.new_token(node)
        body = _bootstrap_token.manifest(token, node, ttl, date)
        doing = f"make a join token for Node {node}"
        try:
            self._cluster.create(SECRETS, doing, body)
        except Conflict:
            self.revoke(token.id)
            self._cluster.create(SECRETS, doing, body)
        try:
            self._await_signature(token, node)
        except StargateError:
            self.revoke(token.id)
            raise
        return token

    def revoke(self, identifier: str) -> bool:
        """Delete a token; returns whether it was there."""
        name = _bootstrap_token.secret_name(identifier)
        return self._cluster.delete(path_of(SECRETS, name), f"revoke the join token {identifier}")

    def _await_signature(self, token: Token, node: str) -> None:
        clock = self._cluster.clock
        started = clock.monotonic()
        doing = "watch the ConfigMap kube-public/cluster-info"
        followed = Followed(self._cluster, PUBLIC, f"metadata.name={CLUSTER_INFO}", doing)
        found = followed.now()
        while not (found and _bootstrap_token.is_signed(found[-1], token)):
            left = started + self._timeout - clock.monotonic()
            if left <= 0:
                raise Timeout(
                    f"Failed to make a join token for Node {node}: cluster-info was not signed with it within "
                    f"{self._timeout:.0f} s. Does kube-controller-manager run, with the controller bootstrapsigner?",
                    code="TokenNotSigned",
                )
            found = followed.changed(left)

    def _kubeadm_config(self) -> Object | None:
        try:
            return self._cluster.find(path_of(SYSTEM, "kubeadm-config"), "read the ConfigMap kubeadm-config")
        except Denied:  # it only says what is nice to know
            return None
