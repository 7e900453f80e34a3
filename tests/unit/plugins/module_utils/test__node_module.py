# SPDX-License-Identifier: Apache-2.0
"""From options to a result: every state of node, in check mode first, on a cluster in memory.

The same in real plays is in tests/integration/test_node_action.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plugins.module_utils.fake_nodes import FakeNodes
from tests.unit.plugins.module_utils.test__node import CORDONED, NOT_READY, node
from tests.unit.plugins.module_utils.test__pods import pod

from ansible_collections.stargate.core.plugins.module_utils import _node_module
from ansible_collections.stargate.core.plugins.module_utils._errors import Unreachable
from ansible_collections.stargate.core.plugins.module_utils._node import CORDONED_BY, SERVER
from ansible_collections.stargate.core.plugins.module_utils._node_module import NODE_SPEC, perform

Object = dict[str, Any]
OURS = {CORDONED_BY: "op"}


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what does a task in a cluster in memory."""

    def run(world: FakeNodes, state: str, *, check_mode: bool = False, **options: Any) -> Object:
        monkeypatch.setattr(_node_module.Cluster, "of", lambda _params, _environ: world)
        spec = NODE_SPEC["argument_spec"]
        params = {name: option.get("default") for name, option in spec.items()}
        given = {"name": "w1", "state": state, "operation_uid": "op", **options}
        return perform({**params, **given}, {}, lambda _line: None, check_mode=check_mode)

    return run


def test_drained(act: Any) -> None:
    """A check shows what a drain does; the drain does it, with the eviction that the server has."""
    world = FakeNodes(node(), pod("a"))
    foreseen = act(world, "drained", check_mode=True)
    assert (foreseen["changed"], foreseen["evicted"], world.patches) == (True, ["ns/a"], [])
    assert foreseen["diff"]["before"]["pods"] == ["ns/a"]
    done = act(world, "drained", kubernetes_version="1.20")
    assert (done["changed"], done["evicted"], done["node"]["cordoned_by_us"]) == (True, ["ns/a"], True)
    assert world.asked[0][2]["apiVersion"] == "policy/v1beta1"
    again = act(world, "drained")
    assert (again["changed"], again["evicted"], again["left"]) == (False, [], [])


def test_newer_servers(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1.22 on, and where the version cannot be read, evictions are of policy/v1."""
    for version in ("v1.22.0", "v1.34.1", "unknown"):
        world = FakeNodes(node(), pod("a"))
        monkeypatch.setattr(world, "get", lambda _path, _doing, version=version: {"gitVersion": version})
        act(world, "drained")
        assert world.asked[0][2]["apiVersion"] == "policy/v1"


@pytest.mark.parametrize(
    ("world", "options", "code"),
    [
        (FakeNodes(node()), {"kubernetes_version": "1.21"}, "VersionSkew"),
        (FakeNodes(None), {"kubernetes_version": "1.21"}, "VersionSkew"),
        (FakeNodes(node(annotations={SERVER: "ns/x"})), {"server": "ns/w"}, "NodeNameTaken"),
        (FakeNodes(node(), pod("a", kind=None)), {}, "DrainBlocked"),
        (FakeNodes(node()), {"name": "W"}, "Invalid"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_refused(act: Any, world: FakeNodes, options: Object, code: str, check_mode: bool) -> None:
    """What forbids a drain does so in check mode too, and the Node is not touched."""
    result = act(world, "drained", check_mode=check_mode, **options)
    assert (result["failed"], result["changed"], result["failure"]["code"]) == (True, False, code)
    assert world.patches == []


@pytest.mark.parametrize("state", ["drained", "absent", "uncordoned", "read"])
def test_no_node(act: Any, state: str) -> None:
    """Where there is no Node there is nothing to do."""
    result = act(FakeNodes(None), state)
    assert (result["changed"], result["node"]["exists"]) == (False, False)


def test_uncordoned(act: Any) -> None:
    """Our cordon is taken away once; a check only says so."""
    world = FakeNodes(node(spec=dict(CORDONED), annotations=dict(OURS)))
    foreseen = act(world, "uncordoned", check_mode=True)
    assert (foreseen["changed"], foreseen["node"]["cordoned_by_us"], world.patches) == (True, True, [])
    assert foreseen["diff"]["after"] == {f"annotation {CORDONED_BY}": None, "unschedulable": None}
    assert not act(world, "uncordoned")["node"]["unschedulable"]
    assert len(world.patches) == 1


def test_absent(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Node that is meant is deleted by its uid; another one is left."""
    world = FakeNodes(node())
    deleted: list[str] = []
    monkeypatch.setattr(world, "delete", lambda _path, _doing, uid: deleted.append(uid) or True, raising=False)
    foreseen = act(world, "absent", check_mode=True)
    assert (foreseen["changed"], foreseen["node"]["exists"], deleted) == (True, True, [])
    assert not act(world, "absent", node_uid="another")["changed"]
    gone = act(world, "absent", node_uid="n1")
    assert (gone["changed"], gone["node"]["exists"], gone["node"]["uid"], deleted) == (True, False, "n1", ["n1"])
    monkeypatch.setattr(world, "delete", lambda _path, _doing, uid: False, raising=False)
    assert (act(world, "absent")["changed"], act(world, "absent")["diff"]) == (False, {})


def test_ready(act: Any) -> None:
    """A check waits for nothing and says what would be patched; the second run patches nothing."""
    world = FakeNodes(node(spec=dict(CORDONED), annotations=dict(OURS)))
    foreseen = act(world, "ready", check_mode=True, labels={"zone": "a"})
    assert (foreseen["changed"], world.patches) == (True, [])
    assert foreseen["diff"]["after"] == {"label zone": "a", f"annotation {CORDONED_BY}": None, "unschedulable": None}
    done = act(world, "ready", labels={"zone": "a"})
    assert (done["changed"], done["node"]["unschedulable"], done["diff"]) == (True, False, foreseen["diff"])


def test_ready_as_it_is(act: Any) -> None:
    """In check mode a Node that is missing, old or not ready is only told."""
    for world in (FakeNodes(None), FakeNodes(node())):
        result = act(world, "ready", check_mode=True, not_uid="n1", labels={"zone": "a"})
        assert (result["changed"], result["diff"]) == (False, {})
    assert not act(FakeNodes(node(status=NOT_READY)), "ready", check_mode=True)["node"]["ready"]
    assert act(FakeNodes(None), "ready", timeout=1)["failure"]["code"] == "NodeNotReady"


def test_no_answer(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the world says that it may be tried again."""
    world = FakeNodes(node())

    def fail(*_arguments: Any) -> None:
        raise Unreachable("Failed to read Node w1: no answer.")

    monkeypatch.setattr(world, "find", fail)
    assert act(world, "read")["failure"] == {"code": "Unreachable", "details": "", "retryable": True}
