# SPDX-License-Identifier: Apache-2.0
"""Ten thousand Servers and as many finished Operations, over some namespaces, made once for the rows that need them.

How fast they can be made says nothing about Stargate and is no figure.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import objects
from bench.world import World, say

NAMESPACES = ("dc-a", "dc-b", "dc-c", "dc-d")


@dataclass
class Population:
    """What a cluster holds. Each kind is made when it is first asked for."""

    world: World
    count: int
    has_servers: bool = False
    has_operations: bool = False

    def servers(self) -> int:
        """Make the Servers, ready, with a profile in each namespace; returns how many there are."""
        if not self.has_servers:
            self.has_servers = True
            began = time.monotonic()
            for namespace in NAMESPACES:
                self.world.api.make_namespace(namespace)
                self.world.api.create(namespace, "provisioningprofiles", [objects.profile()])
                numbers = self._numbers(namespace)
                self.world.api.create(namespace, "servers", [objects.server(number) for number in numbers])
                statuses = {f"server-{number:05d}": objects.ready_status(number) for number in numbers}
                self.world.api.set_statuses(namespace, "servers", statuses)
            say(f"made {self.count} Servers in {time.monotonic() - began:.0f} s")
        return self.count

    def operations(self) -> int:
        """Make an Operation for each Server, succeeded; returns how many there are."""
        if not self.has_operations:
            self.has_operations = True
            began = time.monotonic()
            for namespace in NAMESPACES:
                numbers = self._numbers(namespace)
                items = [objects.operation(f"repave-{number:05d}", number) for number in numbers]
                self.world.api.create(namespace, "operations", items)
                statuses = {f"repave-{number:05d}": objects.finished_status(number) for number in numbers}
                self.world.api.set_statuses(namespace, "operations", statuses)
            say(f"made {self.count} finished Operations in {time.monotonic() - began:.0f} s")
        return self.count

    def _numbers(self, namespace: str) -> range:
        return range(NAMESPACES.index(namespace), self.count, len(NAMESPACES))
