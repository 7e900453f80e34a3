# SPDX-License-Identifier: Apache-2.0
"""What is kept of Nodes, and when it is told that one has changed.

The watch itself is in tests/integration/test_health.py.
"""

from __future__ import annotations

from tests.unit.reconciler.fakes import raw_node, stamp

from stargate_reconciler.model import Object
from stargate_reconciler.nodes import Nodes, slimmed


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


def test_nothing_is_known_before_the_first_list() -> None:
    """Nodes that nobody has listed are not taken for gone."""
    assert not Nodes(lambda _: None).synced
