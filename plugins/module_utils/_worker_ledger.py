# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker's module has changed, or would: the one place that knows check mode and writes the diff.

PRIVATE to the collection. Each change is a short text for people, and an act.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory


@dataclass
class Ledger:
    """The changes of one run, in their order."""

    host: Host
    memory: Memory
    check_mode: bool = False
    changes: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def do(self, text: str, act: Callable[[], object]) -> None:
        """Note a change, and make it unless in check mode."""
        if not self.check_mode:
            act()
        self.changes.append(text)

    def file(self, name: str, content: str, mode: int = 0o644, *, owes: Sequence[str] = ()) -> bool:
        """Have a file with this content and these permissions; returns whether it differed.

        What has to be done when it has changed is remembered before it changes.
        """
        before = self.host.text(name)
        if before == content and self.host.mode(name) == mode:
            return False
        for debt in owes:
            self.memory.owe(debt)
        self.diff.append(_difference(name, before or "", content))
        self.do(name, lambda: self.host.write(name, content, mode))
        return True

    def gone(self, name: str) -> bool:
        """Have no file of this name; returns whether there was one."""
        before = self.host.text(name)
        if before is None:
            return False
        self.diff.append(_difference(name, before, ""))
        self.do(f"{name} removed", self.host.path(name).unlink)
        return True

    def restart(self, service: str) -> None:
        """Restart a service, or start it, with the unit that it has now; it is not owed any more."""
        if not self.check_mode:
            self.reload()
            self.host.must(["systemctl", "restart", service], f"restart {service}", timeout=120)
        self.restarted.append(service)
        self.memory.paid(service)

    def reload(self) -> None:
        """Have systemd read its units again, if that is owed."""
        if "reload" in self.memory.owed and not self.check_mode:
            self.host.must(["systemctl", "daemon-reload"], "have systemd read its units again")
            self.memory.paid("reload")

    def result(self) -> dict[str, Any]:
        """Return what a module says of its changes."""
        return {"changed": bool(self.changes), "changes": self.changes, "restarted": self.restarted, "diff": self.diff}


def _difference(name: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": name, "after_header": name, "before": before, "after": after}
