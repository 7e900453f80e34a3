# SPDX-License-Identifier: Apache-2.0
"""The election: who may take the Lease and when, and that a leader knows in time that it is none any more.

The Lease is in memory and its clock stands still; a real API server and real processes meet in the integration tests.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from kubernetes import client
from kubernetes.client.rest import ApiException
from tests.waiting import until

from stargate_reconciler import leader as module
from stargate_reconciler import model
from stargate_reconciler.leader import REQUEST, Elector
from stargate_reconciler.settings import Settings

UID = "uid-of-the-lease"
REFUSED = urllib3.exceptions.MaxRetryError(urllib3.HTTPConnectionPool("127.0.0.1"), "/", Exception("refused"))


class Clock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


class Leases:
    """One Lease as an API server keeps it: resourceVersions, 404 and 409; it can refuse, or hang."""

    def __init__(self) -> None:
        self.lease: client.V1Lease | None = None
        self.version = 0
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.calls: list[str] = []

    def _serve(self, verb: str) -> None:
        self.calls.append(verb)
        self.open.wait(5)
        if self.error is not None:
            raise self.error

    def _keep(self, body: client.V1Lease) -> client.V1Lease:
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease.metadata = client.V1ObjectMeta(name="l", uid=UID, resource_version=str(self.version))
        return copy.deepcopy(self.lease)

    def read_namespaced_lease(self, *_: object) -> client.V1Lease:
        """Return the Lease or 404."""
        self._serve("read")
        if self.lease is None:
            raise answer(404)
        return copy.deepcopy(self.lease)

    def create_namespaced_lease(self, _namespace: str, body: client.V1Lease) -> client.V1Lease:
        """Create the Lease unless it is there."""
        self._serve("create")
        if self.lease is not None:
            raise answer(409)
        return self._keep(body)

    def replace_namespaced_lease(self, body: client.V1Lease, **_: object) -> client.V1Lease:
        """Replace the Lease unless it has changed since it was read."""
        self._serve("replace")
        if self.lease is None or body.metadata.resource_version != self.lease.metadata.resource_version:
            raise answer(409)
        return self._keep(body)

    @property
    def holder(self) -> str:
        """Who holds the Lease."""
        return str(self.lease.spec.holder_identity or "") if self.lease else "nobody"


def answer(code: int) -> ApiException:
    """Return an API server's refusal."""
    error = ApiException(status=code, reason="no")
    error.body = json.dumps({"kind": "Status", "code": code})
    return error


@pytest.fixture
def leases() -> Leases:
    """Return a cluster's Leases."""
    return Leases()


def elector(leases: Leases, identity: str, **settings: Any) -> Elector:
    """Return an elector that stands before these Leases."""
    made = Elector(client.ApiClient(client.Configuration()), Settings(identity=identity, **settings))
    made._lock.api_instance = leases
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the electors look at."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_first_one_takes_it(leases: Leases, clock: Clock) -> None:
    """Where there is no Lease it is created, renewed by its holder, and refused to others."""
    a, b = elector(leases, "a"), elector(leases, "b")
    assert [a._renew(), b._renew(), a._renew()] == [True, False, True]
    assert leases.holder == "a"


def test_taken_over_when_unrenewed_for_its_duration(leases: Leases, clock: Clock) -> None:
    """Another one takes the Lease only when it has itself watched it unrenewed for the whole duration."""
    a, b = elector(leases, "a"), elector(leases, "b")
    a._renew()
    results = []
    for seconds in (0, 14.9, 0.2):
        clock.now += seconds
        results.append(b._renew())
    assert results == [False, False, True]
    assert leases.holder == "b"
    assert a._held_by_other()
    assert not b._held_by_other()


def test_a_renewal_begins_the_wait_anew(leases: Leases, clock: Clock) -> None:
    """A holder that renews keeps the Lease, however long the other one waits."""
    a, b = elector(leases, "a"), elector(leases, "b")
    for _ in range(5):
        a._renew()
        assert b._renew() is False
        clock.now += 14


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_wall_clock_elects_nobody(leases: Leases, clock: Clock, jump: int) -> None:
    """A renew time far in the past or future of this machine's clock is no reason to take or to leave a Lease."""
    a, b = elector(leases, "a"), elector(leases, "b")
    a._renew()
    assert leases.lease is not None
    leases.lease.spec.renew_time += module.datetime.resolution * jump * 1_000_000
    assert b._renew() is False
    clock.now += 15
    assert b._renew() is True


