# SPDX-License-Identifier: Apache-2.0
"""What the world is told besides statuses: Events, metrics and the log, in one place and in the same words.

Nothing is decided here and no status is written.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime

from .events import Recorder
from .metrics import Metrics
from .model import Object, Operation, Outcome, Phase, Result, Server
from .status import Note

logger = logging.getLogger(__name__)


class Report:
    """Tells of each change of an Operation once."""

    def __init__(self, recorder: Recorder, metrics: Metrics) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self.ended_in: Counter[Phase] = Counter()

    def started(self, operation: Operation, item: Object, server: Object) -> None:
        """An attempt has begun; `item` and `server` are the objects as they now stand."""
        first = operation.attempts == 0
        message = str(item["status"]["message"])
        if first:
            self._metrics.to_running.observe((datetime.now(UTC) - operation.created).total_seconds())
        self._recorder.note("Operation", item, Note("Started" if first else "StartedAgain", message))
        text = f"Operation {operation.name} ({operation.act}) started. {message}"
        self._recorder.note("Server", server, Note("OperationStarted", text))

    def waits(self, operation: Operation, reason: str, message: str) -> None:
        """It cannot start yet."""
        self._recorder.note("Operation", operation.raw, Note(reason, message, reason != "ServerBusy"))

    def edit_ignored(self, operation: Operation) -> None:
        """Its spec was changed too late."""
        message = "The spec was changed after the start; the change is ignored. Apply a new Operation instead."
        self._recorder.note("Operation", operation.raw, Note("SpecChangeIgnored", message, warning=True))

    def retried(self, operation: Operation, message: str) -> None:
        """An attempt has failed and another one follows."""
        self._recorder.note("Operation", operation.raw, Note("AttemptFailed", message, warning=True))
        self._metrics.retried.labels(operation.act).inc()
        logger.warning("Operation %s/%s: %s", operation.namespace, operation.name, message)

    def ended(self, operation: Operation, server: Server | None, *, result: Result, message: str) -> None:
        """It has reached a final phase."""
        good = result.outcome is Outcome.SUCCEEDED
        phase = Phase.SUCCEEDED if good else Phase.FAILED
        reason = "Succeeded" if good else result.reason or "Failed"
        self.ended_in[phase] += 1
        self._recorder.note("Operation", operation.raw, Note(reason, message, not good))
        if server is not None:
            text = f"Operation {operation.name} ({operation.act}): {message}"
            self._recorder.note("Server", server.raw, Note(f"Operation{phase}", text, not good))
        self._metrics.ended.labels(operation.act, str(phase), reason).inc()
        seconds = (datetime.now(UTC) - operation.created).total_seconds()
        self._metrics.duration.labels(operation.act, str(phase)).observe(seconds)
        log = logger.info if good else logger.warning
        log("Operation %s/%s %s: %s", operation.namespace, operation.name, phase, message)
