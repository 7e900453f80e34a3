# SPDX-License-Identifier: Apache-2.0
"""From a machine whose SSH server answers to a member of the cluster: the roles, against a shell script by hand.

Each join that is measured is that of a machine made afresh. What is done is in bootstrap.yml and bootstrap.sh.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.world import NAMESPACE, World

from bench.playbook import environment
from bench.results import Row, median
from bench.world import BIN, ROOT, say
from bench.world import World as Bench
from stargate_reconciler.demo.objects import Object
from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.binaries import directory_of, obtain
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import Request

NAME = "bench-worker"
MOST_RATIO, MOST_SECONDS = 1.3, 10.0
JOIN_SECONDS, BOOT_SECONDS = 900, 1200
TOKEN_TASK = "stargate.core.control_plane : Make a token"  # noqa: S105 - the name of a task
"""The one task that changes something in every run: it makes a token and revokes the one before."""


def measure(bench: Bench) -> list[Row]:
    """Return the rows of a first and of a second run."""
    rounds = 1 if bench.small else 2
    script, roles, again = [], [], []
    with World("nspawn" if bench.small and os.geteuid() == 0 else "qemu", (NAME,)) as site:
        worker = Worker.made(site, bench.directory)
        for number in range(rounds):
            worker.renew(f"script-{number}")
            script.append(worker.by_script())
            worker.renew(f"roles-{number}")
            roles.append(worker.by_roles())
            again.append(worker.by_roles(changes=False))
            say(f"join: script {script[-1]:.1f} s, roles {roles[-1]:.1f} s, roles once more {again[-1]:.1f} s")
    ratio = median(roles) / median(script)
    detail = {"roles_s": median(roles), "script_s": median(script), "machine": worker.kind, "rounds": rounds}
    first = "a machine becomes a Node by the roles, SSH-ready to joined, against a shell script by hand"
    second = "the same roles once more, without change"
    return [
        Row(first, ratio, "<= 1.3 x", holds=ratio <= MOST_RATIO, unit="x", detail=detail),
        Row(second, median(again), "<= 10 s", holds=median(again) <= MOST_SECONDS, unit="s", detail={"rounds": rounds}),
    ]


@dataclass
class Worker:
    """A worker behind its router, and how it is reached; `kind` is what its machine runs on."""

    site: World
    directory: Path
    environ: Mapping[str, str]
    outputs: Object
    kind: str = ""

    @classmethod
    def made(cls, site: World, directory: Path) -> Worker:
        """Make the control plane, a router and the worker, as prep-dc-inventory makes them."""
        site.build_image()
        site.start_control_plane()
        site.prep("skip_server_cr=true", f"boot_timeout={BOOT_SECONDS}", seconds=2 * BOOT_SECONDS)
        outputs = site.outputs()
        programs = directory_of(
            obtain(Request(("kubeadm", "kubectl"), Places.read(os.environ))), Places.read(os.environ)
        )
        ours = {
            "KUBECONFIG": site.kubeconfig,
            "SSH_CONFIG": str(outputs["ssh_config"]),
            "STARGATE_MACHINES_DIR": str(outputs["machines_dir"]),
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "PATH": f"{programs}{os.pathsep}{environment(directory)['PATH']}",
        }
        return cls(site, directory, {**environment(directory), **ours}, outputs)

    def renew(self, instance: str) -> None:
        """Take the Node away and make the machine afresh; returns when its first boot has ended."""
        self.site.kubectl("delete", "node", NAME, "--ignore-not-found")
        module = {"qemu": "qemu_vm", "nspawn": "nspawn_machine"}[self.site.provider]
        wanted = {"name": NAME, "namespace": NAMESPACE, "state": "recreated", "instance_id": instance}
        command = [f"{BIN}/ansible", "localhost", "-m", f"stargate.core.{module}", "-a"]
        said = self._run([*command, json.dumps({**wanted, "wait": BOOT_SECONDS})], BOOT_SECONDS)
        made = json.loads(said.partition(" => ")[2])["machine"]
        self.kind = f"{made['provider']} {made['accel']}".removesuffix(" none")
        reached = {"ssh_config": self.environ["SSH_CONFIG"], "hosts": [{"name": NAME}], "timeout": BOOT_SECONDS}
        self._run(
            [f"{BIN}/ansible", "localhost", "-m", "stargate.core.ssh_wait", "-a", json.dumps(reached)], BOOT_SECONDS
        )
        ready = "cloud-init status --wait >/dev/null && { systemctl is-system-running --wait || true; }"
        self._run(["ssh", "-F", self.environ["SSH_CONFIG"], NAME, ready], BOOT_SECONDS)

    def by_script(self) -> float:
        """Return how long the script took to make a Node of the machine, in seconds."""
        address, pods = self.server["address"], self.server["podCIDR"]
        return self._timed([str(ROOT / "bench/bootstrap.sh"), NAME, address, pods, self.version, self.cgroups])[0]

    def by_roles(self, *, changes: bool = True) -> float:
        """Return how long the roles took; raises WorldError when they changed something and should not have."""
        variables = {
            "ansible_ssh_common_args": f"-F {self.environ['SSH_CONFIG']}",
            "node_runtime_kubernetes_version": self.version,
            "node_runtime_pod_cidr": self.server["podCIDR"],
            "kubeadm_join_node_ip": self.server["address"],
        }
        inventory = self.directory / "bootstrap.json"
        inventory.write_text(json.dumps({"all": {"hosts": {NAME: variables}}}), encoding="utf-8")
        command = [f"{BIN}/ansible-playbook", "-i", str(inventory), str(ROOT / "bench/bootstrap.yml")]
        command += ["-e", f"@{ROOT}/inventories/{self.site.provider}/site.yml"]
        with tempfile.TemporaryDirectory(dir=self.directory) as sockets:  # no run finds the connection of another
            took, said = self._timed(command, {"ANSIBLE_SSH_CONTROL_PATH_DIR": sockets})
        tasks = re.findall(r"^TASK \[(.*)\] \**\n(?:(?!TASK).*\n)*?changed: ", said, re.MULTILINE)
        if not changes and tasks != [TOKEN_TASK]:
            raise WorldError(f"Failed to measure a second run: it changed something: {', '.join(tasks)}.")
        return took

    @property
    def server(self) -> Object:
        """What prep-dc-inventory knows of the worker."""
        return dict(next(server for server in self.outputs["servers"] if server["name"] == NAME))

    @property
    def version(self) -> str:
        """The version of Kubernetes: the oldest in the image."""
        return self.site.versions()[0]

    @property
    def cgroups(self) -> str:
        """Who manages control groups on the machine."""
        return "cgroupfs" if self.site.provider == "nspawn" else "systemd"

    def _timed(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> tuple[float, str]:
        """Run what makes a Node, and see that there is one; returns how long it took, and what it said."""
        began = time.monotonic()
        said = self._run(command, JOIN_SECONDS, environ or {})
        took = time.monotonic() - began
        if not self.site.get("node", NAME):
            raise WorldError(
                f"Failed to measure a join: there is no Node {NAME} after it. The last words:\n{said[-1500:]}"
            )
        return took, said

    def _run(self, command: Sequence[str], seconds: float, environ: Mapping[str, str] | None = None) -> str:
        """Run a program; returns its standard output."""
        ours = {**self.environ, **(environ or {})}
        done = subprocess.run(command, env=ours, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
        if done.returncode != 0:
            words = (done.stdout + done.stderr)[-1500:]
            raise WorldError(f"{Path(command[0]).name} ended with code {done.returncode}:\n{words}")
        return done.stdout
