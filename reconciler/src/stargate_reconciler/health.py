# SPDX-License-Identifier: Apache-2.0
"""What follows from what is seen of a machine in service: conditions, Events, and whether a repave is started.

Pure: Nodes, answers of probes and time come as arguments. Who looks and who acts is `caretaker.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .machines import NODE_READY, Answer, Machine, NodeView, Place, condition, is_bad, is_member
from .model import GROUP, VERSION, Object, formatted_time, parsed_time
from .redact import redacted
from .status import Note, Patch

REACHABLE, AUTO_REPAVE = "Reachable", "AutoRepave"
"""Conditions of a Server that are decided here, besides NodeReady."""
CAUSE = "stargate.io/cause"
"""Label of an Operation that nobody has asked for."""
NOT_READY = "not-ready"
HEALED_SECONDS = 86400.0
"""A Node that was Ready for so long is well again: automatic repaves of its machine are counted from 0."""
LONGEST_PAUSE = 86400.0
KEPT_SECONDS = 7 * 86400
"""How long an automatic Operation is kept after its end."""

Condition = tuple[bool | str, str, str]
"""Status, reason and message of a condition."""

_STAYS_OUT = frozenset({"Cordoned", "NodeGoneUnseen"})
_TOLD = frozenset({"Cordoned", "NodeGoneUnseen", "NodeShared", "LimitReached", "NoProfile", "Unreachable", "Starting"})


def circuit_note(place: Place, why: str) -> Note:
    """Return the Event that a circuit opened, or (without a reason) that it closed."""
    if why:
        return Note("CircuitOpen", f"{why} Nothing automatic is started there.", warning=True)
    namespace, at = place
    where = f"namespace {namespace} behind router {at}" if at else f"namespace {namespace}"
    return Note("CircuitClosed", f"Enough machines of {where} are Ready again: automatic repaves go on.")


def knows_of_circuit(status: Mapping[str, Any], why: str) -> bool:
    """Whether a Server's status says already that its circuit is open."""
    return bool(why) and _reason(status) == "CircuitOpen"


# -- one machine


@dataclass(frozen=True)
class Care:
    """The settings that decisions depend on."""

    share: float = 0.4
    limit: int = 3
    pause: float = 600.0


@dataclass(frozen=True)
class Sight:
    """All that is known of one machine at one moment."""

    machine: Machine
    status: Mapping[str, Any]
    node: NodeView | None
    now: datetime
    last: NodeView | None = None
    """The Node as it was when it was seen to go."""
    answer: Answer | None = None
    """The answer of the machine's target, when it came after the Node was first seen not Ready."""
    open: str = ""
    bad_for: float = 0.0
    unfinished: str = ""
    operations: Collection[str] = ()
    quiet_for: float = float("inf")
    """Seconds since the last Operation on the machine ended."""
    shared: bool = False
    """Whether the Node could be that of more than one Server."""
    in_place: bool = False
    """Whether a repave goes through the machine itself."""


@dataclass(frozen=True)
class Verdict:
    """What follows: conditions that are news (None: taken away), other fields, Events, an act, when to look again."""

    wanted: Mapping[str, Condition | None] = field(default_factory=dict)
    fields: Patch = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    start: str = ""
    """The name of the Operation to create."""
    after: float | None = None


@dataclass(frozen=True)
class Record:
    """What a Server's status keeps of its automatic repaves."""

    times: int = 0
    last: datetime | None = None
    operation: str = ""

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> Record:
        """Read it; odd values count as none."""
        kept = _mapping(status.get("autoRepave"))
        times = kept.get("times")
        return cls(
            times if isinstance(times, int) else 0,
            parsed_time(str(kept.get("lastTime") or "")),
            str(kept.get("operation") or ""),
        )


def assess(sight: Sight, care: Care) -> Verdict:
    """Return what follows from what is seen of one machine."""
    status = sight.status
    auto = _auto(sight, care)
    found = {NODE_READY: node_ready(sight), REACHABLE: reachable(sight), AUTO_REPAVE: auto.wanted.get(AUTO_REPAVE)}
    left = {AUTO_REPAVE} if condition(status, AUTO_REPAVE) else set()
    wanted = {kind: value for kind, value in found.items() if value is not None or kind in left}
    news = {kind: value for kind, value in wanted.items() if _is_news(condition(status, kind), kind, value)}
    fields = dict(auto.fields)
    if not fields and status.get("autoRepave") and _was_well(sight):
        fields = {"autoRepave": None}
    return Verdict(news, fields, _notes(status, news), auto.start, auto.after)


