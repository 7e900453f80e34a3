# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of the API server means, or that none came: one of our few kinds of failure, with its sentence.

PRIVATE to the collection. Pure. `doing` completes "Failed to" in every sentence.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    StargateError,
    Unavailable,
    Unreachable,
    clipped,
)

EXPIRED = 410
"""What was asked for is too old by now; it has to be listed from the start."""
RIGHTS = "reconciler/deploy/rbac.yaml"


@dataclass(frozen=True)
class Answer:
    """An answer: status, JSON, the seconds to wait that it asks for, and the server's clock (an HTTP date)."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None
    date: str = ""

    @property
    def message(self) -> str:
        """What a Status object says, in one line."""
        return clipped(str(self.body.get("message") or self.body.get("reason") or f"HTTP {self.status}")).rstrip(".")


def read(status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
    """Return the answer; what is no JSON object becomes the message of one."""
    body: Any = None
    with suppress(ValueError):
        body = json.loads(content)
    if not isinstance(body, dict):
        body = {"message": content[:1024].decode("utf-8", "replace")}
    seconds = None
    with suppress(ValueError, TypeError):
        seconds = float(headers.get("Retry-After") or str((body.get("details") or {}).get("retryAfterSeconds")))
    return Answer(status, body, seconds, headers.get("Date") or "")


def refused(answer: Answer, doing: str, address: str) -> StargateError:
    """Return the failure that an answer is."""
    if answer.status in _KINDS:
        kind, code, remedy = _KINDS[answer.status]
        cause = f"{answer.message}. {remedy}" if remedy else f"{answer.message}."
        return kind(f"Failed to {doing}: {cause}", code=code, details=answer.message)
    if answer.status >= 500 or answer.status in (EXPIRED, 429):
        code = {EXPIRED: "Expired", 429: "Throttled"}.get(answer.status, "ServerError")
        text = f"Failed to {doing}: the API server at {address} answers {answer.status}, {answer.message}."
        error = Unavailable(text, code=code, details=answer.message)
        error.retry_after = answer.retry_after
        return error
    text = f"Failed to {doing}: {address} answers {answer.status}, {answer.message}. Is it a Kubernetes API server?"
    return Invalid(text, details=answer.message)


def unanswered(error: BaseException, doing: str, address: str) -> StargateError:
    """Return the failure that a broken connection is."""
    said = _cause(error)
    if _is_distrust(error) or "CERTIFICATE_VERIFY_FAILED" in said:
        text = f"Failed to {doing}: the certificate of {address} is not trusted by the kubeconfig: {said}."
        return Denied(f"{text} Is it another cluster's kubeconfig?", code="CertificateInvalid", details=said)
    text = f"Failed to {doing}: no answer from {address}: {said}. Is the API server up, and is this its address?"
    return Unreachable(text, details=said)


_KINDS: dict[int, tuple[type[StargateError], str, str]] = {
    400: (Invalid, "Invalid", ""),
    401: (Denied, "Unauthorized", "The credentials of the kubeconfig are not accepted."),
    403: (Denied, "Forbidden", f"{RIGHTS} has the rights that are needed."),
    404: (NotFound, "NotFound", ""),
    409: (Conflict, "Conflict", ""),
    422: (Invalid, "Invalid", ""),
}


def _is_distrust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _cause(error: BaseException) -> str:
    """Return what went wrong in the words of the innermost exception that says something."""
    said = str(getattr(error, "reason", None) or error) or type(error).__name__
    return clipped(said.rpartition("): ")[2] if "object at 0x" in said else said).rstrip(".")
