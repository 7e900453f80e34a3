# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Node: whose it is, who has cordoned it, whether it is as asked, and the patches that make it so.

PRIVATE to the collection. Pure: a Node as the API shows it, or None, comes in; dictionaries, patches, failures go out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _version
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout

SERVER = "stargate.io/server"
SERVER_UID = "stargate.io/server-uid"
CORDONED_BY = "stargate.io/cordoned-by"
SILENT = "its kubelet has not reported"

Object = Mapping[str, Any]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True)
class Whose:
    """The machine that a Node is expected to be: Server (namespace/name), its uid, its address; all may be empty."""

    server: str = ""
    server_uid: str = ""
    address: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a Node has to be, to be ready as asked; what is empty is any."""

    version: str = ""
    not_uid: str = ""
    not_boot_id: str = ""


@dataclass(frozen=True)
class Dress:
    """What a Node gets to wear."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()


def check_name(name: str) -> None:
    """Raise Invalid unless a Node can have this name."""
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise Invalid(f'Failed to read the name of the Node: "{name[:64]}" is not a lower-case DNS name.')


def told(node: Object | None, name: str, operation_uid: str) -> dict[str, Any]:
    """Return a Node as results have it."""
    condition, info = ready_condition(node), _part(node, "status", "nodeInfo")
    return {
        "name": name,
        "exists": node is not None,
        "uid": uid(node),
        "version": str(info.get("kubeletVersion", "")),
        "ready": condition.get("status") == "True",
        "message": str(condition.get("message", "")),
        "server": annotation(node, SERVER),
        "address": next(iter(_addresses(node)), ""),
        "pod_cidr": str(_part(node, "spec").get("podCIDR", "")),
        "boot_id": str(info.get("bootID", "")),
        "unschedulable": is_cordoned(node),
        "cordoned_by_us": is_cordoned(node) and annotation(node, CORDONED_BY) == operation_uid,
        "cordoned_by_person": is_cordoned(node) and not annotation(node, CORDONED_BY),
    }


def uid(node: Object | None) -> str:
    """Return the uid, "" for no Node."""
    return str(_part(node, "metadata").get("uid", ""))


def resource_version(node: Object | None) -> str:
    """Return the resource version, "" for no Node."""
    return str(_part(node, "metadata").get("resourceVersion", ""))


def annotation(node: Object | None, name: str) -> str:
    """Return an annotation, "" when it has none of that name."""
    return str(_part(node, "metadata", "annotations").get(name, ""))


def is_cordoned(node: Object | None) -> bool:
    """Whether no new pods are placed on it."""
    return bool(_part(node, "spec").get("unschedulable"))


def is_silent(node: Object | None) -> bool:
    """Whether its kubelet does not report, so that nothing that is asked of it will be done."""
    return ready_condition(node).get("status") not in ("True", "False")


def ready_condition(node: Object | None) -> Object:
    """Return the condition Ready, {} when there is none."""
    conditions = _part(node, "status").get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == "Ready"), {})


def taken(node: Object | None, whose: Whose, *, by_address: bool = True) -> StargateError | None:
    """Return the failure that a Node of another machine is; None when it is this machine's, or there is none.

    A Node that does not say whose it is counts by its address, unless `by_address` is False.
    """
    owner = annotation(node, SERVER)
    if node is None or not whose.server or owner == whose.server:
        return None
    name = str(_part(node, "metadata").get("name", ""))
    if owner:
        return _taken(name, whose, f"the Node of this name is Server {owner}")
    addresses = _addresses(node)
    if not by_address or not addresses or whose.address in addresses:
        return None
    here = f"which is not {whose.address}" if whose.address else "and the address of the Server is not known"
    return _taken(name, whose, f"a machine at {', '.join(addresses)}, {here}, is the Node of this name")


def skewed(version: str, server_version: str) -> StargateError | None:
    """Return the failure that a kubelet of this version is at an API server of that one; None when they fit."""
    server, kubelet = _version.found(server_version), _version.asked(version) if version else None
    if kubelet is None or server is None or server.line < _version.OLDEST:
        return None
    older = 3 if server.line >= (1, 28) else 2
    lowest = (server.major, max(server.minor - older, 0))
    if lowest <= kubelet.line <= server.line:
        return None
    allowed = f"from {lowest[0]}.{lowest[1]} to {server.major}.{server.minor}"
    relation = "newer than" if kubelet.line > server.line else "too old for"
    return Invalid(
        f"Failed to take Kubernetes {kubelet.tag} for the machine: it is {relation} the API server, which is "
        f"{server.tag} and takes kubelets {allowed}. Choose one of those, or upgrade the control plane first.",
        code="VersionSkew",
        details=f"kubelet {kubelet.tag}, API server {server.tag}, allowed {allowed}",
    )


