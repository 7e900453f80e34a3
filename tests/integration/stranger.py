# SPDX-License-Identifier: Apache-2.0
"""What another user of the machine sees of its processes: a program on its own, run by that user until its input ends.

It gathers every command line, and every environment that it is let read, and prints them as JSON. What must not be
among them is the tests' business.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path

PAUSE = 0.02


def read(path: str) -> str:
    """Return what a file of a process has; "" when it may not be read, or the process has gone."""
    try:
        return Path(path).read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def main() -> None:
    """Look again and again."""
    mine, lines, environs, rounds = str(os.getpid()), dict[tuple[str, str], None](), dict[str, None](), 0
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        rounds += 1
        for pid in (entry.name for entry in Path("/proc").glob("[0-9]*")):
            seen = (pid, read(f"/proc/{pid}/cmdline"))
            if pid == mine or seen in lines:
                continue
            lines[seen] = None
            environs[read(f"/proc/{pid}/environ")] = None
    said = {"rounds": rounds, "lines": sorted({line for _, line in lines}), "environs": sorted(filter(None, environs))}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
