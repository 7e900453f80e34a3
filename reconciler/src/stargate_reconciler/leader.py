# SPDX-License-Identifier: Apache-2.0
"""Who may act: one process at a time, by a Lease.

The official client's LeaseLock does the reading and writing, with its holes mended: a refused connection is an answer
("could not"), not an escape. The waiting is ours and by the monotonic clock, so a clock that jumps elects nobody.
It stops nothing itself: the caller's `lost` does.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import urllib3
from kubernetes import client
from kubernetes.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from .model import Term
from .settings import Settings

logger = logging.getLogger(__name__)


REQUEST = (2, 3)
"""Seconds to connect, seconds to wait for an answer: a lost connection must not outlast the deadline."""


_CANNOT_CREATE = "it cannot be created; does the namespace exist (--lease-namespace), and may Leases be created there?"


class _TimedApi(client.CoordinationV1Api):  # type: ignore[misc]  # the client ships no types here
    """The Lease calls, none of which may hang."""

    def read_namespaced_lease(self, name: str, namespace: str, **options: Any) -> Any:
        return super().read_namespaced_lease(name, namespace, _request_timeout=REQUEST, **options)

    def create_namespaced_lease(self, namespace: str, body: Any, **options: Any) -> Any:
        return super().create_namespaced_lease(namespace, body, _request_timeout=REQUEST, **options)

    def replace_namespaced_lease(self, name: str, namespace: str, body: Any, **options: Any) -> Any:
        return super().replace_namespaced_lease(name, namespace, body, _request_timeout=REQUEST, **options)


class PatientLeaseLock(LeaseLock):  # type: ignore[misc]  # the client ships no types here
    """A LeaseLock that says "could not" when the API server cannot be reached, and counts its holders."""

    def __init__(self, api_client: client.ApiClient, settings: Settings) -> None:
        super().__init__(settings.lease_name, settings.lease_namespace, settings.identity)
        self.api_instance = _TimedApi(api_client)

    def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """Return (True, record) or (False, error)."""
        try:
            found: tuple[bool, Any] = super().get(name, namespace)
            return found
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return False, error

    def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Return whether the Lease was created."""
        try:
            return bool(super().create(name, namespace, election_record))
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Return whether the Lease was written; a concurrent write loses by resourceVersion."""
        try:
            return bool(super().update(name, namespace, updated_record))
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    def get_lease_spec(self, leader_election_record: LeaderElectionRecord, current_spec: Any = None) -> Any:
        """Build the spec, with `leaseTransitions` counted up at each change of holder: the fence number."""
        before = current_spec.holder_identity if current_spec else None
        count = (current_spec.lease_transitions or 0) if current_spec else 0
        spec = super().get_lease_spec(leader_election_record, current_spec)
        spec.lease_transitions = count if before == leader_election_record.holder_identity else count + 1
        return spec

    @property
    def fence(self) -> int:
        """How often the Lease has changed hands, this holder's term included."""
        spec = getattr(self.lease_reference, "spec", None)
        return int(getattr(spec, "lease_transitions", 0) or 0)

    @property
    def uid(self) -> str:
        """Which Lease it is: one that was deleted and made anew begins to count anew."""
        return str(getattr(getattr(self.lease_reference, "metadata", None), "uid", "") or "")


