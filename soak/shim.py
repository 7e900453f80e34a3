# SPDX-License-Identifier: Apache-2.0
"""A program called ansible-playbook, first on the reconcilers' PATH, that kills its reconciler when it was armed to.

Otherwise it is the real one. `at-exec` kills before the real one begins, `in-start` while it is starting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from soak.daemons import BIN
from soak.world import World

STARTS = ("at-exec", "in-start", "guard-at-exec")
_SCRIPT = """#!/bin/sh
# $PPID is the guard, and its parent is the reconciler
if mv {arm} {sprung} 2>/dev/null; then
  read -r _ _ _ reconciler _ </proc/$PPID/stat
  case $(cat {sprung}) in
    at-exec) kill -9 "$reconciler" ;;
    in-start) (sleep 0.3; kill -9 "$reconciler") & ;;
    guard-at-exec) kill -9 $PPID ;;
  esac
fi
exec {real} "$@"
"""


class Shim:
    """The program, and whether it is armed."""

    def __init__(self, world: World) -> None:
        directory = self._directory(world.scratch)
        directory.mkdir()
        self._arm, self._sprung = world.scratch / "shim-arm", world.scratch / "shim-sprung"
        script = _SCRIPT.format(arm=self._arm, sprung=self._sprung, real=BIN / "ansible-playbook")
        (directory / "ansible-playbook").write_text(script, encoding="utf-8")
        (directory / "ansible-playbook").chmod(0o755)

    @staticmethod
    def _directory(scratch: Path) -> Path:
        return scratch / "shim"

    @classmethod
    def environ(cls, scratch: Path) -> Mapping[str, str]:
        """Return the environment of reconcilers that meet the shim first."""
        return {"PATH": f"{cls._directory(scratch)}:{BIN}:{os.environ['PATH']}"}

    def arm(self, moment: str) -> None:
        """Have the next start of ansible-playbook kill its reconciler, or its guard."""
        self._sprung.unlink(missing_ok=True)
        self._arm.write_text(moment, encoding="ascii")

    def sprung(self) -> bool:
        """Whether it has killed since it was armed; forgets it."""
        found = self._sprung.exists()
        self._sprung.unlink(missing_ok=True)
        self._arm.unlink(missing_ok=True)
        return found