@pytest.mark.parametrize(
    "error",
    [REFUSED, ConnectionRefusedError(), TimeoutError(), answer(500), answer(403), ApiException(status=404)],
)
def test_no_answer_is_could_not(leases: Leases, clock: Clock, error: Exception) -> None:
    """A refused connection, a time-out, an error or a 404 without a body take nothing, and nothing escapes."""
    one = elector(leases, "a")
    one._renew()
    leases.error = error
    clock.now += 1
    assert (one._renew(), one._held_by_other(), one._renewed) == (False, False, 1000.0)
    one._release()
    lock, record = one._lock, one._record()
    assert (lock.create("l", "n", record), lock.update("l", "n", record)) == (False, False)


def test_lost_races_take_nothing(leases: Leases, clock: Clock) -> None:
    """Who is second to create, or writes what has changed since it was read, has no Lease."""
    a, b = elector(leases, "a"), elector(leases, "b")
    b._lock.get("l", "n")
    a._renew()
    assert b._lock.create("l", "n", b._record()) is False
    clock.now += 60
    b._lock.get("l", "n")
    a._renew()
    assert b._lock.update("l", "n", b._record()) is False
    assert leases.holder == "a"


def test_fence_counts_holders(leases: Leases, clock: Clock) -> None:
    """The fence number grows with each change of holder, and with no renewal."""
    a, b = elector(leases, "a"), elector(leases, "b")
    a.is_leader = b.is_leader = True
    a._renew()
    a._renew()
    first = a.term
    b._renew()
    clock.now += 15
    b._renew()
    b._renew()
    assert first is not None
    assert b.term == model.Term(UID, first.fence + 1)
    assert first.authority == UID


def test_no_term_after_a_pause(leases: Leases, clock: Clock) -> None:
    """A holder that was paused beyond its deadline acts in nobody's name, even before it has noticed anything."""
    a, b = elector(leases, "a"), elector(leases, "b")
    a._renew()
    assert a.term is None
    a.is_leader = True
    assert a.term == model.Term(UID, 1)
    b._renew()
    clock.now += 15
    b._renew()
    assert a.term is None
    a._held_by_other()
    assert a.term is None


def test_lease_without_spec_is_free(leases: Leases, clock: Clock) -> None:
    """A Lease that somebody made by hand, empty, is taken."""
    leases._keep(client.V1Lease(metadata=client.V1ObjectMeta(name="l")))
    assert elector(leases, "a")._renew() is True
    assert leases.holder == "a"


def test_released_is_free_at_once(leases: Leases, clock: Clock) -> None:
    """A Lease that was given back is taken without waiting; only its holder can give it back."""
    a, b = elector(leases, "a"), elector(leases, "b")
    a._renew()
    b._release()
    assert leases.holder == "a"
    a._release()
    assert leases.holder == ""
    assert b._renew() is True


