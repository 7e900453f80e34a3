# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of operation_step to its result: known already, or one command run to its end.

PRIVATE to the collection. Who may run it, and whether it is known, is the journal's to say.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from ansible_collections.stargate.core.plugins.module_utils import _operation as operations
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout, clipped
from ansible_collections.stargate.core.plugins.module_utils._journal import Entry, Step, Turn

LONGEST_OUTPUT = 65536
"""Characters of each stream that a result has: the last ones."""
LONGEST_KEPT = 4096
"""Characters of each stream that the journal keeps."""

SPEC: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "required": True},
        "argv": {"type": "list", "elements": "str"},
        "chdir": {"type": "path"},
        "stdin": {"type": "str"},
        "destructive": {"type": "bool", "default": False},
        "reboots": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 600},
    },
    "required_one_of": [("argv", "reboots")],
    "mutually_exclusive": [("argv", "reboots")],
    "supports_check_mode": True,
}


def perform(params: Mapping[str, Any], turn: Turn, *, check_mode: bool, secret: bool) -> dict[str, Any]:
    """Do the step unless it is known; returns the module's result. With `secret` the journal gets no output."""
    step = step_of(params)
    if check_mode:
        return {"rc": 0, "changed": True, "step": {"name": step.name, "state": "", "resumed": False}}
    known = turn.known(step)
    if known is not None:
        result = {"rc": known["rc"], "stdout": "", "stderr": "", **(known["result"] or {})}
        return {**result, "changed": False, "step": _said(known, resumed=True)}
    with turn.step(step) as entry:
        result = {"rc": 0, "stdout": "", "stderr": ""} if step.reboots else _run(params)
        kept = {"stdout": result["stdout"][-LONGEST_KEPT:], "stderr": result["stderr"][-LONGEST_KEPT:]}
        entry.update(rc=result["rc"], result=None if secret else kept)
    return {**result, "changed": True, "step": _said(entry, resumed=False)}


def step_of(params: Mapping[str, Any]) -> Step:
    """Return the step that is asked for."""
    if not 0 < len(params["name"]) <= 128 or not params["name"].isprintable():
        raise Invalid(f"Failed to take {clipped(params['name'], 60)!r} for the name of a step: 1 to 128 characters.")
    if params["argv"] == [] or (params["argv"] and not params["argv"][0]):
        raise Invalid(f"Failed to do {params['name']}: argv names no program.")
    return Step(params["name"], destructive=params["destructive"] or params["reboots"], reboots=params["reboots"])


def failure(name: str, result: Mapping[str, Any]) -> StargateError | None:
    """Return what a result's exit code says, None when all went well."""
    if not result["rc"]:
        return None
    last = [line for line in (result["stderr"].strip() or result["stdout"].strip()).splitlines() if line.strip()]
    said = clipped(last[-1]) if last else "it said nothing"
    text = f"Failed to do {name}: the command ended with {result['rc']}: {said.rstrip('.')}."
    return StargateError(text, code="StepFailed", details=said, retryable=True)


def _said(entry: Entry, *, resumed: bool) -> dict[str, Any]:
    boot = {"boot_id": entry["boot_id"]} if entry.get("reboots") else {}
    return {"name": entry["step"], "state": entry["state"], "resumed": resumed, **boot}


def _run(params: Mapping[str, Any]) -> dict[str, Any]:
    """Run the command; its output goes to files without names, so that a grandchild that stays holds up nobody."""
    name = params["name"]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write((params["stdin"] or "").encode())
        given.seek(0)
        environment = {**os.environ, operations.STEP: name}
        try:
            process = subprocess.Popen(
                params["argv"],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=params["chdir"] or "/",
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            text = f"Failed to do {name}: {params['argv'][0]} cannot be started: {clipped(str(error))}."
            raise Invalid(text, code="StepNotStarted") from error
        try:
            code = process.wait(params["timeout"])
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                text = f"Failed to do {name}: it did not end within {params['timeout']} seconds, and was killed."
                raise Timeout(text, code="StepTimeout", details=_tail(err)) from error
            raise
        return {"rc": code if code >= 0 else 128 - code, "stdout": _tail(out), "stderr": _tail(err)}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and all that it has started in its session, or left behind elsewhere."""
    below = operations.below(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _tail(file: IO[bytes]) -> str:
    """Return the last of what a file has."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LONGEST_OUTPUT))
    return file.read().decode(errors="replace")
