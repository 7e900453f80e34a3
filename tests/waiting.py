# SPDX-License-Identifier: Apache-2.0
"""Waiting for something to come about, with an end to the patience.

Only what another thread or process does is waited for; what a test does itself has happened when it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def until(check: Callable[[], object], *, seconds: float = 5.0, pause: float = 0.01) -> float:
    """Ask `check` again and again until it says yes; returns how many seconds that took, fails after `seconds`."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"it did not come about in {seconds} s"
        time.sleep(pause)
    return time.monotonic() - began
