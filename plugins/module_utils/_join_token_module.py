# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of stargate.core.join_token, and from options to a result.

PRIVATE to the collection. The only place that turns failures about tokens into a result with `failed` and `failure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _bootstrap_token, _node
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._join_token_api import ApiTokens
from ansible_collections.stargate.core.plugins.module_utils._join_token_kubeadm import KubeadmTokens
from ansible_collections.stargate.core.plugins.module_utils._kube import CONNECTION_SPEC, Cluster

SHORTEST_TTL = 60
LOOPBACK = ("127.", "localhost:", "[::1]:")
TOKEN_SPEC: dict[str, Any] = {
    "argument_spec": {
        **CONNECTION_SPEC,
        "node": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "token_id": {"type": "str", "default": "", "no_log": False},
        "ttl": {"type": "int", "default": 900},
        "endpoint": {"type": "str", "default": ""},
        "verify_ca": {"type": "bool", "default": True},
        "kubeadm": {"type": "list", "elements": "str", "default": []},
        "timeout": {"type": "float", "default": 60.0},
    },
}

Result = dict[str, Any]


def perform(params: Mapping[str, Any], environ: Mapping[str, str], *, check_mode: bool) -> Result:
    """Return the result of one task: changed, join, token_id; or failed, msg and failure, never with a token."""
    try:
        _node.check_name(params["node"])
        if params["ttl"] < SHORTEST_TTL:
            raise Invalid(f"Failed to make a join token: ttl is {params['ttl']} s, and {SHORTEST_TTL} s is the least.")
        if params["kubeadm"]:
            return _by_kubeadm(params, KubeadmTokens(params["kubeadm"], params["timeout"]), check_mode=check_mode)
        with Cluster.of(params, environ) as cluster:
            return _by_api(params, ApiTokens(cluster, params["timeout"]), check_mode=check_mode)
    except StargateError as error:
        return failed(error)


def failed(error: StargateError) -> Result:
    """Return the part of a result that says what went wrong."""
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}


def _by_api(params: Mapping[str, Any], tokens: ApiTokens, *, check_mode: bool) -> Result:
    identifier = params["token_id"] or _bootstrap_token.token_id(params["node"])
    if params["state"] == "absent":
        changed = False if check_mode else tokens.revoke(identifier)
        return {"changed": changed, "token_id": identifier}
    version, date = tokens.version()
    join = {**tokens.described(params["endpoint"], verify_ca=params["verify_ca"]), "server_version": version}
    if not check_mode:
        token = tokens.make(params["node"], params["ttl"], date)
        join.update(token=token.text, token_id=token.id)
    return _made(join)


def _by_kubeadm(params: Mapping[str, Any], tokens: KubeadmTokens, *, check_mode: bool) -> Result:
    identifier = params["token_id"]
    if params["state"] == "present":
        make = tokens.described if check_mode else tokens.make
        return _made(make(params["node"], params["ttl"], params["endpoint"]))
    if check_mode:
        return {"changed": False, "token_id": identifier}
    changed = tokens.revoke(identifier) if identifier else tokens.revoke_all(params["node"])
    return {"changed": changed, "token_id": identifier}


def _made(join: Result) -> Result:
    result: Result = {"changed": True, "join": join, "token_id": join["token_id"]}
    if join["endpoint"].startswith(LOOPBACK):
        result["warnings"] = [
            f"The cluster is to be joined at {join['endpoint']}, which no other machine reaches. Set endpoint."
        ]
    return result
