# SPDX-License-Identifier: Apache-2.0
"""What an object must fulfil beyond its schema: one table of rules, each as CEL and as a Python predicate.

A newer API server checks the CEL at admission; an older one ignores it, so the daemon checks the predicates. The CRDs
carry exactly this table (a test compares them). Types, patterns and limits are the schema's, not these rules'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _server

Predicate = Callable[[Mapping[str, Any], Mapping[str, Any] | None], bool]
"""From an object and what it was before (None when it is new, or when that is not known) to whether a rule holds."""


@dataclass(frozen=True)
class Rule:
    """One rule: where in which kind it stands, its CEL, what is said when it is broken, and the same as a predicate."""

    kind: str
    path: str
    cel: str
    message: str
    holds: Predicate


def broken(kind: str, obj: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> list[str]:
    """Return a sentence, with its remedy, for each rule of `kind` that `obj` breaks; none when all hold.

    Rules on what may change hold when `old` is None, as at the creation of an object. `kind` without rules has none.
    """
    name = (obj.get("metadata") or {}).get("name", "")
    return [
        f"{kind} {name} is invalid: {rule.message}" for rule in RULES if rule.kind == kind and not rule.holds(obj, old)
    ]


def malformed(operation: Mapping[str, Any]) -> list[str]:
    """Return a sentence, with its remedy, for each value of an Operation's spec that is none of its field's.

    The schema refuses these, but for an API server with an older or a looser one; a run must not start on half of it.
    """
    name = (operation.get("metadata") or {}).get("name", "")
    spec = operation.get("spec")
    if not isinstance(spec, Mapping):
        spec = {}
    return [
        f"Operation {name}: spec.{'.'.join(path)} is {_server.shown(value)}, which is not {meant}. "
        "Create another Operation with a right one."
        for path, fits, meant, needed in FIELDS
        if (value := _at(spec, path)) is not None or needed
        if not fits(value)
    ]


def _at(spec: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return what stands at a path; where a part of it is no mapping, that part."""
    found: Any = spec
    for key in path:
        if not isinstance(found, Mapping):
            return found
        found = found.get(key)
    return found


