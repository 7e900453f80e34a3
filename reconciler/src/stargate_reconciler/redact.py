# SPDX-License-Identifier: Apache-2.0
"""Foreign text made fit for a status, an Event or a log: short, one line, without secrets.

Only text goes in and out; which secrets a run knows is said by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LIMIT = 1024
"""Longest text that a status message may have, in bytes (DESIGN 3)."""

_SHAPES = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b"),
    re.compile(r"\btskey-[A-Za-z0-9-]+"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
)
"""Private keys, bootstrap tokens, tailnet keys, JSON web tokens, bearer headers."""

_PASSWORD = re.compile(r"(?i)(password[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|\S+)")


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with whatever is or looks secret as [redacted]; its lines stay."""
    for secret in sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
        for line in secret.splitlines():
            if len(line.strip()) >= 16:
                text = text.replace(line.strip(), "[redacted]")
    for shape in _SHAPES:
        text = shape.sub("[redacted]", text)
    return _PASSWORD.sub(r"\1[redacted]", text)


def redacted(text: str, secrets: Iterable[str] = (), *, limit: int = LIMIT) -> str:
    """Return `text` on one line of at most `limit` bytes of UTF-8, with whatever is or looks secret as [redacted]."""
    text = " ".join(masked(text, secrets).split())
    text = "".join(character for character in text if character.isprintable())
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 4].decode(errors="ignore").rstrip() + " ..."
