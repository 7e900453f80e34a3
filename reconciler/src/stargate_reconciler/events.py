# SPDX-License-Identifier: Apache-2.0
"""Kubernetes Events, written in the background so that no decision waits for them.

When the API server cannot take them they are dropped after a while: an Event is a courtesy, a status is the truth.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from datetime import UTC, datetime

from .errors import ReconcilerError
from .kube import Kube
from .model import GROUP, VERSION, Object, formatted_time
from .redact import redacted
from .status import Note

logger = logging.getLogger(__name__)

COMPONENT = "stargate-reconciler"


def event_body(kind: str, item: Object, note: Note, now: datetime) -> Object:
    """Return a core/v1 Event about `item`. Its name is unique by object, reason, message and second."""
    meta = item["metadata"]
    message = redacted(note.message)
    mark = hashlib.sha256(f"{meta.get('uid')} {note.reason} {message} {now.timestamp()}".encode()).hexdigest()[:16]
    moment = formatted_time(now)
    return {
        "metadata": {"name": f"{meta['name'][:220]}.{mark}", "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
        },
        "type": "Warning" if note.warning else "Normal",
        "reason": note.reason,
        "message": message,
        "source": {"component": COMPONENT},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


class Recorder:
    """Takes notes and writes them as Events, in order, at most 1,000 waiting."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._waiting: queue.Queue[tuple[str, Object] | None] = queue.Queue(maxsize=1000)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def note(self, kind: str, item: Object, note: Note) -> None:
        """Ask for an Event about `item`; never waits, and drops the note when a thousand are waiting."""
        body = event_body(kind, item, note, datetime.now(UTC))
        try:
            self._waiting.put_nowait((body["metadata"]["namespace"], body))
        except queue.Full:
            logger.warning("Dropped an Event, a thousand are waiting", extra={"reason": note.reason})

    def stop(self, seconds: float = 3.0) -> None:
        """Write what is waiting, for at most `seconds`; nothing when it was never started."""
        if not self._thread.is_alive():
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            try:
                self._kube.create_event(*entry)
            except ReconcilerError as error:
                logger.debug("Failed to write an Event: %s", error)
