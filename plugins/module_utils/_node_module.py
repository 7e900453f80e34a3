# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of stargate.core.node, and from options to a result.

PRIVATE to the collection. The only place that turns failures about a Node into a result with `failed` and `failure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _node, _nodes, _version
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import CONNECTION_SPEC, Cluster, Object
from ansible_collections.stargate.core.plugins.module_utils._node import Dress, Wanted, Whose
from ansible_collections.stargate.core.plugins.module_utils._node_drain import Drain, Policy
from ansible_collections.stargate.core.plugins.module_utils._node_ready import Arrival, arrived

EVICTION_V1 = (1, 22)
TAINT: dict[str, Any] = {
    "key": {"type": "str", "required": True},
    "value": {"type": "str", "default": ""},
    "effect": {"type": "str", "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"], "required": True},
}
NODE_SPEC: dict[str, Any] = {
    "argument_spec": {
        **CONNECTION_SPEC,
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["drained", "absent", "ready", "uncordoned", "read"], "default": "read"},
        "operation_uid": {"type": "str", "default": "playbook"},
        "server": {"type": "str", "default": ""},
        "server_uid": {"type": "str", "default": ""},
        "address": {"type": "str", "default": ""},
        "kubernetes_version": {"type": "str", "default": ""},
        "evict": {"type": "bool", "default": True},
        "drain_timeout": {"type": "float", "default": 300.0},
        "drain_force": {"type": "bool", "default": False},
        "node_uid": {"type": "str", "default": ""},
        "not_uid": {"type": "str", "default": ""},
        "not_boot_id": {"type": "str", "default": ""},
        "labels": {"type": "dict", "default": {}},
        "annotations": {"type": "dict", "default": {}},
        "taints": {"type": "list", "elements": "dict", "default": [], "options": TAINT},
        "keep_cordon": {"type": "bool", "default": False},
        "timeout": {"type": "float", "default": 600.0},
    },
}

Result = dict[str, Any]
Say = Callable[[str], None]


def perform(params: Mapping[str, Any], environ: Mapping[str, str], say: Say, *, check_mode: bool) -> Result:
    """Return the result of one task: changed, node, diff, and evicted and left of a drain; or failed, msg, failure.

    `say` is given a line for people now and then while the task waits.
    """
    try:
        _node.check_name(params["name"])
        with Cluster.of(params, environ) as cluster:
            return Task(params, cluster, say, check_mode).done()
    except StargateError as error:
        return failed(error)


def failed(error: StargateError) -> Result:
    """Return the part of a result that says what went wrong."""
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}


class Task:
    """One task about one Node."""

    def __init__(self, params: Mapping[str, Any], cluster: Cluster, say: Say, check_mode: bool) -> None:
        """Keep what is asked; nothing is read yet."""
        self.params = params
        self.cluster = cluster
        self.say = say
        self.check_mode = check_mode
        self.name = str(params["name"])
        self.uid = str(params["operation_uid"])
        self.whose = Whose(params["server"], params["server_uid"], params["address"])

    def done(self) -> Result:
        """Return the result; raises StargateErrors."""
        states = {"drained": self._drained, "absent": self._absent, "ready": self._ready}
        if self.params["state"] in states:
            return states[self.params["state"]]()
        node = _nodes.read(self.cluster, self.name)
        patch = _node.uncordon(node, self.uid) if self.params["state"] == "uncordoned" else {}
        after = node
        if node is not None and patch and not self.check_mode:
            after = _nodes.patched(self.cluster, node, lambda seen: _node.uncordon(seen, self.uid), "uncordon")
        return self._result(after, changed=bool(patch), diff=_node.difference(node, patch))

    def _drained(self) -> Result:
        server_version = _nodes.server_version(self.cluster)
        node = self._own()
        refusal = _node.skewed(self.params["kubernetes_version"], server_version)
        if refusal is not None:
            raise refusal
        if node is None:
            return {**self._result(None, changed=False, diff={}), "evicted": [], "left": []}
        drain = Drain(self.cluster, node, self._policy(server_version), self.say)
        patch, pods = drain.plan()
        diff = _node.difference(node, patch)
        if pods:
            diff["before"]["pods"], diff["after"]["pods"] = [str(pod) for pod in pods], []
        after, gone, left = (node, pods, []) if self.check_mode else drain.run()
        result = self._result(after, changed=bool(patch or gone or left), diff=diff)
        return {**result, "evicted": [str(pod) for pod in gone], "left": [str(pod) for pod in left]}

    def _policy(self, server_version: str) -> Policy:
        server = _version.found(server_version)
        eviction = "policy/v1beta1" if server is not None and server.line < EVICTION_V1 else "policy/v1"
        timeout, force = self.params["drain_timeout"], self.params["drain_force"]
        return Policy(self.uid, evict=self.params["evict"], timeout=timeout, force=force, eviction=eviction)

    def _absent(self) -> Result:
        node = self._own()
        if node is None or self.params["node_uid"] not in ("", _node.uid(node)):
            return self._result(node, changed=False, diff={})
        gone = True if self.check_mode else _nodes.delete(self.cluster, node)
        before = _node.told(node, self.name, self.uid)
        diff = {"before": {"node": self.name, "uid": before["uid"]}, "after": {"node": None}} if gone else {}
        return {"changed": gone, "node": {**before, "exists": self.check_mode}, "diff": diff}

    def _ready(self) -> Result:
        params = self.params
        wanted = Wanted(params["kubernetes_version"], params["not_uid"], params["not_boot_id"])
        dress = Dress(params["labels"], params["annotations"], params["taints"])
        arrival = Arrival(self.name, self.whose, wanted, dress, self.uid, params["keep_cordon"])
        if not self.check_mode:
            first, node = arrived(self.cluster, arrival, params["timeout"], self.say)
            diff = self._planned(arrival, first)
            return self._result(node, changed=bool(diff["after"]), diff=diff)
        found = _nodes.read(self.cluster, self.name)
        diff = self._planned(arrival, found)
        return self._result(found, changed=bool(diff.get("after")), diff=diff)

    def _planned(self, arrival: Arrival, node: Object | None) -> Result:
        if node is None or not arrival.is_new(node):
            return {}
        dressing, release = (_node.difference(node, plan(node)) for plan in (arrival.dressing, arrival.release))
        return {when: {**dressing[when], **release[when]} for when in ("before", "after")}

    def _own(self) -> Object | None:
        """Return the Node, None when there is none; raises when it is another machine's."""
        node = _nodes.read(self.cluster, self.name)
        refusal = _node.taken(node, self.whose)
        if refusal is not None:
            raise refusal
        return node

    def _result(self, node: Object | None, *, changed: bool, diff: Result) -> Result:
        return {"changed": changed, "node": _node.told(node, self.name, self.uid), "diff": diff}
