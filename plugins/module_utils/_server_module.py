# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of stargate.core.server, and from options to a result.

PRIVATE to the collection. Reads, plans with _server_object.py, applies. How a cluster is spoken to is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._server import problems
from ansible_collections.stargate.core.plugins.module_utils._server_object import (
    Change,
    absent,
    merged,
    owner,
    present,
    told,
)

SERVER_SPEC: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str"},
        "namespace": {"type": "str", "required": True},
        "spec": {"type": "dict"},
        "site": {"type": "str", "default": ""},
        "state": {"type": "str", "choices": ["present", "absent", "read"], "default": "present"},
        "kubeconfig": {"type": "path"},
        "context": {"type": "str"},
    },
    "required_if": [("state", "present", ("name", "spec")), ("state", "absent", ("name", "site"), True)],
}
Object = Mapping[str, Any]


class Cluster(Protocol):
    """What is asked of a cluster; errors are StargateErrors."""

    def server(self, namespace: str, name: str) -> Object | None:
        """Return a Server, None when there is none."""

    def servers(self, namespace: str) -> list[Object]:
        """Return the Servers of a namespace, [] when there is no such namespace."""

    def has_namespace(self, namespace: str) -> bool:
        """Whether there is such a namespace."""

    def create_namespace(self, namespace: str) -> None:
        """Create a namespace; one that is there already is fine."""

    def create(self, namespace: str, body: Object) -> Object:
        """Create a Server; raises Conflict when there is one."""

    def patch(self, namespace: str, name: str, body: Object) -> Object:
        """Send a merge patch."""

    def delete(self, namespace: str, name: str, uid: str) -> None:
        """Delete the Server with this uid; one that is gone is fine."""


def perform(params: Mapping[str, Any], cluster: Cluster, *, check_mode: bool) -> dict[str, Any]:
    """Return the result of one task: changed, server or servers, diff; or failed, msg and failure."""
    try:
        if params["state"] == "read":
            return {"changed": False, "servers": [told(found) for found in _mine(params, cluster)]}
        if params["state"] == "absent":
            return _absent(params, cluster, check_mode=check_mode)
        return _present(params, cluster, check_mode=check_mode)
    except StargateError as error:
        return failed(error)


def failed(error: StargateError) -> dict[str, Any]:
    """Return the part of a result that says what went wrong."""
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}


def _present(params: Mapping[str, Any], cluster: Cluster, *, check_mode: bool) -> dict[str, Any]:
    namespace, name = params["namespace"], params["name"]
    wanted = {"metadata": {"name": name, "namespace": namespace}, "spec": params["spec"]}
    for sentence in problems(wanted):
        raise Invalid(f"Failed to describe Server {namespace}/{name}: {sentence}")
    has_namespace = cluster.has_namespace(namespace)
    found = cluster.server(namespace, name) if has_namespace else None
    change = present(found, wanted, params["site"])
    after: Object = found or change.body
    if change.verb and not check_mode:
        if not has_namespace:
            cluster.create_namespace(namespace)
        if change.verb == "create":
            after = cluster.create(namespace, change.body)
        else:
            after = cluster.patch(namespace, name, change.body)
    diff = {"before": merged(found, Change()), "after": merged(found, change)}
    return {"changed": bool(change.verb), "server": told(after), "diff": diff}


def _absent(params: Mapping[str, Any], cluster: Cluster, *, check_mode: bool) -> dict[str, Any]:
    gone, kept = [], []
    for found in _mine(params, cluster):
        change = absent(found, params["site"])
        (gone if change.verb else kept).append(told(found))
        if change.verb and not check_mode:
            cluster.delete(params["namespace"], told(found)["name"], told(found)["uid"])
    diff = {"before": {"servers": [server["name"] for server in gone]}, "after": {"servers": []}}
    return {"changed": bool(gone), "servers": gone, "kept": kept, "diff": diff}


def _mine(params: Mapping[str, Any], cluster: Cluster) -> list[Object]:
    """Return the Server that is named, else those of the site, else all of the namespace."""
    if params["name"]:
        found = cluster.server(params["namespace"], params["name"])
        return [found] if found else []
    return [s for s in cluster.servers(params["namespace"]) if params["site"] in ("", owner(s))]
