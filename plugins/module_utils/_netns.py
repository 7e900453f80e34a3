# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acts inside a network namespace of this host: connect to an address, read an SSH server's banner, forward packets.

PRIVATE to the collection. A namespace "" is the one in which we are.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ansible_collections.stargate.core.plugins.module_utils._errors import NotFound, StargateError

NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_LONGEST_BANNER = 255
T = TypeVar("T")


def inside(netns: str, act: Callable[[], T]) -> T:
    """Return what a function returns in a network namespace; it runs in a thread that nothing else uses."""
    if not netns:
        return act()
    answers: list[T] = []
    errors: list[Exception] = []

    def enter() -> None:
        try:
            _enter(netns)
            answers.append(act())
        except (OSError, StargateError) as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


def ssh_banner(address: str, port: int, *, netns: str = "", timeout: float = 5.0) -> str:
    """Return the first line that an SSH server says, "" when none answers in time."""
    try:
        with inside(netns, lambda: socket.create_connection((address, port), timeout)) as connection:
            connection.settimeout(timeout)
            with connection.makefile("rb") as lines:
                line = lines.readline(_LONGEST_BANNER).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return line if line.startswith("SSH-") else ""


def is_forwarding(netns: str) -> bool:
    """Whether IPv4 packets are passed on between interfaces."""
    return inside(netns, _FORWARDING.read_text).strip() == "1"


def forward(netns: str) -> None:
    """Let IPv4 packets be passed on between interfaces."""
    inside(netns, lambda: _FORWARDING.write_text("1\n", encoding="ascii"))


_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def _enter(netns: str) -> None:
    """Move this thread. (os.setns comes with Python 3.12.)"""
    try:
        handle = os.open(NAMESPACES / netns, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"Failed to enter network namespace {netns}: there is none of this name.") from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)
