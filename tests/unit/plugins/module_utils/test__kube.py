# SPDX-License-Identifier: Apache-2.0
"""The door to a cluster: what is asked, what is asked again, what failures say, and that no key stays on disk.

What a real API server says is in tests/integration/test_node_action.py.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plugins.module_utils.scripted_api import Clock, Reply, ScriptedApi

from ansible_collections.stargate.core.plugins.module_utils import _kube, _kube_files
from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    StargateError,
    Unavailable,
    Unreachable,
)
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, connected, path_of
from ansible_collections.stargate.core.plugins.module_utils._kube_follow import Followed

Start = Callable[..., tuple[Cluster, ScriptedApi]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts an API server with a script; its client waits by a clock of its own."""
    with ExitStack() as stack:

        def act(*replies: Reply, unreachable_after: float = 60.0) -> tuple[Cluster, ScriptedApi]:
            api = stack.enter_context(ScriptedApi(*replies).running())
            connection = connected(api.kubeconfig(tmp_path), "", {})
            return stack.enter_context(Cluster(connection, unreachable_after, Clock())), api

        yield act


def status(code: int, message: str = "no", **more: Any) -> Reply:
    """Return an answer that is a Status object."""
    return Reply(code, {"kind": "Status", "message": message, **more})


def test_requests(start: Start) -> None:
    """Requests carry the token, the right content type, the query and the body, null values included."""
    cluster, api = start(Reply(200, {"a": 1}))
    assert cluster.get("/x", "read x", limit=5) == {"a": 1}
    cluster.create("/x", "create x", {"b": None})
    cluster.patch("/x", "patch x", {"c": None})
    assert cluster.delete("/x", "delete x", uid="u1")
    assert [asked.method for asked in api.asked] == ["GET", "POST", "PATCH", "DELETE"]
    assert [asked.headers.get("content-type") for asked in api.asked[1:3]] == [
        "application/json",
        "application/merge-patch+json",
    ]
    assert api.asked[0].query == {"limit": "5"}
    assert [asked.body for asked in api.asked[1:3]] == [{"b": None}, {"c": None}]
    assert api.asked[3].body["preconditions"] == {"uid": "u1"}
    assert {asked.headers["authorization"] for asked in api.asked} == {"Bearer canary-token"}


def test_names_are_quoted() -> None:
    """A name never becomes another path."""
    assert path_of("/api/v1/nodes", "a/../b?c") == "/api/v1/nodes/a%2F..%2Fb%3Fc"


def test_lists_of_several_pages(start: Start) -> None:
    """A list goes on where its last page says, and has the version of its last page."""
    first = {"items": [{"n": 1}], "metadata": {"continue": "more", "resourceVersion": "5"}}
    cluster, api = start(Reply(200, first), Reply(200, {"items": [{"n": 2}], "metadata": {"resourceVersion": "6"}}))
    assert cluster.items("/x", "list x", fieldSelector="a=b") == ([{"n": 1}, {"n": 2}], "6")
    assert api.asked[1].query == {"limit": "500", "fieldSelector": "a=b", "continue": "more"}


@pytest.mark.parametrize(
    ("code", "kind", "failure"),
    [
        (400, Invalid, "Invalid"),
        (404, NotFound, "NotFound"),
        (409, Conflict, "Conflict"),
        (422, Invalid, "Invalid"),
        (302, Invalid, "Invalid"),
        (410, Unavailable, "Expired"),
    ],
)
def test_refusals(start: Start, code: int, kind: type[StargateError], failure: str) -> None:
    """A refusal is not asked again; it has the API server's words, and what to do about it where that is known."""
    cluster, api = start(status(code, "because so."))
    with pytest.raises(kind, match=r"^Failed to read x: .*because so\.") as raised:
        cluster.get("/x", "read x")
    assert (raised.value.code, len(api.asked)) == (failure, 1)
    assert "because so" in raised.value.details


