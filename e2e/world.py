# SPDX-License-Identifier: Apache-2.0
"""The parts of the story as a user starts them: control plane, machine image, datacenter, daemon. No checks here.

Everything lives in one temporary directory and ends with this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from stargate_reconciler.demo.objects import Object
from stargate_reconciler.demo.stack import chosen_port
from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.processes import Process

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NAMESPACE = "simulator-dc"
BRIDGE_ADDRESS = "192.168.100.1"
"""The host's own address on the bridge of the usual CIDR."""
ROUTER = "e2e-router"
WORKERS = ("e2e-worker-1", "e2e-worker-2")


def say(text: str) -> None:
    """Show a line of progress."""
    print(f"e2e: {text}", flush=True)


@dataclass
class World:
    """What was started, and where it is. Use as a context: leaving it takes everything down, unless `keep`."""

    provider: str
    workers: Sequence[str] = WORKERS
    keep: bool = False
    network: str = "user"
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="stargate-e2e-")))
    kubeconfig: str = ""
    image: Path = Path()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        if self.keep:
            say(f"kept: export KUBECONFIG={self.kubeconfig}; files in {self.directory}")
            return
        self.daemon.stop(seconds=20)
        for act in (lambda: self.prep("state=absent", "confirm=true"), self.stop_control_plane):
            try:
                act()
            except WorldError as error:
                say(f"cleaning up: {error}")

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of every program: the caller's, with all state in this world's directory."""
        ours = {
            "STARGATE_STATE_DIR": str(self.directory / "state"),
            "STARGATE_MACHINES_DIR": str(self.directory / "machines"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
            "ANSIBLE_NOCOLOR": "" if sys.stdout.isatty() else "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **ours, **({"KUBECONFIG": self.kubeconfig} if self.kubeconfig else {})}

    def program(self, *command: str, seconds: float) -> str:
        """Run a program of ours and return the last line that it prints; its progress goes to the terminal."""
        done = subprocess.run(
            command, env=self.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=seconds
        )
        if done.returncode != 0:
            raise WorldError(f"{Path(command[0]).name} {' '.join(command[1:3])} ended with code {done.returncode}")
        return done.stdout.strip().rpartition("\n")[2]

    def build_image(self) -> None:
        """Build the machine image, or take it from the cache."""
        self.image = Path(self.program(f"{BIN}/stargate-machine-image", "build", seconds=1500))

    def versions(self) -> list[str]:
        """Return the Kubernetes versions in the image, the oldest first."""
        found = [path.name.removeprefix("v") for path in (self.image / "root/opt/stargate/kubernetes").glob("v*")]
        return sorted(found, key=lambda version: [int(part) for part in version.split(".")])

    def start_control_plane(self) -> None:
        """Start a control plane that machines can join: over the bridge, or as the host's loopback of QEMU."""
        over = ["--advertise", BRIDGE_ADDRESS, "--bind", "0.0.0.0"] if self.network == "bridge" else []  # noqa: S104 - machines come over the bridge
        self.kubeconfig = self.program(f"{BIN}/stargate-control-plane", "up", "--joinable", *over, seconds=900)

    def stop_control_plane(self) -> None:
        """Stop the control plane and remove its files."""
        self.program(f"{BIN}/stargate-control-plane", "down", seconds=60)

    def prep(self, *variables: str, seconds: float = 600) -> str:
        """Run prep-dc-inventory, shown on the terminal; returns its output."""
        image = {"nspawn": [f"nspawn_image={self.image}/root"], "qemu": self._qemu_image()}[self.provider]
        ours = [f"provider={self.provider}", f"dc_namespace={NAMESPACE}", f"router_name={ROUTER}"]
        ours += [f"vm={','.join(self.workers)}", f"outputs_dir={self.directory}/outputs", *image, *variables]
        command = [f"{BIN}/ansible-playbook", "playbooks/prep-dc-inventory.yml"]
        command += [word for variable in ours for word in ("-e", variable)]
        lines = []
        with subprocess.Popen(command, env=self.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + seconds
            for line in process.stdout or ():
                lines.append(line)
                print(f"  {line}", end="", flush=True)
                if time.monotonic() > deadline:
                    process.terminate()
        if process.returncode != 0:
            raise WorldError(f"prep-dc-inventory ended with code {process.returncode}")
        return "".join(lines)

    def _qemu_image(self) -> list[str]:
        files = {"url": "disk.qcow2", "kernel": "vmlinuz", "initrd": "initrd"}
        sizes = [f"network={self.network}", "qemu_cpus=2", "qemu_memory=1536", "qemu_disk=10"]
        return [*(f"qemu_image_{name}={self.image}/{file}" for name, file in files.items()), *sizes]

    def outputs(self) -> Object:
        """Return what prep-dc-inventory has written for later steps."""
        text = (self.directory / "outputs" / f"{ROUTER}.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    @property
    def daemon(self) -> Process:
        """The daemon's process."""
        return Process("reconciler", self.directory)

    def start_daemon(self) -> None:
        """Start the daemon, with the variables of this kind of site."""
        ports = [str(chosen_port(0)) for _ in range(2)]
        command = [f"{BIN}/stargate-reconciler", "--kubeconfig", self.kubeconfig, "--log-format", "human"]
        # Machines that boot beside it can keep it from renewing a Lease of 15 s.
        command += ["--runs-dir", f"{self.directory}/runs", "--namespace", NAMESPACE, "--lease-seconds", "120"]
        command += ["--vars-file", f"{ROOT}/inventories/{self.provider}/site.yml"]
        command += ["--metrics-bind-address", f"127.0.0.1:{ports[0]}"]
        command += ["--health-probe-bind-address", f"127.0.0.1:{ports[1]}"]
        self.daemon.start(command, environ=dict(self.environ))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; returns what it prints, raises WorldError with what it complains of."""
        command = ["scripts/kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        done = subprocess.run(
            command, input=stdin, env=self.environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode != 0:
            raise WorldError(f"kubectl {' '.join(arguments[:4])}: {done.stderr.strip()[:512]}")
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, *words: str) -> Object:
        """Return one object; {} when there is none."""
        text = self.kubectl("get", *words, "-o", "json", "--ignore-not-found")
        return dict(json.loads(text)) if text.strip() else {}