def _was_well(sight: Sight) -> bool:
    """Whether a Node that is not Ready any more had been for so long that earlier repaves do not count."""
    if not is_bad(sight.machine, sight.node):
        return False
    before = condition(sight.status, NODE_READY)
    since = parsed_time(str(before.get("lastTransitionTime") or ""))
    return before.get("status") == "True" and since is not None and _seconds(since, sight.now) >= HEALED_SECONDS


def node_ready(sight: Sight) -> Condition | None:
    """Return the condition NodeReady, None when the machine is no Node and need not be."""
    machine, node = sight.machine, sight.node
    if node is not None and machine.is_node and node.owner not in ("", machine.owner):
        return "Unknown", "NodeOfAnother", f"Node {node.name} is that of Server {node.owner}."
    if not is_member(machine, node):
        return None
    if node is None:
        return False, "NodeGone", f"Node {machine.node} does not exist any more."
    if node.ready == "True":
        return True, "Ready", f"Node {node.name} is Ready."
    if node.ready == "False":
        return False, "NodeNotReady", f"Node {node.name} is not Ready: {node.why}"
    return "Unknown", "NodeStatusUnknown", f"Nothing is heard from Node {node.name}: {node.why}"


def needs_probe(sight: Sight) -> bool:
    """Whether there is a reason to see if a machine can be reached: a Node that is not Ready, or an old doubt."""
    doubt = condition(sight.status, REACHABLE)
    return is_bad(sight.machine, sight.node) or (bool(doubt) and doubt.get("status") != "True")


def reachable(sight: Sight) -> Condition | None:
    """Return the condition Reachable, None when there is nothing to say."""
    target, answer = sight.machine.target, sight.answer
    if target is None or answer is None or not needs_probe(sight):
        return None
    if not answer.good:
        kind, reason = ("Router ", "RouterDown") if target.is_router else ("", "Unreachable")
        return False, reason, f"{kind}{target} does not answer: {answer.text}."
    if not target.is_router:
        return True, "Answers", f"{target} answers."
    if is_member(sight.machine, sight.node) and not is_bad(sight.machine, sight.node):
        return True, "NodeIsReady", f"Router {target} answers, and the Node is Ready."
    return "Unknown", "BehindRouter", f"Router {target} answers; what is behind it is not probed."


# -- automatic repaves


def _auto(sight: Sight, care: Care) -> Verdict:
    machine, record = sight.machine, Record.read(sight.status)
    if not machine.heals or not is_bad(machine, sight.node):
        return Verdict()
    if _was_well(sight):
        record = Record()
    for check in (_out_of_service, _under_way, _no_more):
        found = check(sight, care, record)
        if found is not None:
            return found
    return _when_due(sight, care, record)


def _when_due(sight: Sight, care: Care, record: Record) -> Verdict:
    machine, now = sight.machine, sight.now
    rest = pause(care, record.times) - _seconds(record.last, now) if record.last else 0.0
    wait = machine.patience - min(sight.bad_for, sight.quiet_for)
    if max(wait, rest) > 0:
        reason = "BackOff" if rest > wait else "Waiting"
        moment = formatted_time(now + timedelta(seconds=max(wait, rest)))
        told = f"Node {machine.node} is not Ready; if it stays so, a repave is started at {moment}."
        return _said(True, reason, told, after=max(wait, rest))
    if machine.target is not None and sight.answer is None:
        return _said(True, "Waiting", f"Whether {machine.target} answers is being looked at.", after=1.0)
    if sight.answer is not None and not sight.answer.good and sight.in_place:
        told = f"{machine.target} does not answer, and a repave in place needs that. Bring the machine back by hand."
        return _said(False, "Unreachable", told)
    times = record.times + 1
    name = operation_name(machine, times)
    kept = {"times": times, "lastTime": formatted_time(now), "operation": name}
    told = f"Operation {name} is created: automatic repave {times} of at most {care.limit}."
    return Verdict({AUTO_REPAVE: (True, "Starting", told)}, {"autoRepave": kept}, start=name)


def _said(status: bool, reason: str, message: str, *, start: str = "", after: float | None = None) -> Verdict:
    return Verdict({AUTO_REPAVE: (status, reason, message)}, start=start, after=after)


def _under_way(sight: Sight, _care: Care, record: Record) -> Verdict | None:
    """Return what is said while an Operation has not ended, or one that is accounted for has yet to be created."""
    if sight.unfinished:
        reason = "Started" if sight.unfinished == record.operation else "OperationUnfinished"
        return _said(True, reason, f"Operation {sight.unfinished} has not ended.")
    if _reason(sight.status) == "Starting" and record.operation not in sight.operations and not sight.open:
        return _said(True, "Starting", f"Operation {record.operation} is created.", start=record.operation)
    return None


