# SPDX-License-Identifier: Apache-2.0
"""Which operations there are: playbooks by name, in directories. A file that is dropped in is known at the next look.

A playbook is not read here; what it does is its own affair.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from .errors import UserError

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""What an operation may be called: the pattern of spec.operation."""


def built_in() -> Path:
    """Return the directory of the collection's own operations. Raises UserError when stargate.core is not installed."""
    spec = importlib.util.find_spec("ansible_collections.stargate.core")
    for place in spec.submodule_search_locations or () if spec else ():
        found = Path(place).resolve() / "playbooks" / "operations"
        if found.is_dir():
            return found
    raise UserError(
        "The collection stargate.core is not installed. Run `make deps`, or ansible-galaxy collection install."
    )


class Catalogue:
    """Operations found in some directories; a later directory's file replaces an earlier one's of the same name."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = tuple(directories)
        self._marks: tuple[int, ...] = ()
        self._found: dict[str, str] = {}
        for directory in self._directories:
            if not directory.is_dir():
                raise UserError(
                    f"The operations directory {directory} does not exist. Make it, or correct --operations-dir."
                )

    def current(self) -> dict[str, str]:
        """Return the path of each operation's playbook by name. Reads the directories only when they have changed."""
        marks = tuple(d.stat().st_mtime_ns if d.is_dir() else 0 for d in self._directories)
        if marks != self._marks:
            self._found = {
                path.stem: str(path)
                for directory in self._directories
                for path in sorted(directory.glob("*.yml"))
                if NAME.fullmatch(path.stem)
            }
            self._marks = marks
        return self._found
