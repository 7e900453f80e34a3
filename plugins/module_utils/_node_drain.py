# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drain: cordon, evict, wait until the pods are gone; and give the Node back when that fails.

PRIVATE to the collection. What a Node or a pod means to it is decided in _node.py and _pods.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _node, _pods
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, Object, path_of
from ansible_collections.stargate.core.plugins.module_utils._kube_answer import Answer, refused
from ansible_collections.stargate.core.plugins.module_utils._kube_follow import Followed
from ansible_collections.stargate.core.plugins.module_utils._nodes import patched
from ansible_collections.stargate.core.plugins.module_utils._pods import Pod

PODS, NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"
AGAIN_AFTER = 5.0
"""Seconds between two evictions of one pod, when the API server does not say how many."""
SAY_EVERY = 15.0


@dataclass(frozen=True)
class Policy:
    """How a Node is drained."""

    operation_uid: str
    evict: bool = True
    timeout: float = 300.0
    force: bool = False
    eviction: str = "policy/v1"  # the version of that API; v1beta1 for servers before 1.22


@dataclass
class Progress:
    """What has become of the pods: when each may be evicted, why it is still there, which have gone."""

    due: dict[str, float] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    told: dict[str, Pod] = field(default_factory=dict)
    said: float = 0.0


class Drain:
    """The drain of one Node; `say` is given a line for people now and then."""

    def __init__(self, cluster: Cluster, node: Object, policy: Policy, say: Callable[[str], None]) -> None:
        """Ask nothing yet."""
        self._cluster = cluster
        self._node = node
        self._name = str(node["metadata"]["name"])
        self._policy = policy
        self._say = say
        doing = f"list the pods of Node {self._name}"
        self._followed = Followed(cluster, PODS, f"spec.nodeName={self._name}", doing)
        self._progress = Progress()

    def plan(self) -> tuple[dict[str, Any], list[Pod]]:
        """Return the patch that cordons and the pods that have to leave; raises what forbids it from the start."""
        pods = _pods.movable(self._followed.now()) if self._policy.evict else []
        refusal = None if self._policy.force else _pods.refusal(self._name, pods)
        if refusal is not None:
            raise refusal
        return _node.cordon(self._node, self._policy.operation_uid), pods

    def run(self) -> tuple[Object, list[Pod], list[Pod]]:
        """Return the Node as it is then, the pods that have gone, and those that are left.

        When it fails, the Node is given back, and what is raised says so if that fails too.
        """
        self._node = self._cordoned()
        try:
            left = self._emptied() if self._policy.evict else []
        except StargateError as error:
            raise self._given_back(error) from error
        gone = [pod for uid, pod in self._progress.told.items() if uid not in {pod.uid for pod in left}]
        return self._node, sorted(gone, key=str), left

    def _cordoned(self) -> Object:
        uid = self._policy.operation_uid
        return patched(self._cluster, self._node, lambda node: _node.cordon(node, uid), "cordon")

    def _given_back(self, error: StargateError) -> StargateError:
        uid = self._policy.operation_uid
        try:
            patched(self._cluster, self._node, lambda node: _node.uncordon(node, uid), "uncordon")
        except StargateError as second:
            text = f"{error.message} The Node stays cordoned ({_node.CORDONED_BY}: {uid}). {second.message}"
            return type(error)(text, code=error.code, details=error.details, retryable=error.retryable)
        return error

    def _emptied(self) -> list[Pod]:
        """Evict until no pod is left that has to leave; returns those that may be left."""
        clock = self._cluster.clock
        started = clock.monotonic()
        pods = self._followed.now()
        while True:
            here = _pods.movable(pods)
            self._evict([pod for pod in here if not pod.is_going])
            if not here or self._is_all_that_can_be_done(here):
                return here
            now = clock.monotonic()
            left = started + self._policy.timeout - now
            if left <= 0:
                return self._too_late(here)
            self._say_who(here, now)
            due = min((self._progress.due.get(pod.uid, now + left) for pod in here), default=now + left)
            pods = self._followed.changed(min(left, max(due - now, 0.05)))

    def _is_all_that_can_be_done(self, here: list[Pod]) -> bool:
        """Whether nobody is there who would end the pods that are told to."""
        return _node.is_silent(self._node) and all(pod.is_going or pod.uid in self._progress.told for pod in here)

    def _too_late(self, here: list[Pod]) -> list[Pod]:
        if self._policy.force:
            return here
        reasons = {pod: self._progress.why.get(pod.uid, "it is still ending") for pod in here}
        raise _pods.stuck(self._name, self._policy.timeout, reasons)

    def _evict(self, pods: list[Pod]) -> None:
        now = self._cluster.clock.monotonic()
        for pod in pods:
            if pod.uid in self._progress.told or self._progress.due.get(pod.uid, 0.0) > now:
                continue
            answer = self._asked(pod)
            why = _why_not(answer)
            if answer.status == 403 and not why:
                raise refused(answer, f"evict pod {pod}", self._cluster.address)
            if why:
                self._progress.why[pod.uid] = why
                self._progress.due[pod.uid] = now + (answer.retry_after or AGAIN_AFTER)
            else:
                self._progress.told[pod.uid] = pod
                self._progress.why.pop(pod.uid, None)
                self._progress.due.pop(pod.uid, None)

    def _asked(self, pod: Pod) -> Answer:
        body = {
            "apiVersion": self._policy.eviction,
            "kind": "Eviction",
            "metadata": {"namespace": pod.namespace, "name": pod.name},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        path = path_of(NAMESPACES, pod.namespace, "pods", pod.name, "eviction")
        return self._cluster.ask("POST", path, f"evict pod {pod}", body=body, expected=(403, 404, 409, 429, 500))

    def _say_who(self, here: list[Pod], now: float) -> None:
        if not self._progress.said:
            self._progress.said = now
        if now - self._progress.said >= SAY_EVERY:
            self._progress.said = now
            whys = [f"{pod} ({self._progress.why.get(pod.uid, 'is ending')})" for pod in here[: _pods.SHOWN]]
            self._say(f"Node {self._name}: {len(here)} pods are still there: {', '.join(whys)}")


def _why_not(answer: Answer) -> str:
    """Return why a pod was not evicted, in one sentence without its full stop; "" when it is going, or gone."""
    if answer.status < 300 or answer.status == 404:
        return ""
    budget = _pods.budget_said(answer.body)
    if answer.status == 403:
        causes = (answer.body.get("details") or {}).get("causes") or ()
        ending = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
        return answer.message if ending else ""
    return budget or answer.message
