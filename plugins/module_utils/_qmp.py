# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's control socket: ask the guest to switch itself off, and find the process behind the socket.

PRIVATE to the collection. Speaks to a socket by the directory it is in, so that the length of its path does not
matter.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Unreachable
from ansible_collections.stargate.core.plugins.module_utils._qemu import CONTROL, PROGRAM

_SECONDS = 5.0


def execute(directory: Path, command: str) -> None:
    """Send one command, without arguments, to the QEMU of a directory; raises Unreachable."""
    try:
        with _connected(directory) as control, control.makefile("rwb") as lines:
            lines.readline()  # the greeting
            for name in ("qmp_capabilities", command):
                lines.write(json.dumps({"execute": name}).encode() + b"\n")
                lines.flush()
                _await_return(lines.readline)
    except (OSError, ValueError) as error:
        raise Unreachable(f"Failed to reach QEMU in {directory}: {error}.") from error


def peer(directory: Path) -> int:
    """Return the process that listens on the socket of a directory, 0 when there is none, or it is not QEMU."""
    try:
        with _connected(directory) as control:
            credentials = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = int(struct.unpack("3i", credentials)[0])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return 0
    return pid if Path(words[0].decode(errors="replace")).name == PROGRAM else 0


def _connected(directory: Path) -> socket.socket:
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    control = socket.socket(socket.AF_UNIX)
    try:
        control.settimeout(_SECONDS)
        _connect(control, f"/proc/self/fd/{handle}/{CONTROL}")
    except OSError:
        control.close()
        raise
    finally:
        os.close(handle)
    return control


def _connect(control: socket.socket, path: str) -> None:
    """Connect; QEMU lets one wait in line, and whoever comes then is sent away with EAGAIN."""
    until = time.monotonic() + _SECONDS
    while True:
        try:
            control.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _await_return(readline: Callable[[], bytes]) -> None:
    """Read until the answer to a command, past the events in between."""
    while True:
        line = readline()
        if not line:
            raise ValueError("the connection ended")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(str(answer["error"].get("desc")))
        if "return" in answer:
            return
