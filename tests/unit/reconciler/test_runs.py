# SPDX-License-Identifier: Apache-2.0
"""Dead processes that a guard has left to the daemon do not stay.

How runs are stopped is in test_runner.py.
"""

from __future__ import annotations

import os
import subprocess
import time

from stargate_reconciler.runs import Orphans, _dead_children


def test_the_dead_are_taken_leave_of() -> None:
    """A dead child that nobody has waited for in time is taken leave of; one that has just died is not."""
    orphans = Orphans()
    child = subprocess.Popen(["true"])
    until = time.monotonic() + 10
    while child.pid not in dict(_dead_children(os.getpid())) and time.monotonic() < until:
        time.sleep(0.01)
    orphans.bury()
    assert child.pid in dict(_dead_children(os.getpid()))
    assert orphans.bury(after=0.0) >= 1
    assert child.pid not in dict(_dead_children(os.getpid()))
    child.wait()


def test_the_living_are_left_alone() -> None:
    """A child that runs is nobody's to bury."""
    child = subprocess.Popen(["sleep", "60"])
    assert child.pid not in dict(_dead_children(os.getpid()))
    child.kill()
    child.wait()
