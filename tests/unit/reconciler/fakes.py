# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the daemon's outside: API objects in one line, a cluster in a dictionary, runs that wait to be told.

They keep what they were asked for, so that a test can look at it. No test stands here.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stargate_reconciler.errors import Conflict, Gone, WorldError
from stargate_reconciler.model import (
    Credentials,
    Job,
    Object,
    Operation,
    Profile,
    Result,
    Server,
    formatted_time,
)
from stargate_reconciler.runner import Order

NAMESPACE = "dc-west"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEY = (NAMESPACE, "s1")


def stamp(seconds: float = 0.0) -> str:
    """Return NOW plus some seconds, as the API writes it."""
    return formatted_time(NOW + timedelta(seconds=seconds))


def _meta(name: str, uid: str, created: float) -> Object:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": uid,
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": stamp(created),
    }


def raw_operation(
    name: str = "o1", act: str = "repave", *, age: float = 0.0, status: Object | None = None, **spec: Any
) -> Object:
    """Return an Operation `age` seconds old on Server s1, its uid "u-<name>"; None in `spec` takes a field away."""
    full = {"serverRef": {"name": "s1"}, "operation": act, "provisioningProfileRef": {"name": "p1"}, **spec}
    return {
        "apiVersion": "stargate.io/v1alpha1",
        "kind": "Operation",
        "metadata": _meta(name, f"u-{name}", -age),
        "spec": {key: value for key, value in full.items() if value is not None},
        "status": status or {},
    }


def operation(name: str = "o1", act: str = "repave", *, age: float = 0.0, **parts: Any) -> Operation:
    """Return `raw_operation` as the daemon sees it."""
    return Operation.from_dict(raw_operation(name, act, age=age, **parts))


def began(seconds_ago: float = 0.0, **status: Any) -> Object:
    """Return the status of an Operation whose first attempt began some seconds ago."""
    accepted = {"server": "s1", "profile": "p1", "operation": "repave"}
    return {
        "phase": "Running",
        "attempts": 1,
        "startTime": stamp(-seconds_ago),
        "acceptedSpec": accepted,
        "observedGeneration": 1,
        **status,
    }


def ended(phase: str = "Succeeded", seconds_ago: float = 0.0, **status: Any) -> Object:
    """Return the status of an Operation that ended some seconds ago."""
    return began(seconds_ago + 60, **{"phase": phase, "completionTime": stamp(-seconds_ago), **status})


def raw_server(name: str = "s1", *, status: Object | None = None, **spec: Any) -> Object:
    """Return a Server of provider ssh."""
    return {
        "apiVersion": "stargate.io/v1alpha1",
        "kind": "Server",
        "metadata": _meta(name, f"u-{name}", 0),
        "spec": {k: v for k, v in {"ipv4": "127.0.0.1", "provider": "ssh", **spec}.items() if v is not None},
        "status": status or {},
    }


def server(name: str = "s1", *, status: Object | None = None, **spec: Any) -> Server:
    """Return `raw_server` as the daemon sees it."""
    return Server.from_dict(raw_server(name, status=status, **spec))


def raw_profile(name: str = "p1", **spec: Any) -> Object:
    """Return a ProvisioningProfile."""
    return {
        "apiVersion": "stargate.io/v1alpha1",
        "kind": "ProvisioningProfile",
        "metadata": _meta(name, f"u-{name}", 0),
        "spec": {"kubernetesVersion": "1.34.2", **spec},
    }


def profile(name: str = "p1", **spec: Any) -> Profile:
    """Return `raw_profile` as the daemon sees it."""
    return Profile.from_dict(raw_profile(name, **spec))


def cordoned(node: Object, uid: str = "u-o1") -> Object:
    """Return a Node that the Operation with this uid has cordoned."""
    note = {"annotations": {"stargate.io/cordoned-by": uid}}
    return {**node, "metadata": {**node["metadata"], **note}, "spec": {**node["spec"], "unschedulable": True}}


def raw_node(name: str = "s1", *, uid: str = "", ready: str = "True", version: str = "v1.34.2", **meta: Any) -> Object:
    """Return a Node; its uid is "n-<name>" unless another is given."""
    condition = {"type": "Ready", "status": ready, "message": "container runtime network not ready"}
    return {
        "metadata": {"name": name, "uid": uid or f"n-{name}", **meta},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"conditions": [condition], "nodeInfo": {"kubeletVersion": version, "bootID": "b1"}},
    }


def job(name: str = "o1", server_name: str = "s1", *, key: str = "", user: str = "", **spec: Any) -> Job:
    """Return a job of Operation `name` on a Server, with credentials when a key is given."""
    target = operation(name, serverRef={"name": server_name})
    credentials = Credentials(key, user) if key else None
    secret = {"sshCredentialsSecretRef": "ssh"} if key else {}
    return Job(target, server(server_name, **spec), profile(**secret), "/playbooks/repave.yml", credentials)


class Clock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


