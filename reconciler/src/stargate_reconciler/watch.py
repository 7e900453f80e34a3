# SPDX-License-Identifier: Apache-2.0
"""The daemon's memory of the cluster: a store of the three kinds, fed by watches, that puts Server keys on the queue.

It decides nothing and writes nothing. What it gives out must not be changed by the reader.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial

from .kube import Kube, Watcher, trimmed
from .model import Object, Operation, Phase, Profile, Server, ServerKey

SLIM_STATUS = ("phase", "completionTime", "acceptedSpec", "message", "result", "observedGeneration", "startTime")
"""What is kept of a finished Operation's status: ten thousand of them must cost little."""


def _names(item: Object) -> ServerKey:
    meta = item["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(item: Object) -> int:
    text = item["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0


def slim(item: Object) -> Object:
    """Return a finished Operation with only what later decisions can ask for; any other object as it is."""
    if item.get("kind") != "Operation" or not _is_final(item):
        return item
    status = item["status"]
    item["status"] = {key: status[key] for key in SLIM_STATUS if key in status}
    listed = status.get("conditions")
    failed = (
        [c for c in listed if isinstance(c, dict) and c.get("type") == "Failed"] if isinstance(listed, list) else []
    )
    if failed:
        item["status"]["conditions"] = failed
    return item


class Store:
    """Servers, Profiles and Operations by namespace and name, and Operations by Server."""

    def __init__(self, enqueue: Callable[[ServerKey], None]) -> None:
        self._enqueue = enqueue
        self._lock = threading.RLock()
        self._items: dict[str, dict[ServerKey, Object]] = defaultdict(dict)
        self._of_server: dict[ServerKey, set[ServerKey]] = defaultdict(set)

    def put(self, kind: str, item: Object) -> bool:
        """Remember an object unless a newer one is known, and tell the queue; returns whether it was news."""
        item = slim(trimmed(item))
        names = _names(item)
        with self._lock:
            old = self._items[kind].get(names)
            same = old is not None and old["metadata"].get("uid") == item["metadata"].get("uid")
            if old is not None and same and _version(old) >= _version(item):
                return False
            self._items[kind][names] = item
            if kind == "Operation":
                self._index(names, old, item)
            concerned = set(self._concerned(kind, names, item))
            if kind == "Operation" and old is not None:  # the Server that it may have left has others waiting
                concerned.update(self._concerned(kind, names, old))
        for key in concerned:
            self._enqueue(key)
        return True

    def drop(self, kind: str, item: Object) -> None:
        """Forget a deleted object and tell the queue whom it concerned."""
        names = _names(item)
        with self._lock:
            old = self._items[kind].get(names)
            if old is None or old["metadata"].get("uid") != item["metadata"].get("uid"):
                return
            del self._items[kind][names]
            concerned = self._concerned(kind, names, old)
            if kind == "Operation":
                self._unindex(names, old)
        for key in concerned:
            self._enqueue(key)

    def _index(self, names: ServerKey, old: Object | None, item: Object) -> None:
        if old is not None and Operation.from_dict(old).key != Operation.from_dict(item).key:
            self._unindex(names, old)
        self._of_server[Operation.from_dict(item).key].add(names)

    def _unindex(self, names: ServerKey, old: Object) -> None:
        key = Operation.from_dict(old).key
        self._of_server[key].discard(names)
        if not self._of_server[key]:
            del self._of_server[key]

    def _concerned(self, kind: str, names: ServerKey, item: Object) -> Iterable[ServerKey]:
        if kind == "Server":
            return [names]
        if kind == "Operation":
            return [Operation.from_dict(item).key]
        return {operation.key for operation in self.unfinished() if operation.namespace == names[0]}

    def server(self, key: ServerKey) -> Server | None:
        """Return a Server, None when it is not there."""
        with self._lock:
            item = self._items["Server"].get(key)
        return Server.from_dict(item) if item else None

    def operations(self, key: ServerKey) -> list[Operation]:
        """Return the Operations on a Server, oldest first."""
        with self._lock:
            items = [self._items["Operation"][names] for names in self._of_server.get(key, ())]
        return sorted((Operation.from_dict(item) for item in items), key=lambda o: (o.created, o.name))

    def profiles(self, namespace: str) -> dict[str, Profile]:
        """Return the Profiles of a namespace by name."""
        with self._lock:
            items = [item for names, item in self._items["ProvisioningProfile"].items() if names[0] == namespace]
        return {item["metadata"]["name"]: Profile.from_dict(item) for item in items}

    def unfinished(self) -> list[Operation]:
        """Return all Operations that have not ended."""
        with self._lock:
            items = list(self._items["Operation"].values())
        return [Operation.from_dict(item) for item in items if not _is_final(item)]

    def named(self, names: Iterable[ServerKey]) -> list[Operation]:
        """Return the Operations of these namespaces and names, as far as they are there."""
        with self._lock:
            items = [item for item in map(self._items["Operation"].get, names) if item]
        return [Operation.from_dict(item) for item in items]

    def server_keys(self) -> set[ServerKey]:
        """Return the keys of all Servers that are known or named by an Operation."""
        with self._lock:
            return set(self._items["Server"]) | set(self._of_server)

    def count(self, kind: str) -> int:
        """Return how many objects of a kind are known."""
        return len(self._items[kind])


def _is_final(item: Object) -> bool:
    status = item.get("status")
    return isinstance(status, dict) and status.get("phase") in (Phase.SUCCEEDED, Phase.FAILED)


class Watches:
    """The watches that feed a store: three kinds, in all namespaces or in each of those served."""

    def __init__(self, kube: Kube, namespaces: Iterable[str], on_error: Callable[[str, Exception], None]) -> None:
        places: list[str | None] = list(namespaces) or [None]
        kinds = ("ProvisioningProfile", "Server", "Operation")
        self._watchers: list[Watcher] = [kube.watcher(kind, place) for kind in kinds for place in places]
        self._on_error = on_error

    def start(self, store: Store) -> None:
        """Begin to fill `store`; returns at once."""
        for watcher in self._watchers:
            watcher.on_error = partial(self._on_error, watcher.kind)
            watcher.start(partial(store.put, watcher.kind), partial(store.drop, watcher.kind))

    @property
    def synced(self) -> bool:
        """Whether every first list has been read."""
        return all(watcher.synced.is_set() for watcher in self._watchers)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for every first list; returns whether they came."""
        return all(watcher.synced.wait(seconds) for watcher in self._watchers)

    def stop(self) -> None:
        """End all watches."""
        for watcher in self._watchers:
            watcher.stop()
