# SPDX-License-Identifier: Apache-2.0
"""Real machines of systemd-nspawn on which the roles of a worker are tried, as plays run them.

What is expected of a role is the tests' own business.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.prep import Prep, machine_image

GATEWAY = "10.0.2.2"  # the host's loopback, as the machines reach it
NEEDS_ROOT = [
    pytest.mark.skipif(os.geteuid() != 0, reason="machines of systemd-nspawn need root"),
    pytest.mark.timeout(900),
]
PLAY = """\
- hosts: "{{ on }}"
  gather_facts: false
  tasks:
    - block:
        - include_role:
            name: stargate.core.{{ role }}
        - set_fact:
            outcome: "{{ lookup('vars', role ~ '_result') }}"
      rescue:
        - set_fact:
            outcome: "{{ ansible_failed_result }}"
      always:
        - copy:
            content: "{{ outcome | to_json }}"
            dest: "{{ into }}"
            mode: "0600"
          delegate_to: localhost
          check_mode: false
          vars:
            ansible_connection: local
            ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""


@dataclass
class Worker:
    """A machine behind its router. `seconds` is how long the last role took, ansible-playbook's start included."""

    prep: Prep
    site: str
    name: str
    seconds: float = 0.0

    def role(self, role: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Play a role with these options, given without the role's prefix; returns its task's result, failed or not."""
        directory = self.prep.directory
        into = directory / "outcome.json"
        (directory / "role.yml").write_text(PLAY)
        given = {"role": role, "on": self.name, "into": str(into)}
        given |= {f"{role}_{name}": value for name, value in options.items()}
        (directory / "given.json").write_text(json.dumps(given))
        (directory / "given.json").chmod(0o600)
        outputs = self.prep.outputs(self.site)
        command = [str(Path(sys.executable).parent / "ansible-playbook"), *(["--check", "--diff"] if check else [])]
        command += ["-i", f"{self.name},", "-e", f"@{directory}/given.json", str(directory / "role.yml")]
        environ = {"ANSIBLE_SSH_ARGS": f"-F {outputs['ssh_config']}", "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1"}
        environ["ANSIBLE_PYTHON_INTERPRETER"] = "/usr/bin/python3"
        started = time.monotonic()
        done = subprocess.run(
            command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=400, check=False
        )
        self.seconds = time.monotonic() - started
        assert into.exists(), done.stdout + done.stderr
        outcome: dict[str, Any] = json.loads(into.read_text())
        into.unlink()
        assert "Traceback" not in done.stdout + done.stderr
        return outcome

    def must(self, role: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Play a role that has to succeed."""
        outcome = self.role(role, check=check, **options)
        assert not outcome.get("failed"), outcome
        return outcome

    def refused(self, role: str, **options: Any) -> dict[str, Any]:
        """Play a role that has to fail; returns what its failure says for programs."""
        outcome = self.role(role, **options)
        assert outcome.get("failed"), outcome
        assert outcome["msg"].startswith("Failed to ")
        failure: dict[str, Any] = outcome["failure"]
        return failure

    def ssh(self, *command: str) -> str:
        """Run a command on the machine; returns what it says."""
        return self.prep.ssh(self.site, self.name, *command)


@contextmanager
def worker(name: str) -> Iterator[Worker]:
    """Give a machine behind a router of its own, gone afterwards."""
    site = f"{name}-gw"
    with Prep(namespace=f"{name}-test", image=str(machine_image() / "root")) as prep:
        prep.must(f"router_name={site}", f"vm={name}")
        yield Worker(prep, site, name)