class FakeKube:
    """A cluster in a dictionary: versions, merge patches, Conflict and Gone as an API server has them."""

    def __init__(self, *items: Object) -> None:
        self.items: dict[tuple[str, str], Object] = {}
        self.secrets: dict[str, Credentials] = {}
        self.writes: list[tuple[str, str, Object]] = []
        self.events: list[str] = []
        self.deleted: list[tuple[str, str, str]] = []
        self.on_write: Callable[[str, Object], None] = lambda kind, item: None
        self.refuse: Callable[[str, str], Exception | None] = lambda kind, name: None
        self.lose_answer = False
        self.nodes: dict[str, Object | None] = {}
        self._met: set[str] = set()
        self.uncordoned: list[tuple[str, str, str]] = []
        self.revoked: list[str] = []
        self._version = 1
        for item in items:
            self.apply(item)

    def apply(self, item: Object) -> Object:
        """Store an object with a new resourceVersion; returns a copy."""
        self._version += 1
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.items[item["kind"], item["metadata"]["name"]] = stored
        return copy.deepcopy(stored)

    def status(self, kind: str, name: str) -> Object:
        """Return an object's status."""
        return dict(self.items[kind, name].get("status") or {})

    def patch_status(
        self, kind: str, namespace: str, name: str, patch: Object, *, version: str | None = None
    ) -> Object:
        """Merge a patch into a status, as `Kube.patch_status` does."""
        error = self.refuse(kind, name)
        if error is not None:
            raise error
        item = self.items.get((kind, name))
        if item is None:
            raise Gone(f"{kind} {name}")
        if version is not None and version != item["metadata"]["resourceVersion"]:
            raise Conflict(f"{kind} {namespace}/{name}")
        merged = {**(item.get("status") or {}), **patch}
        written = self.apply({**item, "status": {k: v for k, v in merged.items() if v is not None}})
        self.writes.append((kind, name, patch))
        self.on_write(kind, written)
        if self.lose_answer:
            raise WorldError("the answer was lost")
        return written

    def operation(self, namespace: str, name: str) -> Object | None:
        """Return an Operation as it stands, whatever the watches have told."""
        item = self.items.get(("Operation", name))
        return copy.deepcopy(item) if item and item["metadata"]["namespace"] == namespace else None

    def revoke_token(self, node: str) -> None:
        """Note that a Node's token is revoked."""
        self.revoked.append(node)

    def delete_operation(self, namespace: str, name: str, uid: str) -> None:
        """Note a deletion."""
        error = self.refuse("Delete", name)
        if error is not None:
            raise error
        self.deleted.append((namespace, name, uid))

    def node(self, name: str) -> Object | None:
        """Return the Node that a test has put there; else none at first, then one that is as `raw_profile` asks."""
        error = self.refuse("Node", name)
        if error is not None:
            raise error
        found = self.nodes.get(name, raw_node(name) if name in self._met else None)
        self._met.add(name)
        return found

    def uncordon(self, name: str, annotation: str, value: str) -> None:
        """Note that a Node was made schedulable, as `Kube.uncordon` does it."""
        error = self.refuse("Uncordon", name)
        if error is not None:
            raise error
        self.uncordoned.append((name, annotation, value))

    def credentials(self, namespace: str, name: str) -> Credentials | None:
        """Return what a Secret was said to have."""
        error = self.refuse("Secret", f"{namespace}/{name}")
        if error is not None:
            raise error
        return self.secrets.get(name)

    def create_event(self, namespace: str, body: Object) -> None:
        """Note an Event by its reason."""
        self.events.append(body["reason"] if namespace == body["metadata"]["namespace"] else "in the wrong namespace")


@dataclass
class FakeRun:
    """A run that has no process: the test says what happens."""

    order: Order
    listener: Any
    made: list[FakeRun] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    began: bool = False
    stops: int = 0

    @property
    def id(self) -> str:
        """The run's id."""
        return self.order.run_id

    @property
    def uids(self) -> frozenset[str]:
        """The uids of its Operations."""
        return frozenset(job.operation.uid for job in self.order.jobs)

    def start(self) -> None:
        """Note the start."""
        self.began = True

    def stop(self) -> None:
        """Note the stop."""
        self.stops += 1

    def wait(self, seconds: float) -> bool:
        """Say that it has ended."""
        return seconds > 0

    def end(self, result: Result) -> None:
        """Give every host this result and end."""
        for item in self.order.jobs:
            self.listener.resulted(item, result)
        self.listener.run_ended(self)


class Heard:
    """A runner's listener that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str, Mapping[str, str]]] = []
        self.results: dict[str, Result] = {}
        self.count = 0
        self.ended: list[object] = []

    def staged(self, item: Job, stage: str, facts: Mapping[str, str]) -> None:
        """Remember a step."""
        self.stages.append((item.server.name, stage, facts))

    def resulted(self, item: Job, result: Result) -> None:
        """Remember a result."""
        self.count += 1
        self.results[item.server.name] = result

    def run_ended(self, run: object) -> None:
        """Remember the end."""
        self.ended.append(run)


def playbook(directory: Path, tasks: Sequence[Object], name: str = "repave") -> str:
    """Write a playbook for all hosts that needs no connection; returns its path."""
    play = [{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": list(tasks)}]
    path = directory / f"{name}.yml"
    path.write_text(json.dumps(play), encoding="utf-8")
    return str(path)
