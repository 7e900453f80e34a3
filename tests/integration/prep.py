# SPDX-License-Identifier: Apache-2.0
"""prep-dc-inventory as its users run it, with all state in one directory that is removed at the end.

What is expected of a run is the tests' own business.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """How a run of the playbook ended. `changed` counts over all hosts."""

    code: int
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        """Return how many tasks changed something."""
        return sum(int(match[2]) for match in RECAP.finditer(self.output))


@dataclass
class Prep:
    """The playbook for one namespace of one cluster; `site()` names what it makes. Use as a context."""

    kubeconfig: str = ""
    namespace: str = "prep-test"
    provider: str = "nspawn"
    image: str = ""
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="stargate-prep-", dir="/var/tmp")))

    def __enter__(self) -> Prep:
        return self

    def __exit__(self, *_: object) -> None:
        for site in sorted(self.machines.glob("*/*.site")):
            self.run("state=absent", "confirm=true", "skip_server_cr=true", f"router_name={site.stem}")
        shutil.rmtree(self.directory)

    @property
    def machines(self) -> Path:
        """Return the directory of all machines."""
        return self.directory / "machines"

    def run(self, *variables: str, check: bool = False, playbook: str = "prep-dc-inventory.yml") -> Run:
        """Run the playbook with variables in the form name=value."""
        ours = [f"provider={self.provider}", f"dc_namespace={self.namespace}", f"qemu_work_dir={self.machines}"]
        ours += [f"nspawn_image={self.image}"] if self.image else []
        ours += [f"kubeconfig={self.kubeconfig}"] if self.kubeconfig else ["skip_server_cr=true"]
        words = [word for variable in (*ours, *variables) for word in ("-e", variable)]
        command = [str(BIN / "ansible-playbook"), *(["--check"] if check else []), f"playbooks/{playbook}"]
        home = {"HOME": str(self.directory), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        home["TAILSCALE_AUTH_KEY"] = ""
        started = time.monotonic()
        done = subprocess.run(
            [*command, *words],
            cwd=ROOT,
            env={**os.environ, **home},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - started)

    def must(self, *variables: str, playbook: str = "prep-dc-inventory.yml") -> Run:
        """Run the playbook, which has to succeed."""
        run = self.run(*variables, playbook=playbook)
        assert run.code == 0, run.output
        return run

    def outputs(self, site: str) -> dict[str, Any]:
        """Return what the playbook has written for later steps."""
        path = self.machines / self.namespace / f"{site}.site" / f"{site}.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def ssh(self, site: str, host: str, *command: str) -> str:
        """Run a command on a machine, as a person does with the site's SSH configuration."""
        words = ["ssh", "-F", self.outputs(site)["ssh_config"], host, *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def machine_image() -> Path:
    """Return the directory of the machines' image; it is built when it is not there, which takes minutes."""
    command = [str(BIN / "stargate-machine-image"), "build"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=1500, check=True)
    return Path(done.stdout.strip().splitlines()[-1])
