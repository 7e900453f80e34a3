# SPDX-License-Identifier: Apache-2.0
"""Ansible without Stargate: one ansible-playbook over many hosts, or one for each host, several at a time.

Their settings are those of the daemon's own runs, so that only the daemon makes the difference.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.world import BIN, clean_environment


@dataclass(frozen=True)
class Playbook:
    """What to run on which inventory. Times are seconds."""

    path: Path
    inventory: Path
    directory: Path
    forks: int = 5


@dataclass
class Running:
    """The pids of ansible-playbook processes that run now."""

    pids: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> set[int]:
        """Return the pids."""
        with self.lock:
            return set(self.pids)


def environment(private: Path) -> dict[str, str]:
    """Return the environment of ansible-playbook: what the daemon sets for speed, with connections of its own."""
    return {
        **clean_environment(),
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=10s",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private),
        "ANSIBLE_LOCAL_TEMP": str(private),
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_NOCOLOR": "True",
    }


def run(playbook: Playbook, *, limit: str = "", running: Running | None = None) -> float:
    """Run ansible-playbook, on one host with `limit`; returns how long it took. Raises RuntimeError when it failed."""
    running = running or Running()
    with tempfile.TemporaryDirectory(dir=playbook.directory) as private:
        log = Path(private) / "log"
        command = [str(BIN / "ansible-playbook"), "-i", str(playbook.inventory), "-f", str(playbook.forks)]
        command += ["-l", limit] if limit else []
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, str(playbook.path)], stdout=output, stderr=output, env=environment(Path(private))
            )
            with running.lock:
                running.pids.add(process.pid)
            code = process.wait()
            with running.lock:
                running.pids.discard(process.pid)
        took = time.monotonic() - began
        if code != 0:
            raise RuntimeError(f"ansible-playbook ended with {code}: {log.read_text(errors='replace')[-1500:]}")
    return took


def run_each(playbooks: Sequence[Playbook], *, at_once: int, running: Running) -> float:
    """Run one ansible-playbook for each, `at_once` at a time; returns how long all took."""
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda playbook: run(playbook, running=running), playbooks))
    return time.monotonic() - began
