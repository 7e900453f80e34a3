# SPDX-License-Identifier: Apache-2.0
"""TCP ports, on loopback unless said otherwise: free ones, and whether a wanted one is.

A port that is free now may be taken a moment later; who listens must still be ready for a refusal.
"""

from __future__ import annotations

import contextlib
import socket

ADDRESS = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((ADDRESS, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def is_free(port: int, address: str = ADDRESS) -> bool:
    """Return whether a server could listen on a port of an address, of loopback without, now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections that end do not count
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
