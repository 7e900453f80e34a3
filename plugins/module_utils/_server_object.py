# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to a Server object so that it says what is known of a machine; pure.

PRIVATE to the collection. A person's edits survive: of an object that is there, only facts about where the machine is
are corrected. Reading and writing is the task's business, in _server_module.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid

SITE_ANNOTATION = "stargate.io/site"
# Of these we know better than the object; all else that is set there stays.
FACTS = ("mac", "ipv4", "provider", "routerIP", "routerPort", "sshHostKeys", "podCIDR")
API_VERSION = "stargate.io/v1alpha1"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """What to send: `body` is the object to create, or the merge patch; no verb means that nothing is to be done."""

    verb: str = ""  # create | patch | delete
    body: Mapping[str, Any] = field(default_factory=dict)


def present(found: Object | None, wanted: Object, site: str) -> Change:
    """Return what makes the object say what is wanted. `wanted` has metadata.name, metadata.namespace and spec.

    An object that nobody's site has marked gets our facts, but not our mark: it was made by somebody else, who may
    want to keep it when the site goes.
    """
    if found is None:
        mark = {"annotations": {SITE_ANNOTATION: site}} if site else {}
        body = {
            "apiVersion": API_VERSION,
            "kind": "Server",
            "metadata": {**wanted["metadata"], **mark},
            "spec": dict(wanted["spec"]),
        }
        return Change("create", body)
    _refuse_foreign(found, wanted, site)
    spec = found.get("spec") or {}
    changed = {
        name: value
        for name, value in wanted["spec"].items()
        if (name in FACTS and spec.get(name) != value) or name not in spec
    }
    return Change("patch", {"spec": changed}) if changed else Change()


def absent(found: Object | None, site: str) -> Change:
    """Return what makes the object be gone: nothing when there is none, or when the site did not make it."""
    return Change("delete") if found is not None and (not site or owner(found) == site) else Change()


def owner(found: Object) -> str:
    """Return the site that made an object, "" when none did."""
    annotations = (found.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(SITE_ANNOTATION, ""))


def merged(found: Object | None, change: Change) -> dict[str, Any]:
    """Return the object's spec and site after a change, as a diff shows it; {} for none."""
    if change.verb == "delete" or (found is None and not change.verb):
        return {}
    spec: dict[str, Any] = dict((found or {}).get("spec") or {})
    if change.verb == "create":
        return {"spec": dict(change.body["spec"]), "site": owner(change.body)}
    return {"spec": {**spec, **change.body.get("spec", {})}, "site": owner(found or {})}


def told(found: Object) -> dict[str, Any]:
    """Return what a play gets of an object."""
    metadata, status = found.get("metadata") or {}, found.get("status") or {}
    return {
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace", ""),
        "uid": metadata.get("uid", ""),
        "site": owner(found),
        "state": status.get("state", ""),
        "active_operation": status.get("activeOperation", ""),
        "spec": dict(found.get("spec") or {}),
    }


def _refuse_foreign(found: Object, wanted: Object, site: str) -> None:
    """Refuse an object that stands for another machine, by its site or by its kind."""
    name = f"{wanted['metadata']['namespace']}/{wanted['metadata']['name']}"
    known, kind = owner(found), (found.get("spec") or {}).get("provider")
    if known and known != site:
        raise Invalid(
            f'Failed to update Server {name}: it belongs to the site "{known}". Choose another name for the machine.',
            code="NameTaken",
        )
    meant = wanted["spec"].get("provider")
    if not known and kind and meant and kind != meant:
        raise Invalid(
            f"Failed to update Server {name}: it stands for a machine of the provider {kind}, and this one is of "
            f"{meant}. Choose another name for the machine, or delete that Server.",
            code="NameTaken",
        )
