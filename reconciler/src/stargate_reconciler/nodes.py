# SPDX-License-Identifier: Apache-2.0
"""The cluster's Nodes, watched and kept small.

The second door to Kubernetes beside `kube.py`, for what only health needs. No decisions here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from kubernetes import client

from .kube import Kube, Watcher
from .machines import NodeView, node_view
from .model import Object

logger = logging.getLogger(__name__)

_KEPT_CONDITION = "Ready"


def slimmed(node: Object) -> Object:
    """Take from a Node all but what `node_view` reads: with its images it weighs a hundred times as much."""
    meta, spec, status = (node.get(part) or {} for part in ("metadata", "spec", "status"))
    notes = {key: text for key, text in (meta.get("annotations") or {}).items() if key.startswith("stargate.io/")}
    kept = {key: meta[key] for key in ("name", "uid", "resourceVersion") if key in meta}
    conditions = [item for item in status.get("conditions") or () if item.get("type") == _KEPT_CONDITION]
    node["metadata"] = {**kept, "annotations": notes}
    node["spec"] = {"unschedulable": spec.get("unschedulable")}
    node["status"] = {"conditions": conditions, "addresses": status.get("addresses") or []}
    return node


class News:
    """The answer to a watch without the events that `kept` returns nothing for; all else is the answer's own."""

    def __init__(self, answer: Any, kept: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._kept = kept

    def stream(self, **options: Any) -> Iterator[bytes]:
        """Yield the events that are kept, a line each."""
        rest = b""
        for part in self._answer.stream(**options):
            *lines, rest = (rest + part).split(b"\n")
            yield from (kept + b"\n" for line in lines if line and (kept := self._kept(line)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)


class NodeWatcher(Watcher):
    """A watcher of all Nodes that hears no mere signs of life: the client takes a millisecond for each event.

    A Node says every five minutes that it lives; ten thousand of them would cost 3 % of a core.
    """

    def __init__(self, kube: Kube) -> None:
        super().__init__(client.CoreV1Api(kube.api_client), "Node", None)
        self._seen: dict[str, NodeView] = {}

    def _call(self, **options: Any) -> Any:
        if options.get("watch"):
            return News(self._objects.list_node(**options), self.kept)
        page: Object = json.loads(self._objects.list_node(_preload_content=False, **options).data)
        if "_continue" not in options:
            self._seen.clear()
        page["items"] = [slimmed(item) for item in page.get("items") or ()]
        for item in page["items"]:
            self._seen[item["metadata"]["name"]] = node_view(item)
        return page

    def kept(self, line: bytes) -> bytes:
        """Return an event with a smaller Node, nothing when the Node is what it was."""
        event = json.loads(line)
        if event.get("type") not in ("ADDED", "MODIFIED", "DELETED"):
            return line
        view = node_view(slimmed(event["object"]))
        if event["type"] == "DELETED":
            self._seen.pop(view.name, None)
        elif self._seen.get(view.name) == view:
            return b""
        else:
            self._seen[view.name] = view
        return json.dumps(event).encode()


class Nodes:
    """The Nodes by name, as health sees them. Written by the watch's thread only."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._views: dict[str, NodeView] = {}
        self._gone: dict[str, NodeView] = {}
        self._watcher: NodeWatcher | None = None
        self._said = ""

    def start(self, kube: Kube) -> None:
        """Begin to watch; returns at once."""
        self._watcher = NodeWatcher(kube)
        self._watcher.on_error = self._failed
        self._watcher.start(self.put, self.drop)

    def stop(self) -> None:
        """End the watch."""
        if self._watcher is not None:
            self._watcher.stop()

    @property
    def synced(self) -> bool:
        """Whether the first list has been read."""
        return self._watcher is not None and self._watcher.synced.is_set()

    def view(self, name: str) -> NodeView | None:
        """Return a Node, None when it is not there."""
        return self._views.get(name)

    def gone(self, name: str) -> NodeView | None:
        """Return a Node as it was when it was seen to go, None when it was not."""
        return self._gone.get(name)

    def put(self, node: Object) -> None:
        """Remember a Node, and tell when it is not what it was; a mere sign of life is no change."""
        view = node_view(slimmed(node))
        before = self._views.get(view.name)
        self._views[view.name] = view
        self._gone.pop(view.name, None)
        if before != view:
            self._changed(view.name)

    def drop(self, node: Object) -> None:
        """Take note of a Node that is gone."""
        view = node_view(node)
        self._views.pop(view.name, None)
        self._gone[view.name] = view
        self._changed(view.name)

    def forget(self, name: str) -> None:
        """Forget a Node that is gone and that nobody will ask for."""
        self._gone.pop(name, None)

    def _failed(self, error: Exception) -> None:
        text = " ".join(str(error).split())[:200]
        level = logging.DEBUG if text == self._said else logging.WARNING
        self._said = text
        logger.log(level, "Watch of Node: %s", text)
