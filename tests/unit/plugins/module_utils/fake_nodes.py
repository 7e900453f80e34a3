# SPDX-License-Identifier: Apache-2.0
"""A cluster of one Node and its pods in memory, where time passes only when somebody waits.

Has the methods of module_utils/_kube.py's Cluster that a drain and a wait use. Real API servers are in
tests/integration.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from tests.unit.plugins.module_utils.scripted_api import Clock

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube_answer import Answer, refused

Object = dict[str, Any]
Evict = Callable[["FakeNodes", str], Answer]


def evicted(world: FakeNodes, name: str) -> Answer:
    """Let the pod end three seconds from now."""
    pod = world.pods[name]
    pod["metadata"]["deletionTimestamp"] = "now"
    world.at(3.0, "DELETED", pod)
    return Answer(201, {})


def accepted(_world: FakeNodes, _name: str) -> Answer:
    """Say yes, and nothing happens."""
    return Answer(201, {})


class FakeNodes:
    """The cluster. `evict` answers evictions; `faults` are raised, one by one, by the next patches of the Node."""

    address = "https://fake"
    ca = ""

    def __init__(self, node: Object | None, *pods: Object, evict: Evict = evicted) -> None:
        """Begin with these."""
        self.clock = Clock()
        self.node = node
        self.pods = {pod["metadata"]["name"]: pod for pod in pods}
        self.evict = evict
        self.faults: list[StargateError] = []
        self.asked: list[tuple[str, float, Object]] = []
        self.patches: list[Object] = []
        self._coming: list[tuple[float, str, Object]] = []

    def __enter__(self) -> FakeNodes:
        return self

    def __exit__(self, *_exception: object) -> None:
        return

    def at(self, seconds: float, kind: str, item: Object) -> None:
        """Have an event some seconds from now."""
        self._coming.append((self.clock.now + seconds, kind, item))
        self._coming.sort(key=lambda entry: entry[0])

    def get(self, _path: str, _doing: str) -> Object:
        """Return the version."""
        return {"gitVersion": "v1.20.2"}

    def find(self, _path: str, _doing: str) -> Object | None:
        """Return the Node."""
        return copy.deepcopy(self.node)

    def items(self, path: str, _doing: str, **_query: Any) -> tuple[list[Object], str]:
        """Return all pods, or the Node."""
        if path.endswith("pods"):
            return copy.deepcopy(list(self.pods.values())), "1"
        return ([copy.deepcopy(self.node)] if self.node else []), "1"

    def patch(self, _path: str, _doing: str, body: Object) -> Object:
        """Change the Node, unless a fault comes first, or the patch is of another version."""
        if self.faults:
            raise self.faults.pop(0)
        assert self.node is not None
        if body["metadata"]["resourceVersion"] != self.node["metadata"]["resourceVersion"]:
            raise Conflict("Failed to patch: the Node has changed.")
        self.patches.append(body)
        self.node["metadata"]["resourceVersion"] += "x"
        self.node["spec"].update(body.get("spec") or {})
        for kind in ("labels", "annotations"):
            self.node["metadata"].setdefault(kind, {}).update(body["metadata"].get(kind) or {})
        return copy.deepcopy(self.node)

    def ask(self, _method: str, path: str, doing: str, *, body: Object, expected: tuple[int, ...]) -> Answer:
        """Answer an eviction."""
        self.asked.append((path, self.clock.now - 1000.0, body))
        answer = self.evict(self, path.split("/")[-2])
        if answer.status >= 300 and answer.status not in expected:
            raise refused(answer, doing, self.address)
        return answer

    def watch(self, _path: str, _doing: str, *, seconds: int, **_query: Any) -> Iterator[Object]:
        """Yield the next event when it comes in time; otherwise let the time pass."""
        until = self.clock.now + seconds
        if self._coming and self._coming[0][0] <= until:
            when, kind, item = self._coming.pop(0)
            self.clock.now = max(self.clock.now, when)
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(int(self.clock.now * 10))
            if "status" in item and "conditions" in item["status"]:
                self.node = copy.deepcopy(item)
            elif kind == "DELETED":
                self.pods.pop(item["metadata"]["name"], None)
            yield {"type": kind, "object": item}
            return
        self.clock.now = until
