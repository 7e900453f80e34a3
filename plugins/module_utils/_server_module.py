# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of stargate.core.server, and from options to a result.

PRIVATE to the collection. Reads, plans with _server_object.py, applies. How a cluster is spoken to is _kube.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Invalid, NotFound, StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import CONNECTION_SPEC, Cluster, path_of
from ansible_collections.stargate.core.plugins.module_utils._server import problems
from ansible_collections.stargate.core.plugins.module_utils._server_object import (
    API_VERSION,
    Change,
    absent,
    merged,
    owner,
    present,
    told,
)

SERVER_SPEC: dict[str, Any] = {
    "argument_spec": {
        **CONNECTION_SPEC,
        "name": {"type": "str"},
        "namespace": {"type": "str", "required": True},
        "spec": {"type": "dict"},
        "site": {"type": "str", "default": ""},
        "state": {"type": "str", "choices": ["present", "absent", "read"], "default": "present"},
    },
    "required_if": [("state", "present", ("name", "spec")), ("state", "absent", ("name", "site"), True)],
}
GROUP = f"/apis/{API_VERSION}"
NAMESPACES = "/api/v1/namespaces"
Object = Mapping[str, Any]


def perform(params: Mapping[str, Any], environ: Mapping[str, str], *, check_mode: bool) -> dict[str, Any]:
    """Return the result of one task: changed, server or servers, diff; or failed, msg and failure."""
    try:
        with Cluster.of(params, environ) as cluster:
            task = Task(params, cluster, check_mode)
            return {"present": task.present, "absent": task.absent, "read": task.read}[params["state"]]()
    except StargateError as error:
        return failed(error)


def failed(error: StargateError) -> dict[str, Any]:
    """Return the part of a result that says what went wrong."""
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}


class Task:
    """One task of a play about Servers of one namespace."""

    def __init__(self, params: Mapping[str, Any], cluster: Cluster, check_mode: bool) -> None:
        """Keep what is asked for; nothing is read yet."""
        self.params = params
        self.cluster = cluster
        self.check_mode = check_mode
        self.namespace: str = params["namespace"]
        self.list = f"{path_of(f'{GROUP}/namespaces', self.namespace)}/servers"

    def present(self) -> dict[str, Any]:
        """Have the object say what is wanted."""
        name, doing = self.params["name"], f"write Server {self.namespace}/{self.params['name']}"
        wanted = {"metadata": {"name": name, "namespace": self.namespace}, "spec": self.params["spec"]}
        for sentence in problems(wanted):
            raise Invalid(f"Failed to {doing}: {sentence}")
        found = self._found()
        change = present(found, wanted, self.params["site"])
        after: Object = found or change.body
        if change.verb == "create":
            after = self._created(doing, change) or after
        elif change.verb and not self.check_mode:
            after = self.cluster.patch(path_of(self.list, name), doing, dict(change.body))
        diff = {"before": merged(found, Change()), "after": merged(found, change)}
        return {"changed": bool(change.verb), "server": told(after), "diff": diff}

    def absent(self) -> dict[str, Any]:
        """Delete what the site made."""
        gone: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        for found in self._mine():
            change, facts = absent(found, self.params["site"]), told(found)
            (gone if change.verb else kept).append(facts)
            if change.verb and not self.check_mode:
                doing = f"delete Server {self.namespace}/{facts['name']}"
                self.cluster.delete(path_of(self.list, facts["name"]), doing, facts["uid"])
        diff = {"before": {"servers": [server["name"] for server in gone]}, "after": {"servers": []}}
        return {"changed": bool(gone), "servers": gone, "kept": kept, "diff": diff}

    def read(self) -> dict[str, Any]:
        """Return what there is."""
        return {"changed": False, "servers": [told(found) for found in self._mine()]}

    def _mine(self) -> list[Object]:
        """Return the Server that is named, else those of the site, else all of the namespace."""
        if self.params["name"]:
            found = self._found()
            return [found] if found else []
        try:
            servers, __ = self.cluster.items(self.list, f"list the Servers of namespace {self.namespace}")
        except NotFound:  # where the kind itself is unknown, none was made
            return []
        return [server for server in servers if self.params["site"] in ("", owner(server))]

    def _found(self) -> Object | None:
        doing = f"read Server {self.namespace}/{self.params['name']}"
        return self.cluster.find(path_of(self.list, self.params["name"]), doing)

    def _created(self, doing: str, change: Change) -> Object | None:
        """Create the object, and its namespace before, where these are missing; None in check mode."""
        if self.cluster.find(GROUP, doing) is None:
            raise Invalid(
                f"Failed to {doing}: the cluster at {self.cluster.address} does not know Servers. "
                "Install the CRDs: make install-crds.",
                code="CrdsMissing",
            )
        if self.check_mode:
            return None
        if self.cluster.find(path_of(NAMESPACES, self.namespace), doing) is None:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
            with suppress(Conflict):  # somebody else was faster
                self.cluster.create(NAMESPACES, f"create namespace {self.namespace}", body)
        return self.cluster.create(self.list, doing, dict(change.body))
