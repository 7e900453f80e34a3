# SPDX-License-Identifier: Apache-2.0
"""The mock datacenter API as its users run it: a process on a free port, whose jobs survive a restart.

What it answers is tested in tests/contract; here it is the world that Operations act on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.sshd import free_port

MOCK_DC = str(Path(sys.executable).parent / "stargate-mock-dc")


class MockDatacenter:
    """One stargate-mock-dc process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> MockDatacenter:
        """Start it; its jobs are kept in a file and survive a restart."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log = (self.directory / "log").open("ab")
        command = [MOCK_DC, "--port", str(self.port), "--state-file", str(self.directory / "jobs.json"), *flags]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ})
        return self

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(5)
            self.process = None