def lacking(node: Object | None, name: str, wanted: Wanted) -> StargateError | None:
    """Return what is still missing, as the failure that it becomes when time runs out; None when nothing is."""
    info, condition = _part(node, "status", "nodeInfo"), ready_condition(node)
    if node is None:
        return _not_ready(name, "it has not registered. See what its kubelet says")
    if wanted.not_uid and uid(node) == wanted.not_uid:
        return _not_ready(name, f"the Node is still the one of before (uid {wanted.not_uid})")
    if wanted.not_boot_id and info.get("bootID") == wanted.not_boot_id:
        return _not_ready(name, f"the machine has not started again (boot id {wanted.not_boot_id})")
    if condition.get("status") != "True":
        return _not_ready(name, str(condition.get("message") or SILENT).rstrip("."), str(condition.get("message", "")))
    version = str(info.get("kubeletVersion", ""))
    if wanted.version and not is_version(version, wanted.version):
        text = f"Failed to get Node {name} ready: its kubelet is {version}, and {wanted.version} was asked for."
        return Timeout(text, code="WrongVersion", details=version, retryable=False)
    return None


def is_version(version: str, asked: str) -> bool:
    """Whether a kubelet's version is the one asked for; any patch release when that is a minor version."""
    has, wanted = (re.split(r"[.+-]", text.strip().removeprefix("v")) for text in (version, asked))
    return has[: len(wanted)] == wanted


def cordon(node: Object, operation_uid: str) -> dict[str, Any]:
    """Return the patch that makes the cordon ours, {} when it is, or when a person's stands."""
    owner = annotation(node, CORDONED_BY)
    if is_cordoned(node) and owner in ("", operation_uid):
        return {}
    return _patch(node, {"annotations": {CORDONED_BY: operation_uid}}, {"unschedulable": True})


def uncordon(node: Object | None, operation_uid: str) -> dict[str, Any]:
    """Return the patch that takes our cordon, or what is left of it, away; {} when there is none of ours."""
    if node is None or annotation(node, CORDONED_BY) != operation_uid:
        return {}
    return _patch(node, {"annotations": {CORDONED_BY: None}}, {"unschedulable": None})


def as_a_person(node: Object) -> dict[str, Any]:
    """Return the patch that cordons as a person does, {} when it is so."""
    if is_cordoned(node) and not annotation(node, CORDONED_BY):
        return {}
    return _patch(node, {"annotations": {CORDONED_BY: None}}, {"unschedulable": True})


def dressing(node: Object, whose: Whose, dress: Dress) -> dict[str, Any]:
    """Return the patch that gives a Node its owner, labels, annotations and taints, {} when it has them."""
    owner = {SERVER: whose.server, SERVER_UID: whose.server_uid} if whose.server else {}
    wanted = {
        "labels": dict(dress.labels),
        "annotations": {**dress.annotations, **{key: value for key, value in owner.items() if value}},
    }
    metadata = {}
    for kind, pairs in wanted.items():
        has = _part(node, "metadata", kind)
        missing = {key: _text(value) for key, value in pairs.items() if has.get(key) != _text(value)}
        metadata.update({kind: missing} if missing else {})
    spec = _retainted(node, dress.taints)
    return _patch(node, metadata, spec) if metadata or spec else {}


def difference(node: Object | None, patch: Object) -> dict[str, Any]:
    """Return before and after of what a patch touches."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for kind in ("labels", "annotations"):
        for key, value in _part(patch, "metadata", kind).items():
            before[f"{kind[:-1]} {key}"] = _part(node, "metadata", kind).get(key)
            after[f"{kind[:-1]} {key}"] = value
    for key, value in _part(patch, "spec").items():
        before[key], after[key] = _part(node, "spec").get(key), value
    return {"before": before, "after": after}


def _retainted(node: Object, taints: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    has = [dict(taint) for taint in _part(node, "spec").get("taints") or ()]
    wanted = [{key: taint[key] for key in ("key", "value", "effect") if taint.get(key)} for taint in taints]
    places = {(taint["key"], taint["effect"]): taint for taint in wanted}
    kept = [taint for taint in has if (taint.get("key"), taint.get("effect")) not in places]
    same = [taint for taint in has if taint not in kept]
    missing = [taint for taint in wanted if not any(_equals(taint, other) for other in same)]
    return {"taints": [*kept, *wanted]} if missing else {}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _equals(wanted: Mapping[str, str], has: Mapping[str, Any]) -> bool:
    return all(wanted.get(key, "") == (has.get(key) or "") for key in ("key", "value", "effect"))


def _patch(node: Object, metadata: Object, spec: Object) -> dict[str, Any]:
    """Return a patch that is refused when somebody has changed the Node meanwhile."""
    changes = {"metadata": {**metadata, "resourceVersion": resource_version(node)}}
    return {**changes, "spec": dict(spec)} if spec else changes


def _taken(name: str, whose: Whose, cause: str) -> StargateError:
    return Invalid(
        f"Failed to take Node {name} for Server {whose.server}: {cause}. "
        f"Give the Server another nodeName, or delete that Node, or annotate it with {SERVER}={whose.server}.",
        code="NodeNameTaken",
        details=cause,
    )


def _not_ready(name: str, cause: str, details: str = "") -> StargateError:
    text = f"Failed to get Node {name} ready: {cause}."
    return Timeout(text, code="NodeNotReady", details=details or cause)


def _addresses(node: Object | None) -> list[str]:
    listed = _part(node, "status").get("addresses") or ()
    return [str(entry.get("address")) for entry in listed if entry.get("type") == "InternalIP"]


def _part(node: Object | None, *names: str) -> Object:
    found: Any = node
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
