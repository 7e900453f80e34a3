# SPDX-License-Identifier: Apache-2.0
"""What is going on, for a person who waits: a step that takes more than two seconds is named, with elapsed time.

On a terminal one line is kept up to date; elsewhere a line comes every few seconds. Results are printed elsewhere.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from typing import TextIO


class Step:
    """One step under way; `detail` may be set at any time and is shown with the next line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.detail = ""
        self.started = time.monotonic()

    def __str__(self) -> str:
        """Return the line that a person reads."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.text}{detail}, {time.monotonic() - self.started:.0f} s"


class Progress:
    """Shows steps on a stream, each line with a prefix. Without a stream it is silent."""

    def __init__(self, stream: TextIO | None = None, *, prefix: str = "", patience: float = 2.0, period: float = 10.0):
        self._stream = stream
        self._prefix = f"{prefix}: " if prefix else ""
        self._patience = patience
        self._is_terminal = stream is not None and stream.isatty()
        self._period = 0.5 if self._is_terminal else period

    def note(self, text: str) -> None:
        """Show a line now."""
        if self._stream is not None:
            self._stream.write(f"{self._prefix}{text}\n")
            self._stream.flush()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show a step while the block runs, and that it is done; nothing when it is over within the patience."""
        step, done = Step(text), threading.Event()
        watcher = threading.Thread(target=self._watch, args=(step, done), daemon=True)
        watcher.start()
        try:
            yield step
        except BaseException:
            self._finish(done, watcher)
            raise
        self._finish(done, watcher)
        if time.monotonic() - step.started >= self._patience:
            self.note(f"{step}: done")

    def _finish(self, done: threading.Event, watcher: threading.Thread) -> None:
        done.set()
        watcher.join()

    def _watch(self, step: Step, done: threading.Event) -> None:
        if self._stream is None or done.wait(self._patience):
            return
        while True:
            if self._is_terminal:
                width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be written over
                self._stream.write(f"\r\x1b[K{f'{self._prefix}{step} …'[:width]}")
                self._stream.flush()
            else:
                self.note(f"{step} …")
            if done.wait(self._period):
                break
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
