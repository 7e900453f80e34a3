# SPDX-License-Identifier: Apache-2.0
"""The store: never older than what it has seen, and whoever is concerned is told.

The watches that feed it meet a real API server in the integration tests; here they only have to be wired.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.reconciler.fakes import KEY, NAMESPACE, began, ended, raw_operation, raw_profile, raw_server

from stargate_reconciler.model import Object, ServerKey
from stargate_reconciler.watch import SLIM_STATUS, Store, Watches, slim

S2: ServerKey = (NAMESPACE, "s2")


class Told(list[ServerKey]):
    """The keys that a store has put on its queue."""

    def take(self) -> set[ServerKey]:
        """Return and forget them."""
        taken = set(self)
        self.clear()
        return taken


@pytest.fixture
def told() -> Told:
    """Return what the store tells."""
    return Told()


@pytest.fixture
def store(told: Told) -> Store:
    """Return an empty store."""
    return Store(told.append)


def at(item: Object, version: object, uid: str | None = None) -> Object:
    """Return the object with this resourceVersion, and another uid when one is given."""
    meta = {**item["metadata"], "resourceVersion": str(version)}
    return {**item, "metadata": {**meta, "uid": uid or meta["uid"]}}


@pytest.mark.parametrize(
    ("first", "second", "news", "kept"),
    [
        (at(raw_server(), 5), at(raw_server(), 6), True, "6"),
        (at(raw_server(), 5), at(raw_server(), 5), False, "5"),
        (at(raw_server(), 5), at(raw_server(), 4), False, "5"),
        (at(raw_server(), 9), at(raw_server(), 10), True, "10"),
        (at(raw_server(), 5), at(raw_server(), 6, "u-again"), True, "6"),
    ],
)
def test_newer_wins(store: Store, told: Told, first: Object, second: Object, news: bool, kept: str) -> None:
    """An object never gets older, whichever of a write's answer and the watch comes first; what is no news is quiet."""
    store.put("Server", first)
    told.take()
    assert store.put("Server", second) is news
    assert told.take() == ({KEY} if news else set())
    found = store.server(KEY)
    assert found is not None
    assert found.resource_version == kept


def test_drop_forgets_only_the_same_object(store: Store, told: Told) -> None:
    """The deletion of an object that was made anew since takes nothing away."""
    store.put("Operation", at(raw_operation(), 6, "u-new"))
    store.drop("Operation", at(raw_operation(), 5, "u-old"))
    assert len(store.operations(KEY)) == 1
    told.take()
    store.drop("Operation", at(raw_operation(), 7, "u-new"))
    assert (store.operations(KEY), store.server_keys(), told.take()) == ([], set(), {KEY})
    store.drop("Operation", raw_operation())
    store.drop("Server", raw_server())
    assert told.take() == set()


@pytest.mark.parametrize(
    ("item", "concerned"),
    [
        (raw_server(), {KEY}),
        (raw_operation(), {KEY}),
        (raw_operation(status=began(acceptedSpec={"server": "s2"})), {S2}),
        (raw_profile(), {KEY}),
    ],
)
def test_whom_an_object_concerns(store: Store, told: Told, item: Object, concerned: set[ServerKey]) -> None:
    """A Server concerns itself, an Operation its Server, a Profile the Servers with unfinished Operations."""
    store.put("Operation", raw_operation("waits"))
    store.put("Operation", raw_operation("done", status=ended(acceptedSpec={"server": "s2"})))
    told.take()
    store.put(item["kind"], item)
    assert told.take() == concerned
    told.take()
    store.drop(item["kind"], item)
    assert told.take() == concerned


def test_profile_of_another_namespace_concerns_nobody_here(store: Store, told: Told) -> None:
    """Namespaces do not hear of each other."""
    store.put("Operation", raw_operation())
    told.take()
    other = raw_profile()
    other["metadata"]["namespace"] = "dc-east"
    store.put("ProvisioningProfile", other)
    assert told.take() == set()
    assert store.profiles("dc-east").keys() == {"p1"}
    assert store.profiles(NAMESPACE) == {}


def test_moved_operation_tells_both_servers(store: Store, told: Told) -> None:
    """When an Operation goes to another Server, those that waited for it at the first one are looked at."""
    store.put("Operation", at(raw_operation(), 1))
    store.put("Operation", at(raw_operation("waits"), 2))
    told.take()
    store.put("Operation", at(raw_operation(serverRef={"name": "s2"}), 3))
    assert told.take() == {KEY, S2}
    assert [o.name for o in store.operations(KEY)] == ["waits"]
    assert [o.name for o in store.operations(S2)] == ["o1"]


