# SPDX-License-Identifier: Apache-2.0
"""The caretaker on a bench: when it looks, what it writes and creates, and what it leaves to others.

Its decisions are test_health.py's; a real API server is in tests/integration/test_health.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.reconciler.bench import Bench
from tests.unit.reconciler.fakes import KEY, raw_node, raw_operation, raw_server
from tests.unit.reconciler.wards import said

from stargate_reconciler.caretaker import Caretaker, Ties
from stargate_reconciler.errors import Conflict, UserError
from stargate_reconciler.machines import Answer, Target
from stargate_reconciler.model import Object, formatted_time

CARED = {"autoRepave": "onNotReady", "notReadySeconds": 0}
JOINED = {"nodeName": "s1", "state": "ready"}


class Ward:
    """A bench with a caretaker whose Nodes, answers and turns are the test's."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.created: list[Object] = []
        of = bench.daemon
        ties = Ties(bench.kube, of.store, of.live, queue=of.queue, recorder=of.recorder, metrics=of.metrics)  # type: ignore[arg-type]  # the bench's cluster is a stand-in
        self.caretaker = Caretaker(ties, of.settings)
        of.care = self.caretaker.look
        monkeypatch.setattr(bench.kube, "create_operation", self._create, raising=False)
        monkeypatch.setattr(self.caretaker.prober, "last", lambda _: self.answer)
        self.answer: Answer | None = Answer(good=True, at=float("inf"))
        self.ready("True")
        self.caretaker._meet_all()

    def _create(self, operation: Object) -> bool:
        if any(item["metadata"]["name"] == operation["metadata"]["name"] for item in self.created):
            return False
        self.created.append(operation)
        return True

    def ready(self, word: str, name: str = "s1", **meta: Any) -> None:
        """Have a Node say whether it is Ready, to the watch and to who reads it."""
        self.bench.kube.nodes[name] = raw_node(name, ready=word, **meta)
        self.caretaker.nodes.put(raw_node(name, ready=word, **meta))

    def look(self) -> Object:
        """Have Server s1 looked at; returns the status and reason of its conditions."""
        self.bench.see()
        self.bench.look()
        return {c["type"]: (c["status"], c["reason"]) for c in self.bench.server.get("conditions", [])}


@pytest.fixture
def ward(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ward]]:
    """Return a function that makes a ward whose Server s1 is a Node and may be repaved."""
    made: list[Ward] = []

    def make(*items: Object, **settings: Any) -> Ward:
        mine = raw_server(status=JOINED, maintenance=CARED, provisioningProfile="p1")
        made.append(Ward(bench(mine, *items, **settings), monkeypatch))
        return made[-1]

    yield make
    for each in made:
        each.caretaker.stop()


def test_a_well_machine_is_written_once(ward: Callable[..., Ward]) -> None:
    """The first look says Ready, and no other look writes."""
    here = ward()
    assert here.look() == {"NodeReady": ("True", "Ready")}
    written = len(here.bench.kube.writes)
    here.ready("True")
    assert here.look() == {"NodeReady": ("True", "Ready")}
    assert len(here.bench.kube.writes) == written


def test_an_ill_machine_is_repaved_once(ward: Callable[..., Ward]) -> None:
    """The account is written before the Operation is created, and looking again creates no other."""
    here = ward()
    here.ready("False")
    assert here.look()["AutoRepave"] == ("True", "Starting")
    (made,) = here.created
    assert here.bench.server["autoRepave"]["operation"] == made["metadata"]["name"]
    assert len(here.look()) == 3
    assert len(here.created) == 1
    here.bench.kube.apply({**raw_operation(made["metadata"]["name"]), "spec": made["spec"]})
    here.look()
    assert len(here.created) == 1


def test_a_lost_race_creates_nothing(ward: Callable[..., Ward]) -> None:
    """Another leader that has written the Server first is the one that creates."""
    here = ward()
    here.look()
    here.ready("False")
    here.bench.kube.apply(here.bench.kube.items["Server", "s1"])
    with pytest.raises(Conflict):
        here.caretaker.look(KEY)
    assert here.created == []


def test_a_node_is_read_again_before_the_act(ward: Callable[..., Ward]) -> None:
    """A watch that is behind repaves nothing: the Node as it stands has the last word."""
    here = ward()
    here.ready("False")
    here.bench.kube.nodes["s1"] = raw_node(ready="True")
    assert here.look() == {}
    assert here.created == []


def test_a_cluster_without_room_for_the_account(ward: Callable[..., Ward]) -> None:
    """Where old CRDs drop the account, nothing is created: repaves would have no limit."""
    here = ward()
    here.ready("False")
    write = here.bench.kube.patch_status

    def pruned(kind: str, namespace: str, name: str, patch: Object, *, version: str | None = None) -> Object:
        kept = {key: value for key, value in patch.items() if key != "autoRepave"}
        return write(kind, namespace, name, kept, version=version)

    here.bench.kube.patch_status = pruned  # type: ignore[method-assign]  # an API server that prunes
    with pytest.raises(UserError, match="install-crds"):
        here.look()
    assert here.created == []