@pytest.mark.parametrize(("code", "failure"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_denials(start: Start, code: int, failure: str) -> None:
    """A server that has just started denies what it allows, so a denial counts when it stands for some seconds."""
    cluster, api = start(status(code), status(code), Reply(200, {"a": 1}), status(code, "because so."))
    assert cluster.get("/x", "read x") == {"a": 1}
    with pytest.raises(Denied, match=r"because so\.") as raised:
        cluster.get("/x", "read x")
    assert (raised.value.code, raised.value.retryable, len(api.asked)) == (failure, False, 8)
    assert cluster.ask("GET", "/x", "read x", expected=(code,)).message == "because so"


def test_denials_after_an_outage(start: Start) -> None:
    """Who has just seen the server away gives it more time to know whom it allows what."""
    cluster, api = start(status(503), *[status(403)] * 7, Reply(200, {"a": 1}), status(403))
    assert cluster.get("/x", "read x") == {"a": 1}
    assert 15 < sum(cluster.clock.slept) < 30
    asked = len(api.asked)
    with pytest.raises(Denied):
        cluster.get("/x", "read x")
    assert len(api.asked) - asked == 5


def test_what_is_expected_is_no_failure(start: Start) -> None:
    """Absent is an answer where it may be one, and so is a conflict for who deletes."""
    cluster, api = start(status(404))
    assert cluster.find("/x", "read x") is None
    assert not cluster.delete("/x", "delete x")
    api.script[:] = [status(409)]
    assert not cluster.delete("/x", "delete x", uid="u")
    api.script[:] = [Reply(200, {"a": 1})]
    assert cluster.find("/x", "read x") == {"a": 1}


def test_asked_again(start: Start) -> None:
    """Failures of the server are asked again with growing pauses, as long as the server wants at least."""
    throttled = Reply(429, {"message": "slowly"}, {"Retry-After": "3"})
    cluster, api = start(status(503), throttled, Reply(200, b"", cut=True), status(500), Reply(200, {"a": 1}))
    assert cluster.get("/x", "read x") == {"a": 1}
    assert (len(api.asked), cluster.clock.slept) == (5, [0.2, 3.0, 0.8, 1.6])


def test_given_up(start: Start) -> None:
    """After the time that was given the last failure stands, with what is known of it."""
    cluster, api = start(status(503, "etcd is away"), unreachable_after=2)
    with pytest.raises(Unavailable, match="answers 503, etcd is away") as raised:
        cluster.get("/x", "read x")
    assert (raised.value.code, raised.value.retryable, len(api.asked)) == ("ServerError", True, 4)


def test_nobody_there(start: Start, tmp_path: Path) -> None:
    """A connection that is refused names the address and asks whether it is the right one."""
    with ScriptedApi(Reply()).running() as api:
        kubeconfig = api.kubeconfig(tmp_path)
    with (
        Cluster(connected(kubeconfig, "", {}), 0.0, Clock()) as cluster,
        pytest.raises(Unreachable, match=f"no answer from {api.url}: .*refused. Is the API server up"),
    ):
        cluster.get("/x", "read x")


def test_no_json(start: Start) -> None:
    """Something else than an API server is told by what it says."""
    cluster, _ = start(Reply(418, b"<html>teapot</html>"))
    with pytest.raises(Invalid, match=r"teapot.*Is it a Kubernetes API server"):
        cluster.get("/x", "read x")


def test_a_watch_that_is_refused(start: Start) -> None:
    """A watch is tried once; what it gets instead of events is raised."""
    cluster, api = start(status(403))
    with pytest.raises(Denied):
        list(cluster.watch("/x", "watch x", seconds=5))
    api.script[:] = [Reply(200, b"no json\n")]
    with pytest.raises(Unreachable):
        list(cluster.watch("/x", "watch x", seconds=5))


def event(kind: str, uid: str, version: str) -> bytes:
    """Return a line of a watch."""
    return f'{{"type":"{kind}","object":{{"metadata":{{"uid":"{uid}","resourceVersion":"{version}"}}}}}}\n'.encode()


def page(*uids: str, version: str = "10") -> Reply:
    """Return a list of objects."""
    items = [{"metadata": {"uid": uid, "resourceVersion": "1"}} for uid in uids]
    return Reply(200, {"items": items, "metadata": {"resourceVersion": version}})


def uids(found: list[dict[str, Any]]) -> list[str]:
    """Return who is there, in order of arrival."""
    return [item["metadata"]["uid"] for item in found]


def test_followed(start: Start) -> None:
    """Objects come, change and go; a watch goes on where the last event, or bookmark, was."""
    cluster, api = start(
        page("a"),
        Reply(200, event("ADDED", "b", "11")),
        Reply(200, event("BOOKMARK", "", "12") + event("MODIFIED", "a", "13")),
        Reply(200, event("DELETED", "b", "14")),
        Reply(200, b""),
    )
    followed = Followed(cluster, "/x", "metadata.name=a", "watch x")
    assert uids(followed.now()) == ["a"]
    assert [uids(followed.changed(30)) for _ in range(4)] == [["a", "b"], ["b", "a"], ["a"], ["a"]]
    watches = [asked.query for asked in api.asked[1:]]
    assert [query["resourceVersion"] for query in watches] == ["10", "11", "13", "14"]
    assert {(query["fieldSelector"], query["timeoutSeconds"]) for query in watches} == {("metadata.name=a", "30")}
    assert cluster.clock.slept == []


@pytest.mark.parametrize(
    "broken",
    [
        Reply(200, b'{"type":"ERROR","object":{"code":410}}\n'),
        Reply(410, {"message": "too old resource version"}),
        Reply(200, b"", cut=True),
        Reply(503, {"message": "later"}),
    ],
)
def test_followed_through_a_fault(start: Start, broken: Reply) -> None:
    """After a watch that expired or was cut everything is listed again, at a growing distance."""
    cluster, api = start(page("a"), broken, page("b"), broken, page("c"), Reply(200, event("ADDED", "d", "11")))
    followed = Followed(cluster, "/x", "metadata.name=a", "watch x")
    assert [uids(followed.changed(90)) for _ in range(3)] == [["b"], ["c"], ["c", "d"]]
    assert cluster.clock.slept == [0.2, 0.4]
    assert api.asked[1].query["timeoutSeconds"] == "60"


def test_a_watch_that_is_forbidden_is_not_repeated(start: Start) -> None:
    """A missing right is said when it is missing a second time."""
    cluster, api = start(page("a"), status(403), page("a"), status(403))
    followed = Followed(cluster, "/x", "metadata.name=a", "watch x")
    assert uids(followed.changed(5)) == ["a"]
    with pytest.raises(Denied, match=r"deploy/rbac\.yaml"):
        followed.changed(5)
    assert len(api.asked) == 4


def test_which_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option comes before KUBECONFIG, that before the pod's own account, that before the file in the home."""
    api = ScriptedApi(Reply())
    with api.running():
        path = api.kubeconfig(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with connected_to(path, {"KUBECONFIG": "/nowhere"}) as found:
        assert found.address == api.url
    with connected_to("", {"KUBECONFIG": f"/nowhere:{path}", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}) as found:
        assert found.address == api.url
    with pytest.raises(Invalid, match="Service host/port"):
        connected_to("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    (tmp_path / "home/.kube").mkdir(parents=True)
    Path(path).rename(tmp_path / "home/.kube/config")
    with connected_to("", {}) as found:
        assert (found.address, found.ca) == (api.url, "")


def connected_to(kubeconfig: str, environ: dict[str, str], context: str = "") -> Cluster:
    """Return the cluster of the options."""
    return Cluster.of({"kubeconfig": kubeconfig, "context": context, "unreachable_after": 1.0}, environ)


@pytest.mark.parametrize("content", [None, "", "a: [", "text"])
def test_unusable_kubeconfigs(tmp_path: Path, content: str | None) -> None:
    """A kubeconfig that is missing, empty or garbage is named with the remedy, and nothing of it is left."""
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(Invalid, match=f"^Failed to load the kubeconfig {path}: .* Set kubeconfig") as raised:
        connected_to(str(path), {})
    assert raised.value.code == "KubeconfigInvalid"


def test_an_unknown_context(tmp_path: Path) -> None:
    """A context that the kubeconfig does not have is named."""
    with pytest.raises(Invalid, match="other"):
        connected_to(ScriptedApi(Reply()).kubeconfig(tmp_path), {}, "other")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Python package kubernetes, the line that installs it is shown."""
    monkeypatch.setattr(_kube, "config", None)
    with pytest.raises(Invalid, match="-m pip install kubernetes") as raised:
        connected_to("", {})
    assert raised.value.code == "PackageMissing"


def inline(directory: Path) -> str:
    """Write a kubeconfig that has CA, certificate and key in itself; returns its path."""
    api = ScriptedApi(Reply())
    data = {name: base64.b64encode(f"canary {name}".encode()).decode() for name in ("certificate", "key")}
    path = api.kubeconfig(directory, **{"client-certificate-data": data["certificate"], "client-key-data": data["key"]})
    ca = base64.b64encode(b"canary ca").decode()
    text = (
        Path(path).read_text().replace(f"server: {api.url}", f"server: https://x\n    certificate-authority-data: {ca}")
    )
    Path(path).write_text(text)
    return path


def test_keys_are_never_in_a_file_that_can_outlive_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kubeconfig has inline is in memory, readable by path as long as the connection is open."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(_kube_files, "TMPFS", tmp_path / "tmp")
    for _ in range(2):  # the client remembers its files; the second connection must not be given the first one's
        connection = connected(inline(tmp_path), "", {})
        settings = connection.client.configuration
        assert list((tmp_path / "tmp").iterdir()) == []
        assert connection.ca == "canary ca"
        assert Path(settings.key_file).read_text() == "canary key"
        assert Path(settings.cert_file).read_text() == "canary certificate"
        before = len(list(Path("/proc/self/fd").iterdir()))
        connection.close()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before - 3


def test_keys_without_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no files in memory they are in a private directory, removed at the end."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(_kube_files, "TMPFS", tmp_path / "tmp")
    monkeypatch.delattr(os, "memfd_create")
    connection = connected(inline(tmp_path), "", {})
    (directory,) = (tmp_path / "tmp").iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert Path(connection.client.configuration.key_file).read_text() == "canary key"
    connection.close()
    assert list((tmp_path / "tmp").iterdir()) == []
