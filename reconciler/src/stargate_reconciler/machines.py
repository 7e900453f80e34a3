# SPDX-License-Identifier: Apache-2.0
"""Servers and Nodes as health sees them: which are one machine, which are ill, which places have too many of those.

Pure values made from API objects, and questions to them. What follows from the answers is `health.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _server

from . import evidence
from .model import Object, Server, ServerKey, parsed_time
from .redact import redacted

NODE_READY = "NodeReady"
"""The condition of a Server that says whether its Node is Ready."""
PATIENCE = 300.0
"""Seconds, where spec.maintenance.notReadySeconds is not set."""

LONGEST_PATIENCE = 10 * 365 * 86400

Place = tuple[str, str]
"""What shares a circuit: namespace, and router as host:port ("" without one)."""

_SEEN_HERE = frozenset({"Ready", "NodeNotReady", "NodeStatusUnknown", "NodeGone"})


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node, as far as health goes."""

    name: str
    uid: str = ""
    ready: str = "Unknown"
    owner: str = ""
    taken: bool = False
    """Whether a person has cordoned it."""
    addresses: tuple[str, ...] = ()
    since: datetime | None = field(default=None, compare=False)
    why: str = field(default="", compare=False)


def node_view(node: Object) -> NodeView:
    """Return what health needs of a Node."""
    meta, spec, status = (_mapping(node.get(part)) for part in ("metadata", "spec", "status"))
    notes = _mapping(meta.get("annotations"))
    ready = condition(status, "Ready")
    addresses = status.get("addresses")
    known = addresses if isinstance(addresses, list) else []
    return NodeView(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        ready=str(ready.get("status") or "Unknown"),
        owner=str(notes.get(evidence.OWNER, "")),
        taken=spec.get("unschedulable") is True and not notes.get(evidence.CORDONED_BY),
        addresses=tuple(str(_mapping(item).get("address", "")) for item in known),
        since=parsed_time(str(ready.get("lastTransitionTime") or "")),
        why=redacted(str(ready.get("message") or "it has not said so"), limit=512),
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed over TCP for a machine: itself, or its router."""

    host: str
    port: int
    is_router: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something answered at a target, and when by the monotonic clock."""

    good: bool
    text: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A Server, as far as health goes."""

    key: ServerKey
    uid: str
    node: str
    is_node: bool
    """Whether it has become a Node; otherwise it is one only when the Node says so."""
    declared: bool
    address: str
    place: Place
    target: Target | None
    heals: bool
    patience: float
    profile: str

    @property
    def owner(self) -> str:
        """What the Node of this machine says of its owner."""
        return f"{self.key[0]}/{self.key[1]}"


def machine(server: Server) -> Machine:
    """Return what health needs of a Server. One that is being deleted is never healed."""
    raw, status = server.raw, server.status
    care = _mapping(_mapping(raw.get("spec")).get("maintenance"))
    seconds = care.get("notReadySeconds")
    fit = isinstance(seconds, int) and not isinstance(seconds, bool) and seconds >= 0
    leaving = "deletionTimestamp" in _mapping(raw.get("metadata"))
    target = _target(raw)
    seen = condition(status, NODE_READY).get("reason") in _SEEN_HERE
    return Machine(
        key=(server.namespace, server.name),
        uid=str(_mapping(raw.get("metadata")).get("uid", "")),
        node=_server.node_name(raw),
        is_node=bool(status.get("nodeName")) or seen,
        declared=bool(_mapping(raw.get("spec")).get("nodeName")),
        address=_server.address(raw),
        place=(server.namespace, str(target) if target and target.is_router else ""),
        target=target,
        heals=care.get("autoRepave") == "onNotReady" and not leaving,
        patience=float(min(seconds, LONGEST_PATIENCE)) if fit and seconds is not None else PATIENCE,
        profile=_server.profile_name(raw),
    )


def _target(server: Object) -> Target | None:
    if _server.problems(server):
        return None
    router = _server.text_at(server, "spec", "routerIP")
    if router:
        return Target(router, _server.port(server, "routerPort"), is_router=True)
    address = _server.address(server)
    return Target(address, _server.port(server)) if address else None


def is_member(machine: Machine, node: NodeView | None) -> bool:
    """Whether a machine is, or should be, this Node of its name; a Node of another Server's is not."""
    if node is None:
        return machine.is_node
    if node.owner:
        return node.owner == machine.owner
    return machine.is_node or machine.declared or bool(machine.address and machine.address in node.addresses)


def is_bad(machine: Machine, node: NodeView | None) -> bool:
    """Whether a machine should be a Ready Node and is not."""
    return is_member(machine, node) and (node is None or node.ready != "True")


def not_ready_since(status: Mapping[str, Any], node: NodeView | None) -> datetime | None:
    """Return since when a Server's status and its Node both say that it is not Ready; None when the status does not."""
    said = condition(status, NODE_READY)
    moment = parsed_time(str(said.get("lastTransitionTime") or ""))
    if said.get("status") not in ("False", "Unknown") or moment is None:
        return None
    return max(moment, node.since) if node is not None and node.since is not None else moment


# -- circuits


@dataclass
class Count:
    """The machines of one place that are Nodes or should be, and how many of them are not Ready."""

    total: int = 0
    bad: int = 0


def circuit(place: Place, count: Count, router: Answer | None, share: float) -> str:
    """Return why nothing automatic may be started at a place, "" when it may."""
    namespace, at = place
    where = f"namespace {namespace} behind router {at}" if at else f"namespace {namespace}"
    if router is not None and not router.good:
        return f"Router {at} of namespace {namespace} does not answer: {router.text}."
    if count.bad >= 2 and count.bad > share * count.total:
        return f"{count.bad} of {count.total} machines of {where} are not Ready at once, more than {share:.0%}."
    return ""


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of a status, empty when it is not there."""
    conditions = status.get("conditions")
    for item in conditions if isinstance(conditions, list) else []:
        if _mapping(item).get("type") == kind:
            return _mapping(item)
    return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
