# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site's own network in user mode: a small switch that outlives every machine, or cables into the router.

PRIVATE to the collection. Needs no root and touches nothing of the host's network. The switch is vde_switch where it
is installed and QEMU knows it; else the router's process is the hub, and workers lose it when that process ends.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, locked, make_directory
from ansible_collections.stargate.core.plugins.module_utils._process import alive, end, environment, remember
from ansible_collections.stargate.core.plugins.module_utils._program import available, found
from ansible_collections.stargate.core.plugins.module_utils._qemu import SLOTS

SWITCH = "vde_switch"
_LONGEST_PATH = 80
"""Of the switch's directory; sockets in it have longer names, and a socket's path ends at 107."""
_PORTS = 64
PATIENCE = 10.0
"""Seconds that the switch has to come up."""
_FILES = ("lan.pid", "lan.log", "lan.kind", "lan.switch-pid")


@dataclass(frozen=True)
class Lan:
    """The network of one site; under `held` nobody else changes it."""

    places: Places
    definition: Definition

    @property
    def directory(self) -> Path:
        """Return the site's directory."""
        return self.places.site(self.definition.namespace, self.definition.site)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of the site's network."""
        lock = self.directory.with_name(f".{self.directory.name}.lock")
        with locked(lock, f"the network of site {self.definition.namespace}/{self.definition.site}", 120.0):
            yield
            if not self.directory.exists():
                lock.unlink(missing_ok=True)

    def kind(self, *, vde: bool) -> str:
        """Return vde or hub: as it was chosen for the site's first machine, or as it would be now."""
        chosen = self.directory / "lan.kind"
        if chosen.exists():
            return chosen.read_text(encoding="ascii").strip()
        fits = len(str(self.directory / "lan")) <= _LONGEST_PATH
        return "vde" if vde and fits and available(SWITCH) else "hub"

    def ensure(self, kind: str) -> None:
        """Let the network be there for a machine that is about to start."""
        make_directory(self.directory)
        (self.directory / "lan.kind").write_text(kind, encoding="ascii")
        if kind == "vde" and not alive(self.directory / "lan.pid"):
            self._start_switch()
        if kind == "hub" and self.definition.role == "router":
            for path in self.directory.glob("lan-*.sock"):
                path.unlink()

    def settle(self, kind: str) -> None:
        """Return when workers can be connected to a router that has just started; QEMU does not wait for that."""
        if kind != "hub" or self.definition.role != "router":
            return
        until = time.monotonic() + PATIENCE
        while len(list(self.directory.glob("lan-*.sock"))) < SLOTS:
            if time.monotonic() > until:
                raise StargateError(
                    f"Failed to start the network of site {self.definition.namespace}/{self.definition.site}: QEMU did "
                    "not make its sockets.",
                    code="LanFailed",
                )
            time.sleep(0.02)

    def rest(self) -> None:
        """End the switch; it is started again with the next machine."""
        end(self.directory / "lan.pid")
        for path in [self.directory / "lan.switch-pid", *(self.directory / "lan").glob("*")]:
            path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            (self.directory / "lan").rmdir()

    def remove(self) -> None:
        """Leave nothing of the network; what others keep in the site's directory stays."""
        self.rest()
        for path in [*(self.directory / name for name in _FILES), *self.directory.glob("lan-*.sock")]:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # others keep something there, or it never was
            self.directory.rmdir()

    def _start_switch(self) -> None:
        self.rest()
        doing = f"start the network of site {self.definition.namespace}/{self.definition.site}"
        # Without -d the switch would take commands from its standard input, and end with it.
        command = [
            found(SWITCH, doing=doing),
            "-s",
            "lan",
            "-m",
            "0600",
            "--dirmode",
            "0700",
            "-n",
            str(_PORTS),
            "-f",
            os.devnull,
        ]
        command += ["-d", "-p", "lan.switch-pid"]
        with (self.directory / "lan.log").open("wb") as log:
            subprocess.run(
                command,
                cwd=self.directory,
                env=environment(f"{self.definition.namespace}/{self.definition.site}"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=20,
                check=False,
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(OSError, ValueError):
                said = (self.directory / "lan.switch-pid").read_text(encoding="ascii")
                if said.endswith("\n") and (self.directory / "lan" / "ctl").exists():
                    remember(self.directory / "lan.pid", int(said))
                    return
            time.sleep(0.05)
        said = (self.directory / "lan.log").read_text(encoding="utf-8", errors="replace")
        raise StargateError(f"Failed to {doing}: {SWITCH} did not come up.", code="LanFailed", details=said)
