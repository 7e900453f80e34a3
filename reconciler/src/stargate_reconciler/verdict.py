# SPDX-License-Identifier: Apache-2.0
"""What a failed task, an unreachable host or a dead process means for a host: pure functions to a Result.

The shape of the events is ansible-runner's; nothing of it is imported here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .model import Outcome, Result
from .redact import redacted

REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
"""What may stand as the reason of a condition."""
DELIBERATE = ("assert", "fail", "validate_argument_spec")
"""Actions whose failure was meant by the author of the play: trying again would say the same."""
FACTS = ("os", "nodeName", "nodeUID", "kubeletVersion", "bootID", "podCIDR", "ipv4", "dcJobID", "message", "stage")
"""What a playbook may tell of a host, by set_stats."""
EXHAUSTED = tuple(
    os.strerror(number)
    for number in (errno.EAGAIN, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
)
"""What the system says when this machine has run out of something: disk, memory, processes, files."""

SILENT = Result(Outcome.FAILED, "TaskFailed", "A task failed and said nothing.")
EMPTY = Result(
    Outcome.EMPTY,
    "NoResult",
    "The playbook did nothing on this host. Its `hosts:` has to match the Servers, as `hosts: all` does.",
    retryable=False,
)


def facts(said: Mapping[str, Any], secrets: Sequence[str]) -> dict[str, str]:
    """Return what `set_stats` tells of a host, as text without secrets."""
    return {key: redacted(str(said[key]), secrets) for key in FACTS if said.get(key)}


def reported(said: Mapping[str, Any], before: Result, secrets: Sequence[str]) -> Result:
    """Return the failure that a playbook reports itself; what it leaves out is taken from the failed task `before`."""
    reason = str(said.get("reason") or "")
    return Result(
        Outcome.FAILED,
        reason=reason if REASON.fullmatch(reason) else before.reason,
        message=redacted(str(said.get("message") or before.message), secrets),
        task=str(said.get("task") or before.task),
        retryable=bool(said.get("retryable", before.retryable)),
        job_ended=before.job_ended,
    )


def failure(data: Mapping[str, Any], secrets: Sequence[str]) -> Result:
    """Return the failure of a task. Its result may carry `failure: {code, details, retryable}`; else it is retried."""
    res = _map(data.get("res"))
    told = _map(res.get("failure"))
    deliberate = str(data.get("task_action", "")).rpartition(".")[2] in DELIBERATE
    text = str(res.get("msg") or res.get("stderr") or res.get("stdout") or "the task gave no message")
    if text.startswith("non-zero return code"):
        text = f"exit code {res.get('rc', '?')}: {res.get('stderr') or res.get('stdout') or 'no output'}"
    return Result(
        Outcome.FAILED,
        reason=str(told.get("code") or ("Refused" if deliberate else "TaskFailed")),
        message=redacted(text, secrets),
        task=str(data.get("task", "")),
        retryable=bool(told.get("retryable", not deliberate)),
        job_ended=_map(res.get("job")).get("phase") in ("failed", "canceled"),
    )


def unreachable(server: str, data: Mapping[str, Any], secrets: Sequence[str]) -> Result:
    """Return the failure of a host that SSH did not reach; a changed host key is told apart and not retried."""
    text = redacted(str(_map(data.get("res")).get("msg", "")), secrets, limit=600)
    task = str(data.get("task", ""))
    if "IDENTIFICATION HAS CHANGED" in text or "Host key verification failed" in text:
        message = (
            f"Server {server} shows another SSH host key than the one pinned in its status.sshHostKeys, so nothing "
            "was sent to it. If it was reinstalled on purpose, remove the pinned key and apply a new Operation."
        )
        return Result(Outcome.UNREACHABLE, "HostKeyChanged", message, task, retryable=False)
    message = f"Server {server} was not reached: {text} Check that the machine is up and that its address is right."
    return Result(Outcome.UNREACHABLE, "Unreachable", message, task)


def crash(code: int | None, words: str, secrets: Sequence[str]) -> Result:
    """Return the result of a process that ended without statistics; `code` is None when it never began.

    Ansible's own refusal of a playbook is final, unless this machine has run out of something.
    """
    said = redacted(words, secrets, limit=600)
    if code is not None and 0 <= code < 128 and not any(cause in said for cause in EXHAUSTED):
        message = f"The playbook could not be run (exit code {code}): {said or 'no output'}"
        return Result(Outcome.CRASHED, "PlaybookError", message, retryable=False)
    how = "could not be started" if code is None else f"ended with exit code {code}"
    return Result(Outcome.CRASHED, "RunCrashed", f"The Ansible process {how}. {said}".strip())


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
