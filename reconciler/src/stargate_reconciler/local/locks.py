# SPDX-License-Identifier: Apache-2.0
"""One program at a time in a directory, without a lock file that somebody would have to remove.

The lock is on the directory itself and ends with the program that holds it, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(directory: Path, *, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of a directory, made now when it is not there; `waiting` is called before a wait begins."""
    handle = _lock(directory, waiting)
    try:
        yield
    finally:
        os.close(handle)


def _lock(directory: Path, waiting: Callable[[], object]) -> int:
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # the holder before us may have removed the directory
            if os.path.samestat(os.fstat(handle), directory.stat()):
                return handle
        os.close(handle)
