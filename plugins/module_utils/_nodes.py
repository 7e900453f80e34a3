# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes in a cluster: read, change without overwriting what somebody else has changed meanwhile, delete.

PRIVATE to the collection. What to change is decided in _node.py.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, NotFound
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, Object, path_of

NODES = "/api/v1/nodes"
TRIES = 20


def read(cluster: Cluster, name: str) -> Object | None:
    """Return a Node, None when there is none."""
    return cluster.find(path_of(NODES, name), f"read Node {name}")


def patched(cluster: Cluster, node: Object, plan: Callable[[Object], Object], verb: str) -> Object:
    """Return the Node after the patch that `plan` makes of it, {} for none; plans anew when the Node has changed."""
    name = str(node["metadata"]["name"])
    for turn in range(TRIES):
        patch = plan(node)
        if not patch:
            return node
        try:
            return cluster.patch(path_of(NODES, name), f"{verb} Node {name}", patch)
        except Conflict:
            cluster.clock.sleep(0.05 * turn)
        found = read(cluster, name)
        if found is None:
            raise NotFound(f"Failed to {verb} Node {name}: it was deleted meanwhile.", retryable=True)
        node = found
    raise Conflict(f"Failed to {verb} Node {name}: it changes faster than it can be patched.")


def delete(cluster: Cluster, node: Object) -> bool:
    """Delete this very Node; returns whether it was there."""
    name = str(node["metadata"]["name"])
    return cluster.delete(path_of(NODES, name), f"delete Node {name}", uid=str(node["metadata"]["uid"]))


def server_version(cluster: Cluster) -> str:
    """Return the API server's version, v1.34.2."""
    return str(cluster.get("/version", "read the version of the API server").get("gitVersion", ""))