def _up_to(limit: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


_A_NAME = "the name of an object (RFC 1123)"
_SECONDS = "a whole number of seconds from 0 to 2147483647"
FIELDS: tuple[tuple[tuple[str, ...], Callable[[object], bool], str, bool], ...] = (
    (("serverRef", "name"), _server.is_name, _A_NAME, True),
    (("operation",), lambda value: isinstance(value, str) and bool(value), "the name of an operation", True),
    (("provisioningProfileRef", "name"), _server.is_name, _A_NAME, False),
    (("cancel",), lambda value: isinstance(value, bool), "true or false", False),
    (("activeDeadlineSeconds",), _up_to(_server.LONGEST), _SECONDS, False),
    (("ttlSecondsAfterFinished",), _up_to(_server.LONGEST), _SECONDS, False),
    (("retryLimit",), _up_to(100), "a whole number from 0 to 100", False),
)
"""Where a value of an Operation stands, whether it is one of the field, what is meant, and whether it has to be set."""


def _part(obj: Mapping[str, Any] | None, path: str) -> Mapping[str, Any] | None:
    found = obj.get(path) if obj is not None else None
    return found if isinstance(found, Mapping) else None


def _some(*fields: str) -> Predicate:
    """Hold when at least one field of the spec is set; a missing spec is the schema's to refuse."""

    def holds(new: Mapping[str, Any], _old: Mapping[str, Any] | None) -> bool:
        part = _part(new, "spec")
        return part is None or any(field in part for field in fields)

    return holds


def _not_both(one: str, other: str) -> Predicate:
    def holds(new: Mapping[str, Any], _old: Mapping[str, Any] | None) -> bool:
        part = _part(new, "spec")
        return part is None or not (one in part and other in part)

    return holds


def _with(field: str, needed: str) -> Predicate:
    def holds(new: Mapping[str, Any], _old: Mapping[str, Any] | None) -> bool:
        part = _part(new, "spec")
        return part is None or field not in part or needed in part

    return holds


def _same(*keys: str) -> Predicate:
    """Hold when the value at `keys` below the spec is what it was before, absence being a value too."""

    def value(part: Mapping[str, Any]) -> Any:
        found: Any = part
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def holds(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        part, before = _part(new, "spec"), _part(old, "spec")
        return part is None or before is None or value(part) == value(before)

    return holds


def _phase_is_kept(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    part, before = _part(new, "status"), _part(old, "status")
    if part is None or before is None or before.get("phase") not in ("Succeeded", "Failed"):
        return True
    return bool(part.get("phase") == before["phase"])


def _unchanged(field: str) -> str:
    return f"has(self.{field}) ? has(oldSelf.{field}) && self.{field} == oldSelf.{field} : !has(oldSelf.{field})"


_AGAIN = "cannot be changed. Create another Operation"

RULES: tuple[Rule, ...] = (
    Rule(
        kind="Server",
        path="spec",
        cel="has(self.ipv4) || has(self.mac) || has(self.bmc) || has(self.inventory)",
        message="nothing says which machine this is. "
        "Set at least one of spec.ipv4, spec.mac, spec.bmc and spec.inventory.",
        holds=_some("ipv4", "mac", "bmc", "inventory"),
    ),
    Rule(
        kind="Server",
        path="spec",
        cel="!has(self.routerPort) || has(self.routerIP)",
        message="spec.routerPort is set without a router that it could be the port of. "
        "Set spec.routerIP, or remove spec.routerPort.",
        holds=_with("routerPort", "routerIP"),
    ),
    Rule(
        kind="ProvisioningProfile",
        path="spec",
        cel="has(self.kubernetesVersion) || has(self.osVersion) || has(self.cloudInit) || "
        "has(self.cloudInitSecretRef) || has(self.customBootstrapScript)",
        message="nothing says what machines get. Set at least one of spec.kubernetesVersion, spec.osVersion, "
        "spec.cloudInit, spec.cloudInitSecretRef and spec.customBootstrapScript.",
        holds=_some("kubernetesVersion", "osVersion", "cloudInit", "cloudInitSecretRef", "customBootstrapScript"),
    ),
    Rule(
        kind="ProvisioningProfile",
        path="spec",
        cel="!has(self.cloudInit) || !has(self.cloudInitSecretRef)",
        message="spec.cloudInit and spec.cloudInitSecretRef are both set, and only one can be used. "
        "Remove one of them.",
        holds=_not_both("cloudInit", "cloudInitSecretRef"),
    ),
    Rule(
        kind="ProvisioningProfile",
        path="spec",
        cel="!has(self.osImageChecksum) || has(self.osImage)",
        message="spec.osImageChecksum is set without an image that it could be the checksum of. "
        "Set spec.osImage, or remove spec.osImageChecksum.",
        holds=_with("osImageChecksum", "osImage"),
    ),
    Rule(
        kind="Operation",
        path="spec",
        cel="self.serverRef.name == oldSelf.serverRef.name",
        message=f"spec.serverRef of an Operation {_AGAIN} for the other Server.",
        holds=_same("serverRef", "name"),
    ),
    Rule(
        kind="Operation",
        path="spec",
        cel="self.operation == oldSelf.operation",
        message=f"spec.operation of an Operation {_AGAIN}.",
        holds=_same("operation"),
    ),
    Rule(
        kind="Operation",
        path="spec",
        cel="has(self.provisioningProfileRef) ? has(oldSelf.provisioningProfileRef) && "
        "self.provisioningProfileRef.name == oldSelf.provisioningProfileRef.name : "
        "!has(oldSelf.provisioningProfileRef)",
        message=f"spec.provisioningProfileRef of an Operation {_AGAIN} with the other ProvisioningProfile.",
        holds=_same("provisioningProfileRef", "name"),
    ),
    Rule(
        kind="Operation",
        path="spec",
        cel=_unchanged("activeDeadlineSeconds"),
        message="spec.activeDeadlineSeconds of an Operation cannot be changed. "
        "Set spec.cancel to true to stop it now, or create another Operation with more time.",
        holds=_same("activeDeadlineSeconds"),
    ),
    Rule(
        kind="Operation",
        path="spec",
        cel=_unchanged("retryLimit"),
        message=f"spec.retryLimit of an Operation {_AGAIN}.",
        holds=_same("retryLimit"),
    ),
    Rule(
        kind="Operation",
        path="status",
        cel="!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed']) || "
        "(has(self.phase) && self.phase == oldSelf.phase)",
        message="a finished Operation keeps its status.phase. Create another Operation to try again.",
        holds=_phase_is_kept,
    ),
)
"""All rules, in the order in which the CRDs carry them."""
