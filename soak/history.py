# SPDX-License-Identifier: Apache-2.0
"""The history of every Operation, from a watch that no fault touches, and what must hold of it at every moment.

What hosts have to say to it at the end is `verdict.py`'s.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from soak.cluster import Cluster, Object, path
from soak.script import HOSTILE

FINAL = frozenset({"Succeeded", "Failed"})


@dataclass
class Life:
    """One Operation, by uid."""

    uid: str
    name: str
    server: str
    act: str
    phase: str = ""
    attempts: int = 0
    reason: str = ""
    message: str = ""
    created: float = field(default_factory=time.monotonic)
    changed: float = field(default_factory=time.monotonic)
    deleted: bool = False
    cancelled: bool = False
    edited: bool = False
    """Whether something else was asked for before it had begun, maybe in the one whose name and spec it has."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is owed to it."""
        return self.deleted or self.phase in FINAL

    @property
    def kind(self) -> str:
        """Its kind in the script."""
        return self.name.partition("-")[0]


EDITED = "soak-nothing"
"""What the fault edit-operation asks for."""


class History:
    """All lives, with the violations that were seen in them."""

    def __init__(self, cluster: Cluster, evidence: Callable[[Life], str]) -> None:
        self.lives: dict[str, Life] = {}
        self.violations: list[str] = []
        self._cluster = cluster
        self._evidence = evidence
        self._lock = threading.Lock()
        self._ended = False
        self._version = str(cluster.request("GET", f"{path('operations')}?limit=1")["metadata"]["resourceVersion"])
        threading.Thread(target=self._follow, name="history", daemon=True).start()

    def _follow(self) -> None:
        while not self._ended:
            try:
                for event in self._cluster.watch("operations", self._version):
                    self._take(event)
            except (OSError, ValueError):
                if not self._ended:
                    self.violations.append("the harness lost its own watch: what came meanwhile was not seen")

    def stop(self) -> None:
        """Follow no more."""
        self._ended = True

    def _take(self, event: Object) -> None:
        item = event["object"]
        if event["type"] == "ERROR":
            self.violations.append(f"the harness lost its own watch: {item}")
            return
        self._version = item["metadata"]["resourceVersion"]
        with self._lock:
            life = self.lives.get(item["metadata"]["uid"]) or self._new(item)
            if event["type"] == "DELETED":
                life.deleted = True
            else:
                self._compare(life, item)

    def _new(self, item: Object) -> Life:
        meta, spec = item["metadata"], item["spec"]
        life = Life(meta["uid"], meta["name"], spec["serverRef"]["name"], spec["operation"])
        self.lives[life.uid] = life
        return life

    def _compare(self, life: Life, item: Object) -> None:
        """Hold what an Operation says now against what it has said before."""
        status = item.get("status") or {}
        phase, attempts = str(status.get("phase") or ""), int(status.get("attempts") or 0)
        life.cancelled = life.cancelled or bool(item["spec"].get("cancel"))
        life.edited = life.edited or (attempts == 0 and item["spec"]["operation"] == EDITED)
        if life.phase in FINAL and phase != life.phase:
            self._complain(life, f"was {life.phase} and became {phase or 'nothing'}")
        if attempts < life.attempts:
            self._complain(life, f"went back from attempt {life.attempts} to {attempts}")
        if len(str(status.get("message") or "").encode()) > 1024:
            self._complain(life, "has a message of more than 1 KiB")
        became_final = phase in FINAL and life.phase not in FINAL
        life.phase, life.attempts = phase, attempts
        life.message = str(status.get("message") or "")
        life.changed = time.monotonic()
        if became_final:
            life.reason = _reason(status)
            lack = self._evidence(life) if phase == "Succeeded" else _lie(life)
            if lack:
                self._complain(life, lack)

    def _complain(self, life: Life, what: str) -> None:
        self.violations.append(f"Operation {life.name} ({life.uid}) {what}. It says: {life.message[:300]}")

    def unfinished(self) -> list[Life]:
        """Return the Operations to which something is owed."""
        with self._lock:
            return [life for life in self.lives.values() if not life.is_over]

    def changed(self, since: float) -> float:
        """Return when there was news of an Operation for the last time, `since` when there was none after that."""
        with self._lock:
            return max([since, *(life.changed for life in self.lives.values())])

    def phases(self) -> Counter[str]:
        """Return how many Operations are in which phase."""
        with self._lock:
            return Counter(
                "Deleted" if life.deleted and life.phase not in FINAL else life.phase for life in self.lives.values()
            )

    def reasons(self) -> Counter[str]:
        """Return why Operations have failed."""
        with self._lock:
            return Counter(life.reason for life in self.lives.values() if life.phase == "Failed")


def _reason(status: Object) -> str:
    failed = [c for c in status.get("conditions") or [] if c.get("type") == "Failed" and c.get("status") == "True"]
    return str(failed[0].get("reason")) if failed else ""


USERS_FAULT = {
    "mistake": frozenset({"Refused"}),
    "unknown": frozenset({"UnknownOperation"}),
    "nowhere": frozenset({"ServerNotFound"}),
    "option": frozenset({"InvalidSpec"}),
    "template": frozenset({"InvalidSpec", "Unreachable", "ServerNotFound"}),
    "path": frozenset({"InvalidSpec", "ProfileNotFound"}),
    "shell": frozenset({"InvalidSpec"}),
    "late": frozenset({"DeadlineExceeded"}),
}
"""Why Operations fail by design, by kind."""
WORLDS_FAULT = frozenset(
    {"Unreachable", "HostKeyChanged", "TaskFailed", "StepInterrupted", "HostBusy", "StaleOperation", "RunCrashed"}
    | {"DeadlineExceeded", "RunNotPrepared", "SecretNotFound", "ServerNotFound", "ProfileNotFound", "StepFailed"}
    | {"StepKilled", "JournalUnreadable", "JournalUnwritable"}
)
"""Why an Operation that its user did right may fail when the world does not."""


def _lie(life: Life) -> str:
    """Return what is untrue about a failure, "" when it can be true."""
    allowed = USERS_FAULT.get(life.kind, frozenset()) | WORLDS_FAULT
    if life.cancelled:
        allowed |= {"Cancelled"}
    if life.edited:  # before it had begun, so that it counts
        allowed |= {"UnknownOperation"}
    if life.kind in HOSTILE and life.reason == "InvalidSpec" and life.attempts:
        return "was run although it is not fit to be"
    return "" if life.reason in allowed else f"failed for the reason '{life.reason}', which cannot be"
