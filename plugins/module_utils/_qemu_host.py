# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU machines on this host: started, found again, stopped, waited for.

PRIVATE to the collection. The provider behind `qemu_vm`. QEMU's command is `_qemu.py`'s question, what a disk is made
from `_qemu_stock.py`'s, the networks `_qemu_lan.py`'s and `_bridge_host.py`'s.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._bridge import Bridge, Tap
from ansible_collections.stargate.core.plugins.module_utils._bridge_host import BridgeHost
from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Conflict,
    Invalid,
    StargateError,
    Timeout,
    Unreachable,
    clipped,
)
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, is_port_free, load
from ansible_collections.stargate.core.plugins.module_utils._netns import NAMESPACES, ssh_banner
from ansible_collections.stargate.core.plugins.module_utils._process import alive, end, environment, gone, remember
from ansible_collections.stargate.core.plugins.module_utils._program import found, run
from ansible_collections.stargate.core.plugins.module_utils._qemu import (
    CONSOLE,
    CONTROL,
    DISK,
    LOG,
    PROGRAM,
    Setting,
    command,
    complaint,
    slot,
)
from ansible_collections.stargate.core.plugins.module_utils._qemu_ability import ability
from ansible_collections.stargate.core.plugins.module_utils._qemu_lan import Lan
from ansible_collections.stargate.core.plugins.module_utils._qemu_stock import Material, Stock, rotate_large
from ansible_collections.stargate.core.plugins.module_utils._qmp import execute, peer

BRIDGE = "stargate-br0"
LIBVIRT = "libvirt"
"""A file in the directory of a machine that libvirt runs; the role `machine` puts it there and takes it away."""
POWERDOWN = 60.0
"""Seconds that a guest has to switch itself off."""
_START = 30.0
_LINGERING = 3.0
"""Seconds for which a process that was killed may still hold its port and its disk."""
_PID = "pid"
_CONSOLE_LINES = 5
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")