def _out_of_service(sight: Sight, _care: Care, _record: Record) -> Verdict | None:
    """Return what is said of a machine that a person seems to have taken out of service, None when nobody has."""
    name, node = sight.machine.node, sight.node
    by_hand = "nothing is done to it automatically. Apply an Operation yourself when you are done."
    if sight.shared:
        return _said(False, "NodeShared", f"Node {name} could be that of more than one Server; {by_hand}")
    if node is not None:
        return _said(False, "Cordoned", f"Node {name} was cordoned by a person; {by_hand}") if node.taken else None
    before = _reason(sight.status)
    if (sight.last is not None and sight.last.taken) or before == "Cordoned":
        return _said(False, "Cordoned", f"Node {name} was cordoned by a person before it went; {by_hand}")
    unseen = sight.last is None and condition(sight.status, NODE_READY).get("status") not in ("False", "Unknown")
    if unseen or before in _STAYS_OUT:
        return _said(False, "NodeGoneUnseen", f"Node {name} went while nobody looked, maybe on purpose; {by_hand}")
    return None


def _no_more(sight: Sight, care: Care, record: Record) -> Verdict | None:
    """Return what is said where no repave, or no other one of this machine, may be started; None when it may."""
    if sight.open:
        return _said(False, "CircuitOpen", f"{sight.open} Nothing automatic is started there.")
    if record.times >= care.limit:
        told = f"{record.times} automatic repaves did not help (at most {care.limit}). See what Node and machine say."
        return _said(False, "LimitReached", told)
    if not sight.machine.profile:
        told = "There is no profile to repave with. Set spec.provisioningProfile of the Server."
        return _said(False, "NoProfile", told)
    return None


def pause(care: Care, times: int) -> float:
    """Return the shortest time from one automatic repave of a machine, its `times`th, to the next."""
    return min(LONGEST_PAUSE, care.pause * 2.0 ** min(times - 1, 30)) if times > 0 else 0.0


def operation_name(machine: Machine, times: int) -> str:
    """Return the name of a machine's `times`th automatic repave: the same whoever asks, so that two make one."""
    mark = hashlib.sha256(f"{machine.uid} {times}".encode()).hexdigest()[:8]
    return f"{machine.key[1][:220].rstrip('.-')}-{NOT_READY}-{mark}"


def repave(machine: Machine, name: str, why: str) -> Object:
    """Return the Operation that repaves a machine with its own profile."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Operation",
        "metadata": {
            "name": name,
            "namespace": machine.key[0],
            "labels": {CAUSE: NOT_READY},
            "annotations": {CAUSE: redacted(why)},
        },
        "spec": {
            "serverRef": {"name": machine.key[1]},
            "provisioningProfileRef": {"name": machine.profile},
            "operation": "repave",
            "ttlSecondsAfterFinished": KEPT_SECONDS,
        },
    }


# -- what is told


def _is_news(old: Mapping[str, Any], kind: str, new: Condition | None) -> bool:
    """Whether a condition says something else than before; another wording of the same is none."""
    if new is None or not old:
        return new is not None or bool(old)
    same = old.get("status") == _text(new[0])
    if same and kind != AUTO_REPAVE and new[0] is True:
        return False
    return not same or old.get("reason") != new[1]


def _notes(status: Mapping[str, Any], news: Mapping[str, Condition | None]) -> tuple[Note, ...]:
    found: list[Note] = []
    for kind, new in news.items():
        old = condition(status, kind)
        if new is None or (kind == AUTO_REPAVE and new[1] not in _TOLD):
            continue
        good = new[0] is True
        changed = (old.get("status") == "True") != good
        if kind == AUTO_REPAVE:
            reason = "Started" if new[1] == "Starting" else new[1]
            found.append(Note(f"{AUTO_REPAVE}{reason}", new[2], warning=not good))
        elif changed and (old or not good) and new[1] != "BehindRouter":
            found.append(Note(kind if good else new[1], new[2], warning=not good))
    return tuple(found)


def _text(status: bool | str) -> str:
    return status if isinstance(status, str) else str(status)


def _reason(status: Mapping[str, Any]) -> str:
    return str(condition(status, AUTO_REPAVE).get("reason", ""))


def _seconds(earlier: datetime, now: datetime) -> float:
    return (now - earlier).total_seconds()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
