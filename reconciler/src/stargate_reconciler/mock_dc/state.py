# SPDX-License-Identifier: Apache-2.0
"""The state file of the mock datacenter: written whole, atomically, by one thread.

Changes are gathered for a moment; `commit` waits until what was true before the call is on disk, and callers
that come together share one write. What is saved is the book's business.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEBOUNCE_SECONDS = 0.25
VERSION = 1


class StateError(Exception):
    """The state file cannot be read or written; the text is a sentence."""


def load(path: Path | None) -> dict[str, Any]:
    """Return what was saved, {} when there is no file or no path.

    Raises StateError when the file is not one of ours: it is never overwritten then.
    """
    if path is None or not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(f"Failed to read state file {path}: {error}. Move it away to start empty.") from error
    if not isinstance(saved, dict) or saved.get("version") != VERSION:
        raise StateError(f"Failed to read state file {path}: not a state of this program. Move it away.")
    return saved


class Saver:
    """Writes the snapshot to the path when something changed. Without a path every call is free."""

    def __init__(self, path: Path | None, snapshot: Callable[[], dict[str, Any]]) -> None:
        """Start the writing thread; `snapshot` is called from it and must lock for itself."""
        self._path = path or Path()
        self._on = path is not None
        self._snapshot = snapshot
        self._cond = threading.Condition()
        self._wanted = 0  # changes seen
        self._written = 0  # changes on disk
        self._urgent = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._thread.start()

    def changed(self) -> None:
        """Say that something changed; it is written within a moment."""
        with self._cond:
            self._wanted += 1
            self._cond.notify_all()

    def commit(self) -> None:
        """Return when everything that changed before this call is on disk."""
        if not self._on:
            return
        with self._cond:
            mine = self._wanted
            if self._written >= mine:
                return
            self._urgent = True
            self._cond.notify_all()
            self._cond.wait_for(lambda: self._written >= mine or not self._thread.is_alive())
            if self._written < mine:
                raise StateError(f"Failed to write state file {self._path}: the writer has stopped.")

    def close(self) -> None:
        """Write what is left and stop the thread."""
        if not self._on:
            return
        with self._cond:
            self._closed = True
            self._cond.notify_all()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._cond:
                self._cond.wait_for(lambda: self._wanted > self._written or self._closed)
                if self._wanted == self._written:
                    return
                self._cond.wait_for(lambda: self._urgent or self._closed, timeout=DEBOUNCE_SECONDS)
                self._urgent = False
                aim = self._wanted
            if not self._write():
                threading.Event().wait(1.0)  # a full disk may be cleared: try again, callers wait meanwhile
                if self._closed:
                    return
                continue
            with self._cond:
                self._written = aim
                self._cond.notify_all()

    def _write(self) -> bool:
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with partial.open("w", encoding="utf-8") as out:
                json.dump({"version": VERSION, **self._snapshot()}, out, separators=(",", ":"))
                out.flush()
                os.fsync(out.fileno())
            partial.replace(self._path)
        except OSError as error:
            print(f"Failed to write state file {self._path}: {error}. Trying again.", file=sys.stderr, flush=True)
            return False
        return True