@pytest.mark.parametrize("status", [{"activeOperation": "o9"}, {}])
def test_an_operation_keeps_it_away(ward: Callable[..., Ward], status: Object) -> None:
    """While an Operation has the Server, or is about to, nothing is written and nothing started."""
    here = ward(raw_operation("o1"))
    if status:
        here.bench.kube.patch_status("Server", *KEY, status)
    here.ready("False")
    here.bench.see()
    written = len(here.bench.kube.writes)
    here.caretaker._known(here.bench.daemon.store.server(KEY))  # type: ignore[arg-type]  # it is there
    if not status:
        here.bench.daemon.live.begin(here.bench.daemon.store.operations(KEY)[0])
    here.caretaker.look(KEY)
    assert (len(here.bench.kube.writes), here.created) == (written, [])


def test_not_the_leader_any_more(ward: Callable[..., Ward]) -> None:
    """Once it was told to stop it writes and creates nothing."""
    here = ward()
    here.ready("False")
    here.caretaker.stop()
    assert (here.look(), here.created) == ({}, [])


def test_the_lease_is_lost_before_the_act(ward: Callable[..., Ward]) -> None:
    """A leader that is told to stop while it reads the Node once more accounts for nothing and creates nothing."""
    here = ward()
    here.ready("False")
    here.bench.kube.refuse = lambda kind, name: here.caretaker.stop() if kind == "Node" else None  # type: ignore[func-returns-value]  # it refuses nothing
    assert (here.look(), here.created) == ({}, [])


def test_another_reconcilers_provider(ward: Callable[..., Ward]) -> None:
    """A Server of a provider that is not served is counted, and otherwise left alone."""
    here = ward(providers=("qemu",))
    here.ready("False")
    assert (here.look(), here.created) == ({}, [])
    assert here.caretaker._counted()[0]["dc-west", ""].bad == 1


def test_two_servers_of_one_node(ward: Callable[..., Ward]) -> None:
    """A Node that could be either Server's is repaved for neither, and for its owner once it names one."""
    other = raw_server("s2", status={"nodeName": "s1"}, nodeName="s1")
    here = ward(other)
    here.ready("False")
    assert here.look()["AutoRepave"] == ("False", "NodeShared")
    here.ready("False", annotations={"stargate.io/server": "dc-west/s1"})
    assert here.look()["AutoRepave"] == ("True", "Starting")


def test_what_an_earlier_leader_saw_counts(ward: Callable[..., Ward]) -> None:
    """A new leader goes on with the time that the status tells, and waits anew where the Node was Ready since."""
    long_ago = said("NodeReady", "False", "NodeNotReady")
    waits = raw_server(status=long_ago, maintenance={"autoRepave": "onNotReady"}, provisioningProfile="p1")
    here = ward(waits)
    here.ready("False")
    assert here.look()["AutoRepave"] == ("True", "Starting")
    again = ward(waits)
    lately = raw_node(ready="False")
    lately["status"]["conditions"][0]["lastTransitionTime"] = formatted_time(datetime.now(UTC))
    again.bench.kube.nodes["s1"] = lately
    again.caretaker.nodes.put(lately)
    assert again.look()["AutoRepave"] == ("True", "Waiting")


def test_a_circuit_is_told_once(ward: Callable[..., Ward]) -> None:
    """Two of two that are not Ready open the circuit; one Event, conditions at both, no Operation; then it closes."""
    other = raw_server("s2", status={**JOINED, "nodeName": "s2"}, maintenance=CARED, provisioningProfile="p1")
    here = ward(other)
    here.ready("False", "s2")
    here.ready("False")
    assert here.look().get("AutoRepave") is None
    assert here.look()["AutoRepave"] == ("False", "CircuitOpen")
    here.caretaker._dirty = True
    here.caretaker._recount()
    waiting = list(here.bench.daemon.recorder._waiting.queue)
    assert [body["reason"] for _, body in waiting].count("CircuitOpen") == 1
    assert 'stargate_circuit_open{namespace="dc-west",router=""} 1.0' in here.bench.daemon.metrics.text().decode()
    here.ready("True", "s2")
    here.caretaker._recount()
    assert here.look()["AutoRepave"] == ("True", "Starting")
    assert len(here.created) == 1


def test_machines_in_doubt_are_probed(ward: Callable[..., Ward], monkeypatch: pytest.MonkeyPatch) -> None:
    """An ill machine is probed at once and in each round; a well one never."""
    here = ward()
    asked: list[Target] = []
    monkeypatch.setattr(here.caretaker.prober, "ask", asked.append)
    here.look()
    here.caretaker._probe_round()
    assert asked == []
    here.answer = None
    here.ready("False")
    here.look()
    here.caretaker._probe_round()
    assert asked == [Target("127.0.0.1", 22)] * 2
    here.answer = Answer(good=True, at=float("inf"))
    here.ready("True")
    here.look()
    here.caretaker._probe_round()
    assert len(asked) == 2


def test_a_server_that_goes_leaves_nothing(ward: Callable[..., Ward]) -> None:
    """Nothing is kept of a Server that was deleted, nor of Nodes that no Server is."""
    here = ward()
    here.ready("False")
    here.look()
    here.caretaker.nodes.put(raw_node("stranger"))
    here.caretaker.nodes.drop(raw_node("stranger"))
    here.caretaker.nodes.drop(raw_node("s1"))
    assert (here.caretaker.nodes.gone("stranger"), here.caretaker.nodes.gone("s1") is not None) == (None, True)
    here.bench.delete("Server", "s1")
    here.caretaker.look(KEY)
    kept = here.caretaker
    assert (kept._machines, kept._ailing, kept._bad_since, dict(kept._of_node)) == ({}, set(), {}, {})
    assert kept.nodes.gone("s1") is None