class Elector:
    """Takes the Lease, renews it, and calls `lost` in time when it cannot."""

    def __init__(self, api_client: client.ApiClient, settings: Settings) -> None:
        self._settings = settings
        self._lock = PatientLeaseLock(api_client, settings)
        self._stop = threading.Event()
        self._losing = threading.Lock()
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = 0.0
        self._term = Term()
        self._obstacle = ""
        self.is_leader = False

    @property
    def term(self) -> Term | None:
        """The Lease and the number of this term, greater than any earlier one's; None when it may be over.

        By the clock, not by what was noticed: a process that was paused may not have noticed anything yet.
        """
        if not self.is_leader or time.monotonic() - self._renewed > self._settings.renew_deadline:
            return None
        return self._term

    def run(self, led: Callable[[], None], lost: Callable[[str], None]) -> None:
        """Wait for the Lease, call `led`, renew until stopped; call `lost` once when the deadline passes unrenewed.

        The deadline has a watchdog of its own, so that a request that hangs does not delay it.
        """
        self._wait_for_lease()
        if self._stop.is_set():
            if self._renewed:  # it was taken while we were told to stop
                self._release()
            return
        self.is_leader = True
        led()
        threading.Thread(target=self._watch_deadline, args=(lost,), name="lease-deadline", daemon=True).start()
        while self.is_leader and not self._stop.wait(self._settings.renew_period):
            if not self._renew() and self._held_by_other():
                self._lose(lost, "another process holds the Lease")
        if self.is_leader:
            self.is_leader = False
            self._release()

    def _wait_for_lease(self) -> None:
        said = ""
        while not self._stop.is_set() and not self._renew():
            if self._obstacle != said:
                said = self._obstacle
                logger.info("Waiting for the Lease %s/%s: %s", self._lock.namespace, self._lock.name, said)
            self._stop.wait(self._settings.renew_period)

    def _renew(self) -> bool:
        asked = time.monotonic()
        if not self._try():
            return False
        self._term = Term(self._lock.uid, self._lock.fence)
        self._renewed = asked
        return True

    def _watch_deadline(self, lost: Callable[[str], None]) -> None:
        limit = self._settings.renew_deadline
        while self.is_leader and not self._stop.wait(0.25):
            if time.monotonic() - self._renewed > limit:
                self._lose(lost, f"the Lease could not be renewed for {limit:.0f} s")

    def stop(self) -> None:
        """End the election and give the Lease back."""
        self._stop.set()

    def _lose(self, lost: Callable[[str], None], why: str) -> None:
        with self._losing:
            if not self.is_leader:
                return
            self.is_leader = False
        lost(why)

    def _try(self) -> bool:
        """Take or renew the Lease; returns whether it is ours afterwards."""
        found, record = self._lock.get(self._lock.name, self._lock.namespace)
        mine = self._record()
        if not found:
            self._obstacle = _CANNOT_CREATE if _is_absent(record) else f"it cannot be read: {_reason(record)}"
            return _is_absent(record) and self._lock.create(self._lock.name, self._lock.namespace, mine)
        self._obstacle = f"it is held by {record.holder_identity}"
        if record.holder_identity in (None, "", self._lock.identity):
            mine.acquire_time = record.acquire_time or mine.acquire_time
            return self._lock.update(self._lock.name, self._lock.namespace, mine)
        mark = f"{record.holder_identity} {record.renew_time}"
        if mark != self._seen[0]:
            self._seen = (mark, time.monotonic())
            logger.debug("The Lease is held by %s", record.holder_identity)
        duration = float(record.lease_duration or self._settings.lease_duration)
        if time.monotonic() - self._seen[1] < duration:
            return False
        return self._lock.update(self._lock.name, self._lock.namespace, mine)

    def _record(self) -> LeaderElectionRecord:
        now = str(datetime.now().astimezone().replace(tzinfo=None))
        return LeaderElectionRecord(self._lock.identity, str(int(self._settings.lease_duration)), now, now)

    def _held_by_other(self) -> bool:
        found, record = self._lock.get(self._lock.name, self._lock.namespace)
        return bool(found) and record.holder_identity not in (None, "", self._lock.identity)

    def _release(self) -> None:
        found, record = self._lock.get(self._lock.name, self._lock.namespace)
        if not found or record.holder_identity != self._lock.identity:
            return
        now = str(datetime.now().astimezone().replace(tzinfo=None))
        self._lock.update(self._lock.name, self._lock.namespace, LeaderElectionRecord("", "1", now, now))


def _reason(error: Any) -> str:
    return str(getattr(error, "reason", None) or error)[:200]


def _is_absent(error: Any) -> bool:
    try:
        return bool(json.loads(error.body)["code"] == 404)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
