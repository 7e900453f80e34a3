# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait until a Node is ready as asked, by a watch of this one Node; what it gets to wear meanwhile; its release.

PRIVATE to the collection. What is missing, and what is to be patched, is decided in _node.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.stargate.core.plugins.module_utils import _node
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, Object
from ansible_collections.stargate.core.plugins.module_utils._kube_follow import Followed
from ansible_collections.stargate.core.plugins.module_utils._node import Dress, Wanted, Whose
from ansible_collections.stargate.core.plugins.module_utils._nodes import NODES, patched

SAY_EVERY = 15.0


@dataclass(frozen=True)
class Arrival:
    """The Node that is waited for, and what it gets."""

    name: str
    whose: Whose
    wanted: Wanted
    dress: Dress
    operation_uid: str
    keep_cordon: bool = False

    def dressing(self, node: Object) -> Object:
        """Return the patch that gives the Node what it gets."""
        return _node.dressing(node, self.whose, self.dress)

    def release(self, node: Object) -> Object:
        """Return the patch that takes our cordon away, or makes it a person's."""
        return _node.as_a_person(node) if self.keep_cordon else _node.uncordon(node, self.operation_uid)

    def is_new(self, node: Object) -> bool:
        """Whether this is not the Node of before."""
        return not self.wanted.not_uid or _node.uid(node) != self.wanted.not_uid


def arrived(cluster: Cluster, arrival: Arrival, timeout: float, say: Callable[[str], None]) -> tuple[Object, Object]:
    """Return the Node as it was first seen and as it is when it is ready; raises what is missing when time is up.

    Labels, taints and the owner come first, before any pod is placed on it; a cordon of ours goes last.
    """
    clock = cluster.clock
    started = said = clock.monotonic()
    followed = Followed(cluster, NODES, f"metadata.name={arrival.name}", f"watch Node {arrival.name}")
    nodes, first = followed.now(), None
    while True:
        node = nodes[-1] if nodes else None
        if node is not None and arrival.is_new(node):
            _refuse_taken(node, arrival)
            first = first or node
            node = patched(cluster, node, arrival.dressing, "label")
        lack = _node.lacking(node, arrival.name, arrival.wanted)
        if node is not None and lack is None:
            return first or node, patched(cluster, node, arrival.release, "uncordon")
        now = clock.monotonic()
        left = started + timeout - now
        if lack is not None and left <= 0:
            raise lack
        if lack is not None and now - said >= SAY_EVERY:
            said = now
            say(f"Node {arrival.name}: {lack.details}")
        nodes = followed.changed(min(left, SAY_EVERY))


def _refuse_taken(node: Object, arrival: Arrival) -> None:
    refusal: StargateError | None = _node.taken(node, arrival.whose, by_address=False)
    if refusal is not None:
        raise refusal
