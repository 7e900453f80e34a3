# SPDX-License-Identifier: Apache-2.0
"""Long-running commands: their output in a log, their last words in the error, nothing of them left after Ctrl-C.

What is run, and what it makes, is the caller's question. What shall live longer than the caller is in processes.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local.progress import Step

_WORDS = 512


def require(programs: Mapping[str, str], *, purpose: str) -> None:
    """Raise UserError that names the Debian packages of those programs that are not here."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        packages = " ".join(sorted({programs[program] for program in missing}))
        raise UserError(
            f"Failed to {purpose}: there is no {' and no '.join(missing)} here. "
            f"Install what is missing, on Debian and Ubuntu: apt-get install {packages}"
        )


def run(command: Sequence[str | Path], *, log: Path, step: Step | None = None, prefix: str = "") -> None:
    """Run a command to its end, its output appended to `log`; WorldError with its last words when it fails.

    Output lines that begin with `prefix` are shown as the detail of `step`. An exception in here, Ctrl-C too, ends
    the command with all that it has started.
    """
    environ = dict(os.environ) | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(map(str, command))}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            env=environ,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            last = _follow(process, file, lambda line: _show(line, prefix, step))
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code != 0:
        raise WorldError(f"{command[0]} ended with code {code}: {last.strip()} (all of it in {log})")


def _follow(process: subprocess.Popen[str], file: TextIO, show: Callable[[str], None]) -> str:
    """Write a command's output to a file until it ends, each line shown; returns its last words."""
    last = ""
    for line in process.stdout or ():
        file.write(line)
        last = (last + line)[-_WORDS:]
        show(line)
    return last


def _show(line: str, prefix: str, step: Step | None) -> None:
    if step is not None and prefix and line.startswith(prefix):
        step.detail = line.removeprefix(prefix).strip().rstrip(".")


def _end(process: subprocess.Popen[str]) -> None:
    """End a command and all of its session: politely, so that it takes down what it made, then not."""
    for signum, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return
