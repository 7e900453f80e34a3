# SPDX-License-Identifier: Apache-2.0
"""Events: what they say of which object, and that nobody ever waits for them.

When they are written is test_reconcile.py's.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest
from tests.unit.reconciler.fakes import NOW, FakeKube, raw_operation

from stargate_reconciler.errors import WorldError
from stargate_reconciler.events import Recorder, event_body
from stargate_reconciler.model import Object
from stargate_reconciler.status import Note

NOTE = Note("Started", "Attempt 1 runs.")


def test_body() -> None:
    """An Event names its object with uid and version, its reason, and the component."""
    body = event_body("Operation", raw_operation(), NOTE, NOW)
    assert body["involvedObject"] == {
        "apiVersion": "stargate.io/v1alpha1",
        "kind": "Operation",
        "name": "o1",
        "namespace": "dc-west",
        "uid": "u-o1",
        "resourceVersion": "1",
    }
    assert (body["type"], body["reason"], body["message"]) == ("Normal", "Started", "Attempt 1 runs.")
    assert (body["firstTimestamp"], body["lastTimestamp"], body["count"]) == ("2026-03-01T12:00:00Z",) * 2 + (1,)


def test_warning_without_secrets() -> None:
    """A warning is marked as such; its text is cut and loses what looks secret."""
    note = Note("Failed", "tskey-auth-canary " + "x" * 3000, warning=True)
    body = event_body("Operation", raw_operation(), note, NOW)
    assert body["type"] == "Warning"
    assert len(body["message"]) <= 1024
    assert "canary" not in body["message"]


def test_names_are_unique_and_short() -> None:
    """Other messages, reasons, objects and moments have other names, the same one has the same; none is too long."""
    name = "x" * 253
    bodies = [
        event_body("Operation", raw_operation(), NOTE, NOW),
        event_body("Operation", raw_operation(), NOTE, NOW + timedelta(seconds=1)),
        event_body("Operation", raw_operation(), Note("Other", NOTE.message), NOW),
        event_body("Operation", raw_operation(), Note("Started", "Other."), NOW),
        event_body("Operation", raw_operation(name), NOTE, NOW),
    ]
    names = [body["metadata"]["name"] for body in bodies]
    assert len(set(names)) == 5
    assert names[0] == event_body("Operation", raw_operation(), NOTE, NOW)["metadata"]["name"]
    assert max(map(len, names)) <= 253


class SlowKube(FakeKube):
    """A cluster that takes Events only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go = threading.Event()
        self.fail = False

    def create_event(self, namespace: str, body: Object) -> None:
        """Wait, then note the Event or fail."""
        self.asked.set()
        self.go.wait(5)
        if self.fail:
            raise WorldError("down")
        super().create_event(namespace, body)


def test_written_in_order_before_the_end() -> None:
    """What was noted is written, in order, before stop returns."""
    kube = FakeKube()
    recorder = Recorder(kube)  # type: ignore[arg-type]  # a stand-in
    recorder.start()
    for reason in ("One", "Two", "Three"):
        recorder.note("Operation", raw_operation(), Note(reason, "m"))
    recorder.stop()
    assert kube.events == ["One", "Two", "Three"]


def test_refused_events_are_dropped() -> None:
    """An Event that the API server does not take is given up, and the next one is tried."""
    kube = SlowKube()
    kube.fail = True
    recorder = Recorder(kube)  # type: ignore[arg-type]  # a stand-in
    recorder.start()
    recorder.note("Operation", raw_operation(), NOTE)
    assert kube.asked.wait(2)
    kube.go.set()
    recorder.note("Operation", raw_operation(), NOTE)
    recorder.stop()
    assert kube.events == []
    assert not recorder._thread.is_alive()


def test_nobody_waits_for_a_slow_cluster(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond a thousand waiting notes are dropped with a warning; stopping does not wait longer than told."""
    kube = SlowKube()
    recorder = Recorder(kube)  # type: ignore[arg-type]  # a stand-in
    recorder.start()
    with caplog.at_level(logging.WARNING):
        for number in range(1003):
            recorder.note("Operation", raw_operation(), Note("N", str(number)))
    assert "Dropped an Event" in caplog.text
    recorder.stop(0.01)
    kube.go.set()


def test_stop_gives_up_after_its_time() -> None:
    """A cluster that hangs does not hold up the end."""
    kube = SlowKube()
    recorder = Recorder(kube)  # type: ignore[arg-type]  # a stand-in
    recorder.start()
    recorder.note("Operation", raw_operation(), NOTE)
    recorder.stop(0.01)
    assert kube.events == []
    kube.go.set()


def test_never_started_can_be_stopped() -> None:
    """A standby that never led is stopped without fuss."""
    Recorder(FakeKube()).stop()  # type: ignore[arg-type]  # a stand-in
