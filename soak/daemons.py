# SPDX-License-Identifier: Apache-2.0
"""The reconcilers under test, as their users run them, each behind a proxy; one that ends is started again.

A daemon may end because it was killed, lost its Lease (exit code 1), or found no API server at its start (2).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from soak.cluster import NAMESPACE
from soak.proxy import Proxy

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
OPERATIONS = ROOT / "soak" / "operations"
PAUSE = 0.3
"""Seconds before one that has ended is started again."""


@dataclass
class Daemon:
    """One stargate-reconciler and its proxy."""

    number: int
    proxy: Proxy
    directory: Path
    lease_seconds: float = 5.0
    environ: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    frozen_until: float = 0.0
    starts: int = 0
    complaints: list[str] = field(default_factory=list)
    _ended: float = 0.0
    _expected: bool = False

    def start(self) -> None:
        """Start it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        kubeconfig = self.directory / "kubeconfig"
        kubeconfig.write_text(json.dumps(kubeconfig_of(self.proxy.url)), encoding="utf-8")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(kubeconfig), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(),
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        self._expected = False

    def _command(self, kubeconfig: Path) -> list[str]:
        return [
            *(str(BIN / "stargate-reconciler"), "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE),
            *("--runs-dir", str(self.directory / "runs"), "--operations-dir", str(OPERATIONS)),
            *("--lease-namespace", NAMESPACE, "--lease-seconds", str(self.lease_seconds), "--log-format", "human"),
            *("--metrics-bind-address", "0", "--health-probe-bind-address", "0", "--retry-seconds", "0.3"),
            *("--max-runs", "4", "--max-hosts-per-run", "50", "--drain-seconds", "3"),
            *self.flags,
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STARGATE_", "ANSIBLE_", "SOAK_"))}
        return {**kept, "ANSIBLE_TIMEOUT": "5", **self.environ}

    @property
    def log(self) -> Path:
        """Where all that it says is kept."""
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """Its pid, 0 when it does not run."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0

    def send(self, signum: int) -> bool:
        """Send it a signal; returns whether it was there."""
        if not self.pid:
            return False
        self._expected = self._expected or signum in (signal.SIGKILL, signal.SIGTERM)
        os.kill(self.pid, signum)
        return True

    def freeze(self, seconds: float) -> bool:
        """Stop it as a debugger would, for a while; returns whether it was there."""
        if self.frozen_until or not self.send(signal.SIGSTOP):
            return False
        self.frozen_until = time.monotonic() + seconds
        return True

    def supervise(self) -> bool:
        """Thaw it when its time has come, start it again when it has ended; returns whether it has just ended."""
        now = time.monotonic()
        if self.frozen_until and now >= self.frozen_until:
            self.frozen_until = 0.0
            self.send(signal.SIGCONT)
        if self.process is None:
            if now - self._ended > PAUSE:
                self.start()
            return False
        code = self.process.poll()
        if code is None:
            return False
        if not self._expected and code not in (1, 2):
            self.complaints.append(f"reconciler {self.number} ended by itself with code {code}")
        self.process, self._ended, self.frozen_until = None, now, 0.0
        return True

    def stop(self) -> None:
        """End it for good."""
        if self.send(signal.SIGTERM):
            self.send(signal.SIGCONT)
            try:
                self._gone(25)
            except subprocess.TimeoutExpired:
                self.complaints.append(f"reconciler {self.number} did not end in 25 s after SIGTERM")
                self.send(signal.SIGKILL)
                self._gone(5)
        self.process = None

    def _gone(self, seconds: float) -> None:
        if self.process is not None:
            self.process.wait(seconds)

    def bugs(self) -> list[str]:
        """Return what its log has of exceptions that nobody expected."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [number for number, line in enumerate(lines) if "Traceback (most recent" in line or "A bug:" in line]
        return [f"reconciler {self.number}: {' | '.join(lines[number - 1 : number + 30])[:3000]}" for number in found]


def kubeconfig_of(url: str) -> dict[str, object]:
    """Return a kubeconfig for an address that asks for no credentials: a proxy's."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "soak",
        "clusters": [{"name": "soak", "cluster": {"server": url}}],
        "users": [{"name": "soak", "user": {}}],
        "contexts": [{"name": "soak", "context": {"cluster": "soak", "user": "soak"}}],
    }
