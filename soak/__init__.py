# SPDX-License-Identifier: Apache-2.0
"""Faults thrown at the real thing, and the invariants that must hold whatever happens (docs/reliability.md).

Everything runs in namespaces of its own: network, mounts, processes. Nothing of it outlives the program.
"""

from __future__ import annotations
