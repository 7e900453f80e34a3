# SPDX-License-Identifier: Apache-2.0
"""The parts of the demo as processes: two mock datacenters and the daemon, beside a local control plane.

Each part is what a user would start by hand; here they are started in order, found again, and stopped.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import WorldError
from ..local.processes import Process

DATACENTERS = {"dc-west": 8080, "dc-east": 8081}
METRICS, HEALTH = 8083, 8084
"""The ports that the documentation names; where one is taken, a free one is used and said."""

_BIN = Path(sys.executable).parent


def chosen_port(wanted: int) -> int:
    """Return `wanted` if nobody listens there on loopback, else a free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise WorldError("Failed to find a free port on 127.0.0.1.")


@dataclass(frozen=True)
class Endpoint:
    """A started part and where it listens."""

    name: str
    url: str


class Stack:
    """The demo's processes, known by the pidfiles in one directory."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self.directory = directory
        self._say = say

    def _process(self, name: str) -> Process:
        return Process(name, self.directory)

    @property
    def log(self) -> Path:
        """Where the daemon logs."""
        return self._process("reconciler").log

    def start_datacenter(self, name: str, speed: str) -> Endpoint:
        """Start a mock datacenter and wait until it answers."""
        port = self._port(f"mock-{name}", DATACENTERS[name])
        command = [str(_BIN / "stargate-mock-dc"), "--dc-name", name, "--port", str(port), "--speed", speed]
        command += ["--state-file", str(self.directory / f"{name}.json")]
        self._process(f"mock-{name}").start(command)
        url = f"http://127.0.0.1:{port}"
        self._await(f"mock-{name}", f"{url}/healthz")
        return Endpoint(name, url)

    def start_daemon(
        self, kubeconfig: str, endpoints: Sequence[Endpoint], *, flags: Sequence[str], environ: Mapping[str, str]
    ) -> Endpoint:
        """Start the daemon for all datacenters and wait until it is ready; returns where its metrics are.

        `flags` and `environ` are added to what it gets anyway.
        """
        metrics, health = self._port("metrics", METRICS), self._port("health", HEALTH)
        command = [str(_BIN / "stargate-reconciler"), "--kubeconfig", kubeconfig, "--log-format", "human"]
        command += ["--runs-dir", str(self.directory / "runs")]
        command += ["--operations-dir", str(self.operations_directory())]
        command += ["--metrics-bind-address", f"127.0.0.1:{metrics}"]
        command += ["--health-probe-bind-address", f"127.0.0.1:{health}"]
        for endpoint in endpoints:
            command += ["--dc-api-url", f"{endpoint.name}={endpoint.url}"]
        self._process("reconciler").start([*command, *flags], environ={**os.environ, **environ})
        self._await("reconciler", f"http://127.0.0.1:{health}/readyz")
        return Endpoint("reconciler", f"http://127.0.0.1:{metrics}/metrics")

    def operations_directory(self) -> Path:
        """Return the directory into which the reader may drop operations, made if need be."""
        directory = self.directory / "operations"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _port(self, name: str, wanted: int) -> int:
        port = chosen_port(wanted)
        if port != wanted:
            self._say(f"port {wanted} is taken, {name} listens on {port}")
        return port

    def _await(self, name: str, url: str, seconds: float = 30) -> None:
        process = self._process(name)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.pid is not None:
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a URL of our own, on loopback
                    return
            except OSError:
                time.sleep(0.1)
        raise WorldError(f"Failed to start {name}: it does not answer at {url}. Its log says:\n{process.tail()}")

    def stop(self) -> list[str]:
        """Stop the daemon first, then the datacenters; returns the names of those that ran."""
        names = ["reconciler", *(f"mock-{name}" for name in DATACENTERS)]
        return [name for name in names if self._process(name).stop(seconds=15)]
