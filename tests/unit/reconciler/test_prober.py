# SPDX-License-Identifier: Apache-2.0
"""Probes over TCP, on loopback: who answers, who does not, and that nobody is asked twice at once.

What an answer means is test_health.py's.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from tests.waiting import until

from stargate_reconciler import prober
from stargate_reconciler.machines import Answer, Target
from stargate_reconciler.prober import Prober, probe


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Return a socket that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def target(listening: socket.socket) -> Target:
    """Return where a socket listens."""
    return Target("127.0.0.1", listening.getsockname()[1])


def test_a_port_answers(listening: socket.socket) -> None:
    """A port that takes a connection answers; the connection is closed at once and nothing was sent."""
    assert probe(target(listening)).good
    taken, _ = listening.accept()
    with taken:
        taken.settimeout(2)
        assert taken.recv(10) == b""


def test_a_closed_port_says_why(listening: socket.socket) -> None:
    """A refused connection is an answer with its cause."""
    closed = target(listening)
    listening.close()
    answer = probe(closed)
    assert (answer.good, answer.text) == (False, "Connection refused")


def test_a_silent_address_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog that is full takes no connection: the probe ends after its time."""
    monkeypatch.setattr(prober, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        answer = probe(target(full))
        for client in waiting:
            client.close()
    assert (answer.good, answer.text) == (False, "nothing came back in 0 s")


@pytest.mark.parametrize("name", ["server.invalid", "a" * 64 + ".example", "\udcff.example"])
def test_a_name_that_is_none(name: str) -> None:
    """A name that does not resolve, or is none, is no answer and no crash."""
    assert not probe(Target(name, 22)).good


def test_changes_are_told_once(listening: socket.socket) -> None:
    """The first answer and each change are told; the same answer again is not; what nobody wants is forgotten."""
    heard: list[bool] = []
    asked = Prober(lambda it: heard.append(asked.last(it) is not None))
    asked.start()
    at = target(listening)
    for _ in range(3):
        asked.ask(at)
        until(lambda: not asked._asked)
    assert (heard, asked.last(at)) == ([True], Answer(good=True, at=asked._answers[at].at))
    listening.close()
    asked.ask(at)
    until(lambda: len(heard) == 2)
    asked.keep([])
    assert asked.last(at) is None
    asked.stop()


def test_a_target_is_probed_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that hangs holds one thread, however often it is asked for."""
    count, go = [0], threading.Event()

    def slow(_: Target) -> Answer:
        count[0] += 1
        go.wait(5)
        return Answer(good=True)

    monkeypatch.setattr(prober, "probe", slow)
    asked = Prober(lambda _: None)
    asked.start()
    for _ in range(20):
        asked.ask(Target("127.0.0.1", 1))
    until(lambda: count[0] == 1)
    go.set()
    until(lambda: asked.last(Target("127.0.0.1", 1)))
    assert count == [1]
    asked.stop()
