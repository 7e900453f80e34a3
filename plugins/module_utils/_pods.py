# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods of a Node: which of them a drain evicts, which it leaves, which stand in its way, and what that is called.

PRIVATE to the collection. Pure: pods as the API shows them come in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, StargateError, Timeout

MIRROR = "kubernetes.io/config.mirror"
SHOWN = 5
_BUDGET = re.compile(r"disruption budget (\S+) ")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod that a drain has to do with."""

    namespace: str
    name: str
    uid: str
    is_bare: bool = False  # nobody makes it again
    is_going: bool = False  # it has been told to end

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def movable(pods: Iterable[Object]) -> list[Pod]:
    """Return the pods that have to leave: all but those of DaemonSets, static ones, and those that have ended."""
    return sorted((_pod(pod) for pod in pods if not _stays(pod)), key=str)


def refusal(node: str, pods: Iterable[Pod]) -> StargateError | None:
    """Return why a drain without force does not even begin, None when it may."""
    bare = [pod for pod in pods if pod.is_bare and not pod.is_going]
    if not bare:
        return None
    return Conflict(
        f"Failed to drain Node {node}: nobody makes {_listed(map(str, bare))} again when evicted. "
        "Delete what may go, or allow it with drain.force.",
        code="DrainBlocked",
        details=_listed(map(str, bare)),
        retryable=False,
    )


def stuck(node: str, seconds: float, reasons: Mapping[Pod, str]) -> StargateError:
    """Return what a drain is that has not ended in time; `reasons` say of each pod why it is still there."""
    told = _listed(f"{pod} ({why})" for pod, why in reasons.items())
    pods = f"{len(reasons)} pod{' is' if len(reasons) == 1 else 's are'}"
    budgets = {match[1] for why in reasons.values() for match in [_BUDGET.search(why)] if match}
    remedy = (
        f"See the PodDisruptionBudget{'' if len(budgets) == 1 else 's'} {', '.join(sorted(budgets))}"
        if budgets
        else "See why they do not end"
    )
    return Timeout(
        f"Failed to drain Node {node}: after {seconds:.0f} s {pods} still there: {told}. "
        f"{remedy}, or allow more time, or drain.force.",
        code="DrainBlocked",
        details=told,
    )


def budget_said(body: Object) -> str:
    """Return which budget forbids an eviction, in the API server's words; "" when none does."""
    causes = (body.get("details") or {}).get("causes") or ()
    said = [str(cause.get("message", "")) for cause in causes if cause.get("reason") == "DisruptionBudget"]
    message = str(body.get("message", ""))
    if said or "disruption budget" in message.lower() or "PodDisruptionBudget" in message:
        return (said[0] if said and said[0] else message).rstrip(".")
    return ""


def _listed(texts: Iterable[str]) -> str:
    known = list(texts)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more


def _pod(pod: Object) -> Pod:
    metadata = pod["metadata"]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        is_bare=_controller(pod) is None,
        is_going=bool(metadata.get("deletionTimestamp")),
    )


def _stays(pod: Object) -> bool:
    controller = _controller(pod)
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    is_mirror = MIRROR in (pod["metadata"].get("annotations") or {})
    return ended or is_mirror or (controller is not None and controller.get("kind") == "DaemonSet")


def _controller(pod: Object) -> Object | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)