def test_requests_end_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call on a Lease has a time limit that lets the deadline be kept."""
    seen: list[object] = []

    def note(*_: object, **options: object) -> None:
        seen.append(options["_request_timeout"])

    api = Elector(client.ApiClient(client.Configuration()), Settings())._lock.api_instance
    for verb in ("read", "create", "replace"):
        monkeypatch.setattr(client.CoordinationV1Api, f"{verb}_namespaced_lease", note)
    api.read_namespaced_lease("l", "n")
    api.create_namespaced_lease("n", {})
    api.replace_namespaced_lease("l", "n", {})
    assert seen == [REQUEST] * 3
    assert sum(REQUEST) * 2 <= Settings().renew_deadline


class Term:
    """An elector that runs on a thread, with what it has said."""

    def __init__(self, leases: Leases, identity: str, **settings: Any) -> None:
        self.elector = elector(leases, identity, **{"renew_period": 0.02, "renew_deadline": 0.3, **settings})
        self.led = threading.Event()
        self.lost: list[str] = []
        self.thread = threading.Thread(target=self.elector.run, args=(self.led.set, self.lost.append), daemon=True)

    def end(self) -> None:
        """Stop it and wait for its end."""
        self.elector.stop()
        self.thread.join(2)
        assert not self.thread.is_alive()


@pytest.fixture
def term(leases: Leases) -> Iterator[Callable[..., Term]]:
    """Return a function that starts an elector on a thread; it is ended after the test."""
    made: list[Term] = []

    def start(identity: str = "a", **settings: Any) -> Term:
        made.append(Term(leases, identity, **settings))
        made[-1].thread.start()
        return made[-1]

    yield start
    leases.open.set()
    for one in made:
        one.end()


def test_leads_renews_and_gives_back(leases: Leases, term: Callable[..., Term]) -> None:
    """A leader renews until it is stopped, then gives the Lease back, and nothing was lost."""
    one = term()
    assert one.led.wait(2)
    before = leases.version
    until(lambda: leases.version > before + 2)
    assert one.elector.is_leader
    one.end()
    assert (leases.holder, one.lost, one.elector.is_leader) == ("", [], False)


def test_standby_waits_and_follows(leases: Leases, term: Callable[..., Term]) -> None:
    """A standby leads as soon as the leader has given the Lease back, and never beside it."""
    first = term()
    assert first.led.wait(2)
    second = term("b")
    assert not second.led.wait(0.1)
    first.end()
    assert second.led.wait(2)
    assert leases.holder == "b"


def test_standby_can_be_stopped(leases: Leases, term: Callable[..., Term]) -> None:
    """A standby that never led ends at once and leaves the leader's Lease alone."""
    first = term()
    assert first.led.wait(2)
    second = term("b")
    second.end()
    assert (leases.holder, second.lost, second.led.is_set()) == ("a", [], False)


@pytest.mark.parametrize("trouble", ["refused", "hangs"])
def test_lost_at_the_deadline(leases: Leases, term: Callable[..., Term], trouble: str) -> None:
    """A leader that cannot renew says so once, at its deadline, even while a request hangs."""
    one = term()
    assert one.led.wait(2)
    if trouble == "hangs":
        leases.open.clear()
    leases.error = REFUSED
    until(lambda: one.lost, seconds=2)
    assert not one.elector.is_leader
    leases.open.set()
    one.thread.join(2)
    assert len(one.lost) == 1
    assert "could not be renewed" in one.lost[0]
    assert leases.holder == "a"


def test_lost_to_another(leases: Leases, term: Callable[..., Term]) -> None:
    """A leader that finds another holder in the Lease says so at once, before its deadline."""
    one = term(renew_deadline=60.0)
    assert one.led.wait(2)
    assert leases.lease is not None
    leases.lease.spec.holder_identity = "b"
    leases._keep(leases.lease)
    until(lambda: one.lost, seconds=2)
    assert "another process" in one.lost[0]
    one.thread.join(2)
    assert leases.holder == "b"


def test_loss_is_said_once(leases: Leases) -> None:
    """Whoever notices a loss second says nothing."""
    one, lost = elector(leases, "a"), list[str]()
    one.is_leader = True
    one._lose(lost.append, "first")
    one._lose(lost.append, "second")
    assert lost == ["first"]


def test_a_short_trouble_is_no_loss(leases: Leases, term: Callable[..., Term]) -> None:
    """An API server that is away for less than the deadline costs nothing."""
    one = term(renew_deadline=5.0)
    assert one.led.wait(2)
    leases.error = REFUSED
    calls = len(leases.calls)
    until(lambda: len(leases.calls) > calls + 3)
    leases.error = None
    before = leases.version
    until(lambda: leases.version > before)
    assert (one.lost, one.elector.is_leader) == ([], True)


def test_taken_while_being_stopped_is_given_back(leases: Leases, term: Callable[..., Term]) -> None:
    """A Lease that is won in the moment of the stop is given back, and nobody is told to lead."""
    leases.open.clear()
    one = term()
    until(lambda: leases.calls)
    one.elector.stop()
    leases.open.set()
    one.thread.join(2)
    assert (leases.holder, one.led.is_set()) == ("", False)
