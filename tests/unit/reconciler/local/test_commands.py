# SPDX-License-Identifier: Apache-2.0
"""Long-running commands: their log, their last words, their end, and programs that are not here.

The commands are real shells.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from tests.waiting import until

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local import commands
from stargate_reconciler.local.processes import Identity
from stargate_reconciler.local.progress import Step


def test_output_is_kept_and_shown(tmp_path: Path) -> None:
    """Everything goes to the log, the line with the prefix to the step."""
    step = Step("making")
    commands.run(["sh", "-c", "echo one; echo I: two... >&2"], log=tmp_path / "log", step=step, prefix="I: ")
    assert (tmp_path / "log").read_text() == "$ sh -c echo one; echo I: two... >&2\none\nI: two...\n"
    assert step.detail == "two"


def test_failure_has_the_last_words(tmp_path: Path) -> None:
    """The error tells code, last words and where all of it is."""
    with pytest.raises(WorldError, match=r"sh ended with code 3: no room \(all of it in .*/log\)"):
        commands.run(["sh", "-c", "echo no room; exit 3"], log=tmp_path / "log")


def test_interrupt_ends_the_whole_session(tmp_path: Path) -> None:
    """After Ctrl-C neither the command nor what it has started is there."""
    pidfile = tmp_path / "pid"

    def interrupt() -> None:
        while not pidfile.exists() or not pidfile.read_text():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        commands.run(["sh", "-c", f"sleep 60 & echo $! > {pidfile}; wait"], log=tmp_path / "log")
    until(lambda: Identity.of(int(pidfile.read_text())) is None)  # its output closes just before its end


def test_missing_programs_are_named_with_their_packages() -> None:
    """The sentence names what is missing and what to install; what is here passes."""
    commands.require({"sh": "dash"}, purpose="try")
    with pytest.raises(UserError, match=r"Failed to try: there is no not-1 and no not-2 here.*apt-get install a b"):
        commands.require({"not-1": "b", "sh": "dash", "not-2": "a"}, purpose="try")
