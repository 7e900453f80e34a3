# SPDX-License-Identifier: Apache-2.0
"""The world that is measured: a fresh control plane, a mock datacenter, sshd hosts, the daemon; all on loopback.

Every program is bound to this process and ended by its pid. What is asked of the world is in `row_*.py`.
"""

from __future__ import annotations

import base64
import getpass
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.api import Api
from bench.objects import Object
from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.binaries import obtain
from stargate_reconciler.local.control_plane import ControlPlane
from stargate_reconciler.local.flags import Settings
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.ports import free_ports
from stargate_reconciler.local.processes import Process
from stargate_reconciler.local.programs import NEEDED, Request

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
START_SECONDS = 60.0
PORTS_PER_SSHD = 13
"""sshd refuses more than 16 addresses to listen on."""


def say(text: str) -> None:
    """Show a line of progress."""
    print(f"bench: {text}", flush=True)


@dataclass
class Daemon:
    """A running stargate-reconciler."""

    process: Process
    metrics_port: int

    @property
    def pid(self) -> int:
        """Its pid; raises WorldError when it has died."""
        pid = self.process.pid
        if pid is None:
            raise WorldError(f"The reconciler died. The last lines of its log:\n{self.process.tail()}")
        return pid

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        text = ask(self.metrics_port, "/metrics")
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))


def ask(port: int, path: str) -> str:
    """Return what a server on loopback answers; "" when it does not, or not with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
        return text if response.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


@dataclass
class World:
    """Everything that was started, below one directory; open it as a context."""

    small: bool = False
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="stargate-bench-")))
    processes: list[Process] = field(default_factory=list)

    def __enter__(self) -> World:
        """Start the control plane and install the CRDs."""
        say("starting etcd and kube-apiserver")
        self.plane = ControlPlane(self.directory / "control-plane", bound=True)
        programs = obtain(Request(NEEDED, Places.read(os.environ)))
        try:
            self.plane.start(programs)
            settings = _settings(self.plane)
            self.kubectl, self.version = str(programs["kubectl"]), settings.version
            self.kubeconfig = str(self.plane.kubeconfig)
            self.api = Api(settings.port, self.plane.directory / "pki")
            # Kubernetes 1.20 does not know the CEL rules: it prunes them, but kubectl would refuse them before.
            self.run_kubectl("apply", "--validate=false", "-f", str(ROOT / "crds"))
            self.run_kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything and remove the directory."""
        self.end_all()
        self.plane.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run_kubectl(self, *arguments: str) -> str:
        """Run kubectl as admin; returns its standard output."""
        command = [self.kubectl, "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Process:
        """Start a program that ends with this process at the latest."""
        process = Process(f"{name}-{len(self.processes)}", self.directory / "run")
        process.start(command, environ=environ or clean_environment(), bound=True)
        self.processes.append(process)
        return process

    def end(self, process: Process) -> None:
        """End a program that was started here."""
        process.stop(seconds=20)
        self.processes.remove(process)

    def end_all(self) -> None:
        """End every program that was started here, the last one first."""
        while self.processes:
            self.end(self.processes[-1])

    def start_datacenter(self, *, speed: float) -> str:
        """Start a mock datacenter, whose repaves take 30 s divided by `speed`; returns its URL."""
        (port,) = free_ports(1)
        process = self.start("mock-dc", [str(BIN / "stargate-mock-dc"), "--port", str(port), "--speed", str(speed)])
        await_answer(process, port, "/healthz")
        return f"http://127.0.0.1:{port}"

    def start_daemon(self, *flags: str) -> Daemon:
        """Start the reconciler with its defaults and `flags`, and wait until it leads."""
        metrics, health = free_ports(2)
        command = [str(BIN / "stargate-reconciler"), "--kubeconfig", self.kubeconfig, "--log-format", "human"]
        command += ["--runs-dir", str(self.directory / "runs"), "--metrics-bind-address", f"127.0.0.1:{metrics}"]
        command += ["--health-probe-bind-address", f"127.0.0.1:{health}", *flags]
        process = self.start("reconciler", command)
        daemon = Daemon(process, metrics)
        await_answer(process, health, "/readyz")
        self.until(lambda: daemon.metric("stargate_leader") == 1.0, "the reconciler does not lead", process)
        return daemon

    def until(self, holds: object, complaint: str, process: Process, *, seconds: float = START_SECONDS) -> None:
        """Wait until a function returns true; raises WorldError with the end of the process's log."""
        deadline = time.monotonic() + seconds
        while not holds():  # type: ignore[operator]  # a function without arguments
            if time.monotonic() > deadline or process.pid is None:
                raise WorldError(f"Failed to measure: {complaint}. The last lines of its log:\n{process.tail()}")
            time.sleep(0.1)

    def start_hosts(self, count: int) -> SshHosts:
        """Start sshd on `count` ports of loopback, some ports to a process, with one key that lets this user in."""
        directory = self.directory / f"sshd-{len(self.processes)}"
        directory.mkdir(mode=0o700)
        for name in ("key", "host_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
            subprocess.run(command, check=True, timeout=30)
        hosts = SshHosts(directory, free_ports(count))
        for first in range(0, count, PORTS_PER_SSHD):
            process = self.start("sshd", hosts.command(hosts.ports[first : first + PORTS_PER_SSHD]))
            self.until(lambda process=process: "listening on" in process.tail(50), "sshd does not listen", process)
        return hosts


@dataclass
class SshHosts:
    """Some sshd hosts on loopback."""

    directory: Path
    ports: list[int]

    @property
    def key(self) -> Path:
        """The private key that they let in."""
        return self.directory / "key"

    def command(self, ports: Sequence[int]) -> list[str]:
        """Return the command of one sshd that listens on some of the ports."""
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if program is None:
            raise WorldError("Failed to start sshd: it is missing. Run scripts/packages, or install openssh-server.")
        Path("/run/sshd").mkdir(exist_ok=True)
        settings = {
            "ListenAddress": "127.0.0.1",
            "HostKey": self.directory / "host_key",
            "PidFile": "none",
            "AuthorizedKeysFile": self.directory / "key.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "MaxStartups": "100:30:200",
            "PermitRootLogin": "prohibit-password",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        chosen = [word for port in ports for word in ("-p", str(port))]
        return [program, "-D", "-e", "-f", "/dev/null", *options, *chosen]

    def secret(self) -> Object:
        """Return the Secret that lets the daemon in."""
        values = {"privateKey": self.key.read_bytes(), "username": getpass.getuser().encode()}
        data = {name: base64.b64encode(value).decode() for name, value in values.items()}
        return {"metadata": {"name": "ssh"}, "type": "Opaque", "data": data}


def _settings(plane: ControlPlane) -> Settings:
    if plane.settings is None:
        raise WorldError("Failed to start the control plane: it has no settings.")
    return plane.settings


def await_answer(process: Process, port: int, path: str, *, seconds: float = START_SECONDS) -> None:
    """Wait until a server answers with 200; raises WorldError with the end of its log."""
    deadline = time.monotonic() + seconds
    while not ask(port, path):
        if time.monotonic() > deadline or process.pid is None:
            raise WorldError(f"{process.name} does not answer. The last lines of its log:\n{process.tail()}")
        time.sleep(0.05)


def clean_environment() -> dict[str, str]:
    """Return our environment without what Stargate and Ansible would read as settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("STARGATE_", "ANSIBLE_"))}


def ansible_version() -> str:
    """Return the version of ansible-core."""
    command = [
        str(BIN / "python"),
        "-c",
        "import ansible.release, json; print(json.dumps(ansible.release.__version__))",
    ]
    return str(json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout))
