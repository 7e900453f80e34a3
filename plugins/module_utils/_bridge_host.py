# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge of this host, or of a network namespace, with a tap per machine: looked at, made, taken away again.

PRIVATE to the collection. Needs root. What is to be done is decided in `_bridge.py`; nothing is done with iptables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._bridge import (
    OURS,
    TABLE,
    Bridge,
    Seen,
    Tap,
    leftover,
    masquerade,
    masqueraded,
    missing,
    refuse,
    seen,
    unmasquerade,
)
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._machine import locked
from ansible_collections.stargate.core.plugins.module_utils._netns import NAMESPACES, forward, is_forwarding
from ansible_collections.stargate.core.plugins.module_utils._program import found, run

LOCK = Path("/run/stargate/network.lock")
_DOING = "set up the machines' bridge"


@dataclass(frozen=True)
class BridgeHost:
    """The host's side of one machine's network."""

    bridge: Bridge
    tap: Tap
    warn: Callable[[str], None]

    def examine(self) -> None:
        """Raise what stands in the way, before anything is changed: RootNeeded, CidrTaken, BridgeTaken, TapTaken."""
        if os.geteuid() != 0:
            raise Invalid(
                f"Failed to connect machine {self.tap.machine} to bridge {self.bridge.name}: this needs root. Run the "
                "task with become, or set network to user.",
                code="RootNeeded",
            )
        for program in ("ip", "nft", "nsenter"):
            found(program, doing=_DOING)
        if not self._lacks_namespace():
            refuse(self.bridge, self.tap, self._seen())

    def ensure(self) -> None:
        """Let bridge, tap, forwarding and NAT be there."""
        with self._held():
            if self._lacks_namespace():
                run(["ip", "netns", "add", self.bridge.netns], doing=_DOING)
                self._ip(["link", "set", "dev", "lo", "alias", OURS, "up"])
            network = self._seen()
            refuse(self.bridge, self.tap, network)
            for arguments in missing(self.bridge, self.tap, network):
                self._ip(arguments)
            if not network.forwards:
                forward(self.bridge.netns)
            if self.bridge.cidr not in network.masqueraded:
                self._nft(masquerade(self.bridge.cidr))
            if network.drops:
                self.warn(
                    "A firewall of this host drops forwarded packets that no rule of its own allows (Docker sets it up "
                    f"so). For machines to reach out: iptables -I FORWARD -i {self.bridge.name} -j ACCEPT, and the "
                    f"same with -o."
                )

    def remove(self, *, last: bool) -> None:
        """Take the tap away and, after the last machine, all that was made for the bridge."""
        if os.geteuid() != 0 or self._lacks_namespace():
            return
        with self._held():
            link = self._seen().links.get(self.tap.name)
            if link and link.alias == self.tap.alias:
                self._ip(["link", "delete", "dev", self.tap.name])
            if last:
                self._remove_bridge()

    def _remove_bridge(self) -> None:
        network = self._seen()
        commands = leftover(self.bridge, network)
        for arguments in commands:
            self._ip(arguments)
        script = unmasquerade(self.bridge.cidr, network) if commands else ""
        if script:
            self._nft(script)
        left = set(network.links) - {self.bridge.name if commands else "", "lo"}
        if self.bridge.netns and network.links["lo"].alias == OURS and not left:
            run(["ip", "netns", "delete", self.bridge.netns], doing=_DOING)

    def _lacks_namespace(self) -> bool:
        return bool(self.bridge.netns) and not (NAMESPACES / self.bridge.netns).exists()

    @contextmanager
    def _held(self) -> Iterator[None]:
        with locked(LOCK, "the host's network", 120.0):
            yield

    def _seen(self) -> Seen:
        links = json.loads(self._ip(["-details", "-json", "address", "show"]) or "[]")
        routes = json.loads(self._ip(["-json", "route", "show"]) or "[]")
        return replace(
            seen([link for link in links if link], routes),
            masqueraded=masqueraded(self._listed("set", "ip", TABLE, "networks")),
            forwards=is_forwarding(self.bridge.netns),
            drops=self._drops(),
        )

    def _drops(self) -> bool:
        items = self._listed("chain", "ip", "filter", "FORWARD").get("nftables", ())
        return any(item.get("chain", {}).get("policy") == "drop" for item in items)

    def _listed(self, *what: str) -> dict[str, Any]:
        """Return what nft says about a thing, {} when there is none."""
        try:
            listing: dict[str, Any] = json.loads(self._nft("--json", "list", *what))
        except StargateError as error:
            if "No such file" not in error.details:
                raise
            return {}
        return listing

    def _ip(self, arguments: Sequence[str]) -> str:
        place = ["-netns", self.bridge.netns] if self.bridge.netns else []
        return run(["ip", *place, *arguments], doing=_DOING)

    def _nft(self, *arguments: str) -> str:
        place = ["nsenter", f"--net={NAMESPACES / self.bridge.netns}"] if self.bridge.netns else []
        return run([*place, found("nft", doing=_DOING), *arguments], doing=_DOING)
