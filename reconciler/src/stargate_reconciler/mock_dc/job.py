# SPDX-License-Identifier: Apache-2.0
"""One job of the mock datacenter and the steps it goes through: pure, time is passed in.

Keeping many jobs, waking waiters and saving them is done in `book.py` and `state.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

TYPES = ("repave", "reboot")
PHASES = ("pending", "running", "succeeded", "failed", "canceled")
TERMINAL = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True)
class Step:
    """A stage, its message, and the share of the job's duration after which it begins."""

    share: float
    stage: str
    message: str


STEPS: dict[str, tuple[Step, ...]] = {
    # Messages and times of the first contract: 0, 5, 10, 20, 25 and 30 s of a repave of 30 s.
    "repave": (
        Step(0.0, "accepted", "Repave in progress"),
        Step(5 / 30, "pxe", "Initiating PXE boot"),
        Step(10 / 30, "download", "Downloading OS image"),
        Step(20 / 30, "install", "Installing OS"),
        Step(25 / 30, "configure", "Configuring system"),
        Step(1.0, "finalize", "Finalizing"),
    ),
    "reboot": (
        Step(0.0, "accepted", "Reboot in progress"),
        Step(0.2, "shutdown", "Shutting down"),
        Step(0.5, "boot", "Waiting for the machine"),
        Step(1.0, "finalize", "Finalizing"),
    ),
}
STAGES = sorted({step.stage for steps in STEPS.values() for step in steps})


@dataclass
class Job:
    """A job as it is kept and saved. Times are seconds since the epoch, `duration` is real seconds."""

    id: str
    type: str
    server_id: str
    request: dict[str, Any]
    request_id: str
    created_at: float
    duration: float
    fail_stage: str = ""
    hangs: bool = False
    phase: str = "pending"
    step: int = -1
    message: str = "Waiting to start"
    started_at: float | None = None
    finished_at: float | None = None
    error: dict[str, Any] | None = None
    log: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Say whether the phase is final."""
        return self.phase in TERMINAL

    @property
    def os(self) -> str:
        """Return the operating system that the machine has after this job; empty when the job does not change it."""
        version = str(self.request.get("kubernetesVersion") or "")
        return str(self.request.get("osVersion") or (f"k8s-{version}" if version else ""))

    def due(self) -> float | None:
        """Return when the next step begins; None when no step will."""
        following = self.step + 1
        steps = STEPS[self.type]
        if self.ended or following >= len(steps) or (self.hangs and following == len(steps) - 1):
            return None
        return (self.started_at or self.created_at) + steps[following].share * self.duration

    def advance(self, now: float) -> None:
        """Begin the next step: the first one starts the job, the last one ends it, the failing one fails it."""
        self.step += 1
        steps = STEPS[self.type]
        step = steps[self.step]
        if self.phase == "pending":
            self.phase, self.started_at = "running", now
        self._say(now, step.message)
        if step.stage == self.fail_stage:
            error = {"code": "StageFailed", "message": f'The stage "{step.stage}" failed', "retryable": True}
            self.end(now, "failed", message=f"{self.type.capitalize()} failed: {step.message}", error=error)
        elif self.step == len(steps) - 1:
            self.end(now, "succeeded", message=f"{self.type.capitalize()} completed successfully")

    def end(self, now: float, phase: str, *, message: str, error: dict[str, Any] | None = None) -> None:
        """Put the job into a final phase."""
        self.phase, self.finished_at, self.error = phase, now, error
        self._say(now, message)

    def view(self, now: float) -> dict[str, Any]:
        """Return the job as the API shows it."""
        return {
            "jobId": self.id,
            "serverId": self.server_id,
            "requestId": self.request_id,
            "type": self.type,
            "phase": self.phase,
            "message": self.message,
            "progress": self._progress(now),
            "stage": STEPS[self.type][self.step].stage if self.step >= 0 else "",
            "createdAt": timestamp(self.created_at),
            "startedAt": timestamp(self.started_at),
            "finishedAt": timestamp(self.finished_at),
            "error": self.error,
        }

    def saved(self) -> dict[str, Any]:
        """Return the job as the state file keeps it; `Job(**job.saved())` is the way back."""
        return asdict(self)

    def _progress(self, now: float) -> int:
        if self.phase == "succeeded":
            return 100
        if self.started_at is None:
            return 0
        until = now if self.finished_at is None else self.finished_at
        return max(0, min(99, int(100 * (until - self.started_at) / max(self.duration, 0.001))))

    def _say(self, now: float, message: str) -> None:
        self.message = message
        self.log.append(f"{timestamp(now)} {message}")


def timestamp(moment: float | None) -> str | None:
    """Return seconds since the epoch as RFC 3339 in UTC with milliseconds; None stays None."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
