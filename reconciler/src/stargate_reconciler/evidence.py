# SPDX-License-Identifier: Apache-2.0
"""Whether a success is one: what a play claims of a Node, held against the Node as the API server has it.

Pure: a job and facts in, a claim out; a claim and a Node in, a Result out. Who reads the Node is `reconcile.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _server

from .model import FormerNode, Job, Object, Outcome, Result

MAKES_A_NODE = frozenset({"repave", "upgrade"})
"""Operations after which the machine is a Node, unless its datacenter's API alone sets it up."""
RENEWS_A_NODE = frozenset({"repave"})
"""Operations after which the machine is another Node than before."""
TAKES_A_NODE = frozenset({"decommission"})
"""Operations after which the machine is no Node."""
OWNER = "stargate.io/server"
"""Annotation of a Node: the Server that it is, as namespace/name."""


CORDONED_BY = "stargate.io/cordoned-by"
"""Annotation of a Node: the uid of the Operation that cordoned it."""


@dataclass(frozen=True)
class Claim:
    """What has to be true of a Node. An empty uid or version is any."""

    node: str
    server: str
    gone: bool = False
    uid: str = ""
    not_uid: str = ""
    version: str = ""


def claim(job: Job, facts: Mapping[str, str], datacenters: Mapping[str, Mapping[str, str]]) -> Claim | None:
    """Return what the success of a job on its Server claims, by its facts; None when it is nothing about a Node."""
    server, profile = job.server.raw, job.profile.raw if job.profile else None
    act = job.operation.act
    node = facts.get("nodeName") or _server.node_name(server)
    owner = f"{job.server.namespace}/{job.server.name}"
    if act in TAKES_A_NODE:
        return Claim(node, owner, gone=True, uid=facts.get("nodeUID", ""))
    joins = act in MAKES_A_NODE and _server.strategy(server, profile, datacenters) != "dcApi"
    if not joins and not facts.get("nodeUID"):
        return None
    asked = _spec(profile).get("kubernetesVersion") if act in MAKES_A_NODE else ""
    version = str(asked or facts.get("kubeletVersion", ""))
    former = job.former_node if joins and act in RENEWS_A_NODE else None
    old = former.uid if former else ""
    return Claim(node, owner, uid=facts.get("nodeUID", ""), not_uid=old, version=version)


def judged(wanted: Claim, node: Object | None, result: Result) -> Result:
    """Return a successful result with what was seen of the Node, or the failure that it is."""
    if wanted.gone:
        return _gone(wanted, node, result)
    if node is None or not _is_meant(wanted, _uid(node)):
        other = f"is not the one that the machine has become (its uid is {_uid(node or {})})"
        there = "does not exist" if node is None else other
        return _refuted(result, "NodeMissing", f"Node {wanted.node} {there}. See what its kubelet says.")
    ready = _condition(node, "Ready")
    version = str(_info(node).get("kubeletVersion", ""))
    if not is_ready(node):
        why = str(ready.get("message") or "it has not said so").rstrip(".")
        return _refuted(result, "NodeNotReady", f"Node {wanted.node} is not Ready: {why}.")
    if wanted.version and not is_version(version, wanted.version):
        told = f"Node {wanted.node} runs the kubelet {version}, and {wanted.version} was asked for."
        return replace(_refuted(result, "WrongVersion", told), node_ready=True)
    return replace(result, facts={**result.facts, **_seen(node)}, node_ready=True)


def is_version(version: str, asked: str) -> bool:
    """Whether a kubelet's version is the one asked for; without a patch release any patch is."""
    has, wanted = version.removeprefix("v").split("."), asked.removeprefix("v").split(".")
    return has[: len(wanted)] == wanted


def is_ready(node: Object) -> bool:
    """Whether a Node is Ready."""
    return _condition(node, "Ready").get("status") == "True"


def cordoned_by(node: Object) -> str:
    """Return the uid of the Operation that has cordoned a Node, "" when none has."""
    return _annotation(node, CORDONED_BY) if _spec(node).get("unschedulable") else ""


def former(node: Object | None) -> FormerNode:
    """Return what has to be remembered of the Node that a machine is before it becomes another one."""
    if node is None:
        return FormerNode()
    return FormerNode(_uid(node), bool(_spec(node).get("unschedulable")) and not _annotation(node, CORDONED_BY))


def _annotation(node: Object, name: str) -> str:
    return str(_part(_part(node, "metadata"), "annotations").get(name, ""))


def _is_meant(wanted: Claim, uid: str) -> bool:
    return wanted.uid in ("", uid) and not (wanted.not_uid and uid == wanted.not_uid)


def _gone(wanted: Claim, node: Object | None, result: Result) -> Result:
    if node is not None:
        same = _uid(node) == wanted.uid if wanted.uid else _annotation(node, OWNER) in ("", wanted.server)
        if same:
            return _refuted(result, "NodeStillThere", f"Node {wanted.node} is still in the cluster.")
    return result


def _refuted(result: Result, reason: str, message: str) -> Result:
    ready = False if reason in ("NodeMissing", "NodeNotReady") else None
    return Result(Outcome.FAILED, reason, message, facts=result.facts, host_keys=result.host_keys, node_ready=ready)


def _seen(node: Object) -> dict[str, str]:
    info = _info(node)
    found = {
        "nodeName": _part(node, "metadata").get("name"),
        "nodeUID": _uid(node),
        "kubeletVersion": info.get("kubeletVersion"),
        "bootID": info.get("bootID"),
        "podCIDR": _spec(node).get("podCIDR"),
    }
    return {key: str(value) for key, value in found.items() if value}


def _condition(node: Object, kind: str) -> Mapping[str, Any]:
    conditions = _part(node, "status").get("conditions")
    for condition in conditions if isinstance(conditions, list) else []:
        if isinstance(condition, Mapping) and condition.get("type") == kind:
            return condition
    return {}


def _uid(node: Object) -> str:
    return str(_part(node, "metadata").get("uid", ""))


def _info(node: Object) -> Mapping[str, Any]:
    return _part(_part(node, "status"), "nodeInfo")


def _spec(obj: Object | None) -> Mapping[str, Any]:
    return _part(obj or {}, "spec")


def _part(obj: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = obj.get(name)
    return found if isinstance(found, Mapping) else {}
