# SPDX-License-Identifier: Apache-2.0
"""The daemon as its users run it: a process with flags, whose log and statuses are all that a test sees.

Nothing of the daemon is imported here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.integration.sshd import free_port

PROGRAM = str(Path(sys.executable).parent / "stargate-reconciler")


@dataclass
class Cluster:
    """kubectl against one cluster and one namespace."""

    kubectl: str
    kubeconfig: str
    namespace: str

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace; returns its standard output."""
        command = [self.kubectl, "--kubeconfig", self.kubeconfig, "-n", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, in the namespace unless they name one."""
        self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object, empty when it is not there."""
        text = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return dict(json.loads(text)) if text else {}

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object's status."""
        return dict(self.get(kind, name).get("status") or {})

    def events(self, name: str) -> list[str]:
        """Return the reasons of the Events about an object, in order."""
        items = json.loads(self.run("get", "events", "-o", "json"))["items"]
        items.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        return [item["reason"] for item in items if item["involvedObject"]["name"] == name]

    def until(self, name: str, check: Callable[[dict[str, Any]], object], *, seconds: float = 30) -> dict[str, Any]:
        """Wait until an Operation's status satisfies `check`; returns the status."""
        deadline = time.monotonic() + seconds
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            status = self.status("operation", name)
            if check(status):
                return status
            time.sleep(0.1)
        raise AssertionError(f"Operation {name} did not get there in {seconds} s: {json.dumps(status, indent=1)}")

    def phase(self, name: str, phase: str, *, seconds: float = 30) -> dict[str, Any]:
        """Wait until an Operation is in a phase; returns its status."""
        return self.until(name, lambda status: status.get("phase") == phase, seconds=seconds)


@dataclass
class DaemonProcess:
    """One stargate-reconciler. Flags given to `start` come after those of the test bench."""

    kubeconfig: str
    namespace: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    environ: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    metrics_port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)

    def command(self, *flags: str) -> list[str]:
        """Return the command line."""
        return [
            *(*self.prefix, PROGRAM, "--kubeconfig", self.kubeconfig, "--namespace", self.namespace),
            *("--runs-dir", str(self.directory / "runs"), "--retry-seconds", "0.5", "--lease-seconds", "5"),
            *("--lease-namespace", self.namespace, "--log-format", "human"),
            *("--metrics-bind-address", f"127.0.0.1:{self.metrics_port}"),
            *("--health-probe-bind-address", f"127.0.0.1:{self.health_port}"),
            *flags,
        ]  # fmt: skip

    def start(self, *flags: str) -> DaemonProcess:
        """Start it in the background."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(self.command(*flags), stderr=log, stdout=log, env=self.environment)
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the process: the test's, without what would be read as flags, and `environ`."""
        return {**{k: v for k, v in os.environ.items() if not k.startswith("STARGATE_")}, **self.environ}

    @property
    def log(self) -> str:
        """All that it has logged."""
        return (self.directory / "log").read_text(encoding="utf-8")

    def once(self, *flags: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run it with --once and wait for the end."""
        command = self.command("--once", *flags)
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=self.environment
        )

    def kill(self) -> None:
        """Kill it as the kernel would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(5)
            self.process = None

    def stop(self, *, seconds: float = 15) -> int:
        """Ask it to end; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.process = None
        return code


def server(name: str, **spec: Any) -> dict[str, Any]:
    """Return a Server."""
    return _object("Server", name, {"ipv4": "127.0.0.1", "provider": "ssh", **spec})


def profile(name: str = "profile", **spec: Any) -> dict[str, Any]:
    """Return a ProvisioningProfile."""
    return _object("ProvisioningProfile", name, {"osVersion": "2.0.0", **spec})


def operation(name: str, on: str, act: str, **spec: Any) -> dict[str, Any]:
    """Return an Operation."""
    return _object("Operation", name, {"serverRef": {"name": on}, "operation": act, **spec})


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "stargate.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