def test_operations_come_oldest_first(store: Store) -> None:
    """Operations of a Server are in the order of their creation, then of their names."""
    for name, age in (("b", 5), ("a", 5), ("c", 9)):
        store.put("Operation", raw_operation(name, age=age))
    assert [o.name for o in store.operations(KEY)] == ["c", "a", "b"]
    assert store.operations(S2) == []


def test_what_the_daemon_counts(store: Store) -> None:
    """Unfinished Operations, all Servers that are known or named, and objects by kind."""
    store.put("Operation", raw_operation())
    store.put("Operation", raw_operation("done", serverRef={"name": "s2"}, status=ended()))
    store.put("Server", raw_server("s3"))
    assert [o.name for o in store.unfinished()] == ["o1"]
    assert store.server_keys() == {KEY, (NAMESPACE, "s1"), (NAMESPACE, "s3")}
    assert [store.count(kind) for kind in ("Operation", "Server", "ProvisioningProfile")] == [2, 1, 0]
    assert [o.name for o in store.named([(NAMESPACE, "done"), (NAMESPACE, "gone")])] == ["done"]
    assert store.server((NAMESPACE, "gone")) is None


def test_finished_operations_are_slim(store: Store) -> None:
    """Of a finished Operation only what later decisions ask for is kept; others are kept whole."""
    failed = {"type": "Failed", "status": "True", "reason": "TaskFailed"}
    status = ended("Failed", conditions=[failed, {"type": "Complete"}], stage="join", runID="r1", message="m")
    store.put("Operation", raw_operation(status=status))
    (found,) = store.operations(KEY)
    assert set(found.status) <= {*SLIM_STATUS, "conditions"}
    assert (found.condition("Failed"), found.condition("Complete"), found.status["message"]) == (failed, {}, "m")
    running = raw_operation(status=began(stage="join"))
    assert slim(running)["status"]["stage"] == "join"
    assert slim(raw_server(status={"phase": "Failed", "message": "m"}))["status"]["message"] == "m"


def test_bookkeeping_is_not_kept(store: Store) -> None:
    """Managed fields and kubectl's copy weigh most and are read by nobody here."""
    item = raw_server()
    item["metadata"] |= {
        "managedFields": [{}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "stargate.io/datacenter": "dc-east"},
    }
    store.put("Server", item)
    found = store.server(KEY)
    assert found is not None
    assert found.raw["metadata"]["annotations"] == {"stargate.io/datacenter": "dc-east"}
    assert "managedFields" not in found.raw["metadata"]


def test_odd_versions_are_taken(store: Store) -> None:
    """A resourceVersion that is no number counts as the oldest there is."""
    assert store.put("Server", at(raw_server(), "opaque"))
    assert store.put("Server", at(raw_server(), 1))


class FakeWatcher:
    """A watcher that the test feeds."""

    def __init__(self, kind: str, namespace: str | None) -> None:
        self.kind, self.namespace = kind, namespace
        self.synced = threading.Event()
        self.on_error: Callable[[Exception], None] = lambda error: None
        self.stopped = False

    def start(self, changed: Callable[[Object], None], deleted: Callable[[Object], None]) -> None:
        """Keep the handlers."""
        self.changed, self.deleted = changed, deleted

    def stop(self) -> None:
        """Note the stop."""
        self.stopped = True


@pytest.mark.parametrize(("namespaces", "places"), [([], [None]), (["a", "b"], ["a", "b"])])
def test_watches_feed_the_store(store: Store, namespaces: list[str], places: list[str | None]) -> None:
    """Each kind is watched in each namespace served, or in all; what comes arrives with its kind."""
    made: list[FakeWatcher] = []
    errors: list[tuple[str, Exception]] = []
    kube: Any = type("K", (), {"watcher": lambda _, kind, place: made.append(FakeWatcher(kind, place)) or made[-1]})()
    watches = Watches(kube, namespaces, lambda kind, error: errors.append((kind, error)))
    watches.start(store)
    assert [(w.kind, w.namespace) for w in made][-len(places) :] == [("Operation", place) for place in places]
    last, error = made[-1], OSError("lost")
    last.changed(raw_operation())
    assert len(store.operations(KEY)) == 1
    last.deleted(raw_operation())
    assert store.operations(KEY) == []
    last.on_error(error)
    made[0].on_error(error)
    assert errors == [("Operation", error), ("ProvisioningProfile", error)]
    assert not watches.synced
    assert not watches.wait(0)
    for watcher in made:
        watcher.synced.set()
    watches.stop()
    assert (watches.synced, watches.wait(0), all(w.stopped for w in made)) == (True, True, True)
