# SPDX-License-Identifier: Apache-2.0
"""What a run printed, kept for whoever wants to read it afterwards: without secrets, and of bounded size.

While a run goes on this is in its private directory in memory; nothing that was not looked through reaches the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .redact import masked

KEPT = ("stdout", "stderr", "rc", "status")
LONGEST = 8 * 1024 * 1024
"""Characters that are kept of a file: its last ones."""


def keep(source: Path, target: Path, secrets: Iterable[str]) -> None:
    """Write to `target` what `source` has, with whatever is or looks secret as [redacted]."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = tuple(secrets)
    for name in KEPT:
        if (source / name).is_file():
            text = masked((source / name).read_text(encoding="utf-8", errors="replace"), known)
            descriptor = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text[-LONGEST:])