class Qemu:
    """The provider. `gently` asks a guest to switch itself off; without it a machine is simply ended."""

    kinds = ("qemu", "simulator")
    defaults: Mapping[str, Any] = {"network": "user", "bridge": BRIDGE}

    def __init__(self, places: Places, stock: Stock, warn: Callable[[str], None]) -> None:
        """Keep the parts; nothing is touched."""
        self.gently = True
        self.renews = False
        self.foretells = False
        self._places = places
        self._stock = stock
        self._warn = warn
        self._fetched: Material | None = None

    def examine(self, definition: Definition) -> None:
        """Raise what stands in the way; the image is fetched here, while the old machine may still run."""
        self._refuse_libvirts(definition)
        for program in (PROGRAM, "qemu-img"):
            found(program, doing=f"make machine {definition.key}")
        running = self.pid(definition)
        if definition.network == "bridge":
            if not running:
                self._bridge(definition).examine()
        elif definition.port and not running:
            self._await_port(definition)
        if not self.renews and (self._directory(definition) / "instance-id").exists():
            self._stock.check(definition)
        elif self.foretells:
            self._stock.foretell(definition)
        else:
            self._fetched = self._stock.fetch(definition)

    def pid(self, definition: Definition) -> int:
        """Return the machine's process; one that nobody wrote down is found by its socket."""
        directory = self._directory(definition)
        return alive(directory / _PID) or peer(directory)

    def renew(self, definition: Definition, instance_id: str) -> None:
        """Give the machine a fresh disk and a seed."""
        material = self._fetched or self._stock.fetch(definition)
        able = ability(self._places.machines_dir)
        self._stock.renew(
            definition, replace(material, accel=able.accel, accel_reason=able.reason), instance_id=instance_id
        )

    def start(self, definition: Definition) -> None:
        """Start the machine and see that QEMU stays."""
        material = self._stock.check(definition)
        able = ability(self._places.machines_dir)
        with self._connected(definition, vde=able.vde) as lan:
            setting = Setting(able.accel, lan, material.disk_cache)
            self._launch_patiently(definition, setting)
        self._stock.note(definition, replace(material, accel=able.accel, accel_reason=able.reason))

    def stop(self, definition: Definition) -> None:
        """Stop the machine; its site's switch goes with the last one."""
        directory = self._directory(definition)
        pid = self.pid(definition)
        if pid and not alive(directory / _PID):
            remember(directory / _PID, pid)
        if self.gently:
            self._power_down(directory)
        end(directory / _PID, patience=10.0)
        (directory / CONTROL).unlink(missing_ok=True)
        if definition.network == "user":
            lan = Lan(self._places, definition)
            with lan.held():
                if not any(self.pid(other) for other in self._neighbours(definition)):
                    lan.rest()

    def remove(self, definition: Definition) -> None:
        """Take away what the machine has outside of its directory, and what the last of a network leaves."""
        if self._is_in_use(definition):
            self._refuse_libvirts(definition)
        definition = self._with_lease(definition)
        if definition.network == "bridge":
            place = (definition.netns, definition.bridge)
            others = [other for other in self._others(definition) if other.network == "bridge"]
            last = all((other.netns, other.bridge) != place for other in others)
            self._bridge(definition).remove(last=last)
            return
        lan = Lan(self._places, definition)
        with lan.held():
            if not self._neighbours(definition):
                lan.remove()

    def await_ssh(self, definition: Definition, seconds: float) -> None:
        """Return when SSH answers. A worker of a user-mode network cannot be dialed from here: it only has to run."""
        behind_router = definition.network == "user" and not definition.port
        forwarded = ("127.0.0.1", definition.port, "")
        target = forwarded if definition.port else (definition.address, 22, definition.netns)
        until = time.monotonic() + seconds
        while True:
            if not self.pid(definition):
                raise self._died(definition)
            if behind_router or ssh_banner(target[0], target[1], netns=target[2]):
                return
            if time.monotonic() > until:
                raise self._late(definition, seconds)
            time.sleep(0.3)

    def facts(self, definition: Definition) -> dict[str, Any]:
        """Return where the console's log is, and how the machine computes."""
        material = self._stock.material(definition)
        console = str(self._directory(definition) / CONSOLE)
        return {"console": console, "accel": material.accel, "accel_reason": material.accel_reason}

    def _launch_patiently(self, definition: Definition, setting: Setting) -> None:
        until = time.monotonic() + _LINGERING
        while True:
            try:
                self._launch(definition, setting)
                return
            except StargateError as error:
                if error.code not in ("DiskInUse", "PortTaken") or time.monotonic() > until:
                    raise
            time.sleep(0.1)

    def _launch(self, definition: Definition, setting: Setting) -> None:
        directory = self._directory(definition)
        (directory / CONTROL).unlink(missing_ok=True)
        rotate_large(directory / CONSOLE)
        argv = command(definition, setting)
        argv[0] = found(PROGRAM, doing=f"start machine {definition.key}")
        if definition.network == "bridge" and definition.netns:
            argv = [found("nsenter", doing="enter a namespace"), f"--net={NAMESPACES / definition.netns}", "--", *argv]
        with (directory / LOG).open("wb") as log:
            process = subprocess.Popen(
                argv,
                cwd=directory,
                env=environment(definition.key),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        remember(directory / _PID, process.pid)
        until = time.monotonic() + _START
        while not _answers(directory):
            if process.poll() is not None:
                raise complaint(definition, self._text(definition, LOG))
            if time.monotonic() > until:
                end(directory / _PID)
                raise Timeout(f"Failed to start machine {definition.key}: QEMU was silent for {_START:.0f} s.")
            time.sleep(0.02)

    @contextmanager
    def _connected(self, definition: Definition, *, vde: bool) -> Iterator[str]:
        """Yield the kind of the machine's network, which is there and stays as it is meanwhile."""
        if definition.network == "bridge":
            self._bridge(definition).ensure()
            yield "tap"
            return
        if definition.port:
            self._await_port(definition)
        lan = Lan(self._places, definition)
        with lan.held():
            kind = lan.kind(vde=vde)
            if kind == "hub":
                self._check_hub(definition)
            lan.ensure(kind)
            yield kind
            lan.settle(kind)

    def _check_hub(self, definition: Definition) -> None:
        running = [other for other in self._neighbours(definition) if self.pid(other)]
        if definition.role == "router":
            for other in running:
                self._warn(
                    f"Machine {other.key} has lost its network, which was inside the router's process. Stop and start "
                    "it. (With vde_switch installed before the site is made this does not happen.)"
                )
            return
        slot(definition)
        if not any(other.role == "router" for other in running):
            raise Conflict(
                f"Failed to start machine {definition.key}: its router {definition.site} does not run, and without "
                "vde_switch the network is inside the router's process. Start the router first.",
                code="RouterMissing",
            )

    def _power_down(self, directory: Path) -> None:
        """Ask again and again: a guest that is still booting does not hear it."""
        until = time.monotonic() + POWERDOWN
        while time.monotonic() < until:
            try:
                execute(directory, "system_powerdown")
            except Unreachable:
                return
            if gone(directory / _PID, min(5.0, POWERDOWN)):
                return

    def _is_in_use(self, definition: Definition) -> bool:
        """Whether some QEMU that is not ours has the disk of a stopped machine open."""
        disk = self._directory(definition) / DISK
        try:
            if disk.exists():
                run(["qemu-img", "info", str(disk)], doing=f"look at the disk of machine {definition.key}")
        except StargateError as error:
            return "lock" in error.details
        return False

    def _refuse_libvirts(self, definition: Definition) -> None:
        if (self._directory(definition) / LIBVIRT).exists():
            raise Invalid(
                f"Failed to change machine {definition.key}: it is libvirt's. Use the role stargate.core.machine "
                "with machine_definition libvirt; its entry point absent removes the machine.",
                code="LibvirtOwns",
            )

    def _bridge(self, definition: Definition) -> BridgeHost:
        bridge = Bridge(definition.bridge, definition.cidr, definition.netns)
        return BridgeHost(bridge, Tap(definition.tap, definition.key), self._warn)

    def _neighbours(self, definition: Definition) -> list[Definition]:
        site = (definition.namespace, definition.site, "user")
        return [d for d in self._others(definition) if (d.namespace, d.site, d.network) == site]

    def _others(self, definition: Definition) -> list[Definition]:
        """Return all other machines, without those whose definition is broken: they must not be in the way."""
        others = []
        for path in self._places.machines_dir.glob("*/*/machine.json"):
            namespace, name = path.parts[-3:-1]
            if f"{namespace}/{name}" != definition.key:
                with suppress(Invalid):
                    others.append(load(self._places, namespace, name))
        return [other for other in others if other is not None]

    def _with_lease(self, definition: Definition) -> Definition:
        """Return a definition that is a bare name with what the leases tell of its network."""
        held = self._places.peek().get(definition.key)
        if definition.tap or not held or not held.get("tap"):
            return definition
        netns, bridge = str(held["segment"]).split(":")[1:]
        return replace(
            definition, network="bridge", netns=netns, bridge=bridge, cidr=str(held["cidr"]), tap=str(held["tap"])
        )

    @staticmethod
    def _await_port(definition: Definition) -> None:
        until = time.monotonic() + _LINGERING
        while not is_port_free(definition.port):
            if time.monotonic() > until:
                raise Conflict(
                    f"Failed to start machine {definition.key}: another program listens on 127.0.0.1:{definition.port},"
                    " which leads to the machine. Stop it, or make the machine absent and anew.",
                    code="PortTaken",
                )
            time.sleep(0.05)

    def _died(self, definition: Definition) -> StargateError:
        said = complaint(definition, self._text(definition, LOG)).details
        return StargateError(
            f"Failed to see machine {definition.key} come up: its process has ended. "
            f"Its console's last lines: {self._last_words(definition)}",
            code="MachineDied",
            details=said or self._last_words(definition),
            retryable=True,
        )

    def _late(self, definition: Definition, seconds: float) -> StargateError:
        words = self._last_words(definition)
        return Timeout(
            f"Failed to see machine {definition.key} come up: SSH did not answer in {seconds:g} s. "
            f"Its console's last lines: {words}",
            code="BootTimeout",
            details=words,
        )

    def _last_words(self, definition: Definition) -> str:
        lines = _ESCAPES.sub("", self._text(definition, CONSOLE)).replace("\r", "\n").splitlines()
        words = [line.strip() for line in lines if line.strip()]
        return clipped(" | ".join(words[-_CONSOLE_LINES:])) or "(none)"

    def _text(self, definition: Definition, name: str) -> str:
        """Return the end of a log, "" when there is none."""
        try:
            with (self._directory(definition) / name).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 16384))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def _directory(self, definition: Definition) -> Path:
        return self._places.directory(definition.namespace, definition.name)


def _answers(directory: Path) -> bool:
    """Whether QEMU takes commands, which it does when it has set up everything; its socket is there before."""
    try:
        execute(directory, "query-status")
    except Unreachable:
        return False
    return True
