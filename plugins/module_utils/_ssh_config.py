# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How SSH reaches Servers: an OpenSSH client configuration with a block per host and one per router.

PRIVATE to the collection. Pure: objects in, text out. What an address, a name or a pinned key is stands in _server.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _server

_PATH = re.compile(r"/[A-Za-z0-9_./+@:,=-]+")
_SOCKET_PATH = re.compile(r"/(?:[A-Za-z0-9_./+@:,=-]|%[CLhiklnpru])+")

Object = Mapping[str, Any]


def ssh_config(hosts: Sequence[Object]) -> str:
    """Return an OpenSSH client configuration with a block per host and one per router, for `ssh -F`.

    Each item of `hosts` has `server`, and may have `profile`, `user`, `private_key_file`, `known_hosts` (paths) and
    `control_path` (of the connection to the router, with ssh's % tokens). Raises ValueError, with a sentence, for a
    value that could mean more to ssh than itself; nothing is quoted, because nothing needs to be.
    """
    routes = [_Route(host) for host in hosts]
    pinned = {line.partition(" ")[0] for route in routes for line in _server.pinned_keys(route.server)}
    blocks: dict[str, list[str]] = {}
    for route in routes:
        if route.jump:
            blocks[route.jump] = route.router_block(pinned)
        blocks[route.name] = route.host_block(pinned)
    return "\n".join(f"Host {name}\n" + "".join(f"  {line}\n" for line in lines) for name, lines in blocks.items())


class _Route:
    """How one host is reached, every value checked."""

    def __init__(self, host: Object) -> None:
        server = host.get("server")
        self.server: Object = server if isinstance(server, Mapping) else {}
        profile = host.get("profile")
        for sentence in _server.problems(self.server, profile):
            raise ValueError(sentence)
        self.name = _server.hostname(self.server)
        user = host.get("user") or _server.text_at(profile or {}, "spec", "adminUsername") or _server.DEFAULT_USER
        self.user = self._fit(user, _server.USER, "the user name")
        self.key = self._fit(host.get("private_key_file"), _PATH, "the path of the private key")
        self.known_hosts = self._fit(host.get("known_hosts"), _PATH, "the path of the known hosts")
        self.control_path = self._fit(host.get("control_path"), _SOCKET_PATH, "the path of the control socket")
        self.router = _server.text_at(self.server, "spec", "routerIP")
        self.router_alias = _server.router_key_alias(self.server)
        route = f"{self.router_alias}\n{self.user}\n{self.key}".encode()
        self.jump = f"router_{hashlib.sha256(route).hexdigest()[:16]}" if self.router else ""

    def _fit(self, value: object, pattern: re.Pattern[str], what: str) -> str:
        if value is None or value == "":
            return ""
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        raise ValueError(
            f"Failed to write the SSH configuration of Server {self.name}: {what} is {_server.shown(value)}, which has "
            "characters that ssh gives a meaning. Use letters, digits and '_', '-', '.' only."
        )

    def host_block(self, pinned: set[str]) -> list[str]:
        """Return the lines of the host itself; `pinned` has the names whose keys are known."""
        dialled = _server.address(self.server) or _server.nowhere(self.server)
        lines = [f"HostName {dialled}", f"Port {_server.port(self.server)}"]
        lines += self._common(self.name, pinned)
        return [*lines, f"ProxyJump {self.jump}"] if self.jump else lines

    def router_block(self, pinned: set[str]) -> list[str]:
        """Return the lines of the router, whose connection all hosts behind it share."""
        lines = [f"HostName {self.router}", f"Port {_server.port(self.server, 'routerPort')}"]
        lines += self._common(self.router_alias, pinned)
        return [*lines, "ControlMaster auto", f"ControlPath {self.control_path}"] if self.control_path else lines

    def _common(self, alias: str, pinned: set[str]) -> list[str]:
        lines = [f"User {self.user}"]
        lines += [f"IdentityFile {self.key}", "IdentitiesOnly yes"] if self.key else []
        lines += [f"UserKnownHostsFile {self.known_hosts}"] if self.known_hosts else []
        return [
            *lines,
            f"HostKeyAlias {alias}",
            f"StrictHostKeyChecking {'yes' if alias in pinned else 'accept-new'}",
            "HashKnownHosts no",
            "BatchMode yes",
            "ConnectTimeout 10",
            "ServerAliveInterval 15",
            "ServerAliveCountMax 4",
        ]
