# SPDX-License-Identifier: Apache-2.0
"""The inventory of 10,000 Servers, against kubectl listing the same.

Both read the whole list from the API server and write it as JSON to a file.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.playbook import environment
from bench.population import Population
from bench.results import Row, median
from bench.world import BIN, World, say


def measure(world: World, population: Population) -> list[Row]:
    """Return the row of the inventory."""
    count = population.servers()
    rounds = 2 if world.small else 5
    source = world.directory / "cluster.stargate.yml"
    source.write_text(json.dumps({"plugin": "stargate.core.servers", "kubeconfig": world.kubeconfig}), encoding="utf-8")
    listed = [world.kubectl, "--kubeconfig", world.kubeconfig, "get", "servers", "-A", "-o", "json"]
    made = [str(BIN / "ansible-inventory"), "-i", str(source), "--list"]
    ours, plain = [], []
    for number in range(rounds + 1):
        kubectl, found = _timed(world, listed)
        _expect(len(found["items"]), count)
        inventory, found = _timed(world, made)
        _expect(len(found["_meta"]["hostvars"]), count)
        say(f"{count} Servers: kubectl {kubectl:.2f} s, ansible-inventory {inventory:.2f} s")
        if number:  # the first round fills caches
            plain.append(kubectl)
            ours.append(inventory)
    ratio = median(ours) / median(plain)
    detail = {"inventory_s": median(ours), "kubectl_s": median(plain), "rounds": rounds}
    name = f"inventory of {count} Servers, against `kubectl get servers -A -o json`"
    return [Row(name, ratio, "<= 1.5 x", holds=ratio <= 1.5, unit="x", detail=detail)]


def _timed(world: World, command: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Return how long a command took, in seconds, and the object that it has written."""
    path: Path = world.directory / "listed.json"
    began = time.monotonic()
    with path.open("wb") as output:
        subprocess.run(command, stdout=output, check=True, timeout=300, env=environment(world.directory))
    took = time.monotonic() - began
    return took, json.loads(path.read_bytes())


def _expect(found: int, count: int) -> None:
    if found != count:
        raise RuntimeError(f"{found} Servers were listed, there are {count}")
