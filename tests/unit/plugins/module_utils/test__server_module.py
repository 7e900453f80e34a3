# SPDX-License-Identifier: Apache-2.0
"""Tasks about Servers, with a cluster that is a dictionary of paths; twelve acts and what is refused.

What is done to an object is decided in _server_object.py; a real API server is in tests/integration.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _server_module as module
from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Conflict,
    NotFound,
    StargateError,
    Unreachable,
)

GROUP, NAMESPACES = module.GROUP, module.NAMESPACES
SERVERS = f"{GROUP}/namespaces/dc/servers"
SPEC = {"ipv4": "192.168.100.11", "provider": "nspawn"}


class FakeCluster:
    """A cluster's objects by path, and what was sent."""

    address = "https://127.0.0.1:6443"

    def __init__(self, *known: str, broken: StargateError | None = None) -> None:
        self.objects: dict[str, Any] = {path: {} for path in known}
        self.sent: list[tuple[str, str]] = []
        self.broken = broken

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def find(self, path: str, _doing: str) -> Any:
        if self.broken:
            raise self.broken
        return self.objects.get(path)

    def items(self, path: str, _doing: str) -> tuple[list[Any], str]:
        if GROUP not in self.objects:
            raise NotFound("no such kind")
        return [found for known, found in self.objects.items() if known.startswith(f"{path}/")], "1"

    def create(self, path: str, _doing: str, body: Any) -> Any:
        where = f"{path}/{body['metadata']['name']}"
        self.sent.append(("create", where))
        if where == f"{NAMESPACES}/dc" and "raced" in self.objects:
            raise Conflict("somebody was faster")
        self.objects[where] = body
        return body

    def patch(self, path: str, _doing: str, body: Any) -> Any:
        self.sent.append(("patch", path))
        self.objects[path]["spec"] |= body["spec"]
        return self.objects[path]

    def delete(self, path: str, _doing: str, _uid: str = "") -> bool:
        self.sent.append(("delete", path))
        return self.objects.pop(path, None) is not None


def run(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, check_mode: bool = False, **given: Any
) -> dict[str, Any]:
    """Return the result of a task."""
    monkeypatch.setattr(module.Cluster, "of", lambda params, environ: cluster)
    params = {"name": "w", "namespace": "dc", "spec": SPEC, "site": "r", "state": "present", **given}
    return module.perform(params, {}, check_mode=check_mode)


def test_create_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace comes first, check mode sends nothing, and the second time nothing is left to do."""
    cluster = FakeCluster(GROUP)
    foretold = run(cluster, monkeypatch, check_mode=True)
    assert (foretold["changed"], cluster.sent) == (True, [])
    made = run(cluster, monkeypatch)
    assert cluster.sent == [("create", f"{NAMESPACES}/dc"), ("create", f"{SERVERS}/w")]
    assert (made["changed"], made["server"]["site"], made["diff"]["before"]) == (True, "r", {})
    assert foretold["diff"] == made["diff"]
    again = run(cluster, monkeypatch)
    assert (again["changed"], len(cluster.sent)) == (False, 2)


def test_change_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong fact is patched alone, and check mode says so before."""
    cluster = FakeCluster(GROUP, f"{NAMESPACES}/dc")
    run(cluster, monkeypatch)
    cluster.objects[f"{SERVERS}/w"]["spec"] = {**SPEC, "ipv4": "10.9.9.9", "inventory": {"sku": "x"}}
    cluster.sent.clear()
    assert run(cluster, monkeypatch, check_mode=True)["changed"]
    assert cluster.sent == []
    changed = run(cluster, monkeypatch)
    assert (changed["server"]["spec"]["ipv4"], changed["server"]["spec"]["inventory"]) == (SPEC["ipv4"], {"sku": "x"})
    assert cluster.sent == [("patch", f"{SERVERS}/w")]
    assert not run(cluster, monkeypatch)["changed"]


def test_delete_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a namespace's Servers only the site's own go; with a name, only that one."""
    cluster = FakeCluster(GROUP, f"{NAMESPACES}/dc")
    for name, site in (("w", "r"), ("v", "r"), ("x", "other"), ("y", "")):
        run(cluster, monkeypatch, name=name, site=site)
    one = {"state": "absent", "name": "x"}
    kept = run(cluster, monkeypatch, **one)
    assert (kept["changed"], [server["name"] for server in kept["kept"]]) == (False, ["x"])
    every = {"state": "absent", "name": None}
    foretold = run(cluster, monkeypatch, check_mode=True, **every)
    assert foretold["diff"]["before"] == {"servers": ["w", "v"]}
    assert len(run(cluster, monkeypatch, state="read", name=None, site="")["servers"]) == 4
    assert run(cluster, monkeypatch, **every)["changed"]
    assert [server["name"] for server in run(cluster, monkeypatch, state="read", name=None, site="")["servers"]] == [
        "x",
        "y",
    ]
    assert not run(cluster, monkeypatch, **every)["changed"]
    assert not run(cluster, monkeypatch, state="absent", name="gone")["changed"]


def test_a_namespace_that_somebody_else_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Being second at making the namespace is no failure."""
    cluster = FakeCluster(GROUP, "raced")
    assert run(cluster, monkeypatch)["changed"]


def test_a_cluster_without_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the CRDs are there, nothing can be declared, and nothing is left to be taken away."""
    refused = run(FakeCluster(), monkeypatch)
    assert (refused["failed"], refused["failure"]["code"]) == (True, "CrdsMissing")
    assert "make install-crds" in refused["msg"]
    assert not run(FakeCluster(), monkeypatch, state="absent", name=None)["changed"]


@pytest.mark.parametrize("wrong", [{"name": "W_1"}, {"spec": {"routerIP": "-oProxyCommand=x"}}, {"namespace": "a.b"}])
def test_values_that_must_not_reach_ssh(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    """A value that could mean more than itself is refused before the cluster is asked."""
    refused = run(FakeCluster(broken=Unreachable("asked")), monkeypatch, **wrong)
    assert refused["failure"]["code"] == "Invalid"


def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster's own failure is the task's."""
    refused = run(FakeCluster(broken=Unreachable("no answer")), monkeypatch)
    assert (refused["msg"], refused["failure"]["retryable"]) == ("no answer", True)
