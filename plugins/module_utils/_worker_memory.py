# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker's modules remember between runs: which program has which version, which restarts are owed.

PRIVATE to the collection. A program is asked again as soon as its file is another; nothing here is believed blindly.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._version import Version, found
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host

MEMORY_FILE = "/var/lib/stargate/worker.json"


class Memory:
    """The file with what is remembered; one that cannot be read counts as empty."""

    def __init__(self, host: Host, *, read_only: bool = False) -> None:
        """Read what is there. With `read_only` nothing is ever written."""
        self.host = host
        self._read_only = read_only
        try:
            content = json.loads(host.text(MEMORY_FILE) or "{}")
        except ValueError:
            content = {}
        self._content: dict[str, Any] = content if isinstance(content, dict) else {}

    def version(self, program: str) -> Version | None:
        """Return the version that a program states, None when there is no such program or it states none."""
        mark = self._mark(program)
        if mark is None:
            return None
        known = self._programs.get(program, {})
        if known.get("mark") == mark:
            return found(known.get("version", ""))
        version = self.asked(program, program)
        self._programs[program] = {"mark": mark, "version": str(version or ""), "digest": ""}
        self._save()
        return version

    def digest(self, program: str) -> str:
        """Return the checksum that a program had when it was installed, "" when it is another file now."""
        known = self._programs.get(program, {})
        return str(known.get("digest", "")) if known.get("mark") == self._mark(program) else ""

    def asked(self, program: str, file: str) -> Version | None:
        """Return the version that a file states which is, or is to be, this program."""
        return found(self.host.run([file, *_QUESTIONS.get(program, ["--version"])], timeout=60).out)

    def installed(self, program: str, version: Version, digest: str) -> None:
        """Remember version and checksum of the program that was just installed."""
        self._programs[program] = {"mark": self._mark(program), "version": str(version), "digest": digest}
        self._save()

    @property
    def owed(self) -> list[str]:
        """What has to be done still, since files have changed: names of services, and "upgrade"."""
        return [str(name) for name in self._content.get("owed", [])]

    def owe(self, name: str) -> None:
        """Remember that something has to be done; the word survives a crash."""
        if name not in self.owed:
            self._content["owed"] = [*self.owed, name]
            self._save()

    def paid(self, name: str) -> None:
        """Forget what has been done."""
        if name in self.owed:
            self._content["owed"] = [other for other in self.owed if other != name]
            self._save()

    @property
    def _programs(self) -> dict[str, dict[str, Any]]:
        programs: dict[str, dict[str, Any]] = self._content.setdefault("programs", {})
        return programs

    def _mark(self, program: str) -> list[int] | None:
        try:
            status = self.host.path(program).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [status.st_size, status.st_mtime_ns, status.st_ino]

    def _save(self) -> None:
        if not self._read_only:
            self.host.write(MEMORY_FILE, json.dumps(self._content, indent=1, sort_keys=True) + "\n")


_QUESTIONS = {"/usr/bin/kubeadm": ["version", "-o", "short"]}
