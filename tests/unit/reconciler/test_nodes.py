# SPDX-License-Identifier: Apache-2.0
"""What is kept of Nodes, and when it is told that one has changed.

The watch itself is in tests/integration/test_health.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from kubernetes import client
from tests.unit.reconciler.fakes import raw_node, stamp

from stargate_reconciler.kube import Kube
from stargate_reconciler.model import Object
from stargate_reconciler.nodes import News, Nodes, NodeWatcher, slimmed


def whole(**changes: object) -> Object:
    """Return a Node as an API server gives it, with what weighs most."""
    node = raw_node(annotations={"stargate.io/server": "dc-west/s1", "other": "x"}, labels={"a": "b"})
    images = [{"names": ["registry.example/image"] * 5, "sizeBytes": 1}] * 50
    beat = {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": stamp()}
    node["status"] = {
        **node["status"],
        "images": images,
        "conditions": [*node["status"]["conditions"], beat],
        **changes,
    }
    return node


def test_little_is_kept() -> None:
    """Of a Node its name, uid, our annotations, its Ready condition and its addresses are kept."""
    kept = slimmed(whole(addresses=[{"address": "10.0.0.1"}]))
    assert kept["metadata"] == {"name": "s1", "uid": "n-s1", "annotations": {"stargate.io/server": "dc-west/s1"}}
    assert set(kept["status"]) == {"conditions", "addresses"}
    assert [c["type"] for c in kept["status"]["conditions"]] == ["Ready"]
    assert slimmed(slimmed(whole())) == slimmed(whole())


def test_a_sign_of_life_is_no_change() -> None:
    """A heartbeat is not told of; another Ready, and the end, are."""
    told: list[str] = []
    nodes = Nodes(told.append)
    nodes.put(whole())
    nodes.put(whole(images=[]))
    assert told == ["s1"]
    nodes.put(whole(conditions=[{"type": "Ready", "status": "Unknown"}]))
    nodes.drop(whole())
    assert (told, nodes.view("s1")) == (["s1"] * 3, None)
    assert nodes.gone("s1") is not None
    nodes.put(whole())
    assert nodes.gone("s1") is None


class Answer:
    """The answer to a watch, in pieces that end anywhere."""

    status = 200

    def __init__(self, *events: Object) -> None:
        self.text = b"".join(json.dumps(event).encode() + b"\n" for event in events)

    def stream(self, **_: object) -> Iterator[bytes]:
        """Yield the pieces."""
        yield from (self.text[at : at + 700] for at in range(0, len(self.text), 700))


def test_signs_of_life_never_reach_the_client() -> None:
    """Of a watch's events those of Nodes that are what they were are left out, whatever else comes is kept."""
    watcher = NodeWatcher(Kube(client.ApiClient()))
    unwell = whole(conditions=[{"type": "Ready", "status": "Unknown"}])
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Node", "metadata": {"resourceVersion": "9"}}}
    events = [("ADDED", whole()), ("MODIFIED", whole(images=[])), ("MODIFIED", unwell), ("DELETED", unwell)]
    answer = Answer(*({"type": kind, "object": node} for kind, node in events), bookmark)
    told = [json.loads(line) for line in News(answer, watcher.kept).stream()]
    assert [event["type"] for event in told] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    assert told[0]["object"] == slimmed(whole())
    assert News(answer, watcher.kept).status == 200


def test_nothing_is_known_before_the_first_list() -> None:
    """Nodes that nobody has listed are not taken for gone."""
    assert not Nodes(lambda _: None).synced
