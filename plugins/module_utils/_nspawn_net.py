# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of nspawn machines, made and taken away: a site's bridge, a worker's plug in it, a router's way out.

PRIVATE to the collection. Everything is in network namespaces of the site; the host's own has no interface of it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, StargateError
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, is_port_free, locked
from ansible_collections.stargate.core.plugins.module_utils._nspawn import (
    Layout,
    forwarding,
    layout,
    port_of,
    scope,
    site_commands,
    slirp,
    worker_commands,
)
from ansible_collections.stargate.core.plugins.module_utils._process import alive, end, environment, remember
from ansible_collections.stargate.core.plugins.module_utils._program import found, run

NAMESPACES = Path("/run/netns")
SYSTEMD = Path("/run/systemd/system")  # is there when systemd runs the host
REMOVING = "removing"  # in the directory of a machine that is on its way out
_PATIENCE = 60.0


def up(places: Places, definition: Definition) -> None:
    """Make what a machine that does not run needs of its site's network."""
    parts, router = layout(places, definition.namespace, definition.name), site_label(places, definition)
    doing = f"set up the network of machine {definition.key}"
    with _site_lock(places, definition):
        if not exists(router):
            run(["ip", "netns", "add", router], doing=doing)
        if "lan" not in _links(router, doing):
            run(["ip", "-n", router, "link", "add", "lan", "type", "bridge"], doing=doing)
        commands = site_commands(definition, router)
        if definition.role == "worker":
            _unplug(parts.label, router, doing)
            commands += worker_commands(definition, router, parts.label)
        for command in commands:
            run(command, doing=doing)
    if definition.role == "router" and not alive(parts.slirp):
        connect(definition, parts)


def down(places: Places, definition: Definition) -> None:
    """Take away a machine's part of its site's network, and all of it with the site's last machine."""
    parts, router = layout(places, definition.namespace, definition.name), site_label(places, definition)
    doing = f"take down the network of machine {definition.key}"
    end(parts.slirp)
    with _site_lock(places, definition) as lock:
        if definition.role == "worker":
            _unplug(parts.label, router, doing)
        if parts.directory.is_dir():
            (parts.directory / REMOVING).touch()
        if not _others(places, definition):
            if exists(router):
                run(["ip", "netns", "delete", router], doing=doing)
            lock.unlink(missing_ok=True)


def site_label(places: Places, definition: Definition) -> str:
    """Return the name of the network namespace that a site's bridge and router are in."""
    return layout(places, definition.namespace, definition.site).label


def exists(netns: str) -> bool:
    """Whether there is a network namespace of this name. A file that was left of one is taken away."""
    path = NAMESPACES / netns
    try:
        if path.stat().st_dev != NAMESPACES.stat().st_dev:
            return True
        path.unlink()
    except FileNotFoundError:
        pass
    return False


@contextmanager
def _site_lock(places: Places, definition: Definition) -> Iterator[Path]:
    path = places.machines_dir / definition.namespace / f".{definition.site}.site.lock"
    with locked(path, f"site {definition.namespace}/{definition.site}", 120.0):
        yield path


def _others(places: Places, definition: Definition) -> list[str]:
    """Return the names of the site's other machines, those left out that are being removed as well."""
    machines = places.machines(definition.namespace, definition.site)
    stay = [m for m in machines if not (places.directory(m.namespace, m.name) / REMOVING).exists()]
    return [machine.name for machine in stay if machine.name != definition.name]


def _links(netns: str, doing: str) -> set[str]:
    listed = json.loads(run(["ip", "-json", "-n", netns, "link", "show"], doing=doing))
    return {link["ifname"] for link in listed}


def _unplug(worker: str, router: str, doing: str) -> None:
    """Take away what an earlier run of a worker has left; a namespace that is deleted lets go of its plug too late."""
    if exists(router) and port_of(worker) in _links(router, doing):
        run(["ip", "-n", router, "link", "delete", port_of(worker)], doing=doing)
    if exists(worker):
        run(["ip", "netns", "delete", worker], doing=doing)


def connect(definition: Definition, parts: Layout) -> None:
    """Start a router's connection with the host and lead its port there."""
    doing = f"connect router {definition.key} with the host"
    (parts.directory / "slirp.sock").unlink(missing_ok=True)
    log = parts.directory / "slirp.log"
    reader, writer = os.pipe()
    command = slirp(definition, NAMESPACES / parts.label, ready=writer)
    command[0] = found(command[0], doing=doing)
    with os.fdopen(reader, "rb") as ready, log.open("wb") as output:
        process = subprocess.Popen(
            [*(scope(f"{parts.label}-wan") if SYSTEMD.is_dir() else []), *command],
            cwd=parts.directory,
            env=environment(definition.key),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        remember(parts.slirp, process.pid)
        is_up = bool(select.select([ready], [], [], _PATIENCE)[0]) and ready.read(1) == b"1"
    try:
        _check(is_up, log, doing)
        _forward(definition, parts, doing)
    except StargateError:
        end(parts.slirp)
        process.wait(_PATIENCE)
        raise


def _check(is_up: object, log: Path, doing: str) -> None:
    if not is_up:
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        raise StargateError(f"Failed to {doing}: slirp4netns did not start.", code="StartFailed", details=said)


def _forward(definition: Definition, parts: Layout, doing: str) -> None:
    handle = os.open(parts.directory, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE)
            client.connect(f"/proc/self/fd/{handle}/slirp.sock")  # short enough, however long the directory's name
            client.sendall(json.dumps(forwarding(definition.port)).encode())
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answers:
                answer = json.loads(answers.read() or b"{}")
    except (OSError, ValueError) as error:
        raise StargateError(f"Failed to {doing}: slirp4netns does not answer: {error}.", code="StartFailed") from error
    finally:
        os.close(handle)
    if "return" in answer:
        return
    if not is_port_free(definition.port):
        raise port_taken(definition)
    raise StargateError(f"Failed to {doing}: slirp4netns refuses.", code="StartFailed", details=str(answer))


def port_taken(definition: Definition) -> Conflict:
    """Return the failure of a router whose port somebody else listens on."""
    return Conflict(
        f"Failed to start router {definition.key}: somebody else listens on its port 127.0.0.1:{definition.port}. "
        "End that process, or make the router absent and then running, which leases another port.",
        code="PortTaken",
    )
