# SPDX-License-Identifier: Apache-2.0
"""The demo's own machines: a router and three workers in namespaces, which Operations turn into Nodes.

Made and taken down by prep-dc-inventory, as a user would; what Operations do to them is the daemon's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WorldError
from ..local.progress import Progress
from . import objects

NAMESPACE = "simulator-dc"
ROUTER = "demo-router"
WORKERS = ("node-1", "node-2", "node-3")
FRESH, RENEWED = "k8s-worker", "k8s-worker-renewed"
"""Profiles: one that sets up a machine as it is, one that gives it a new disk first."""
PROGRAMS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "slirp4netns": "slirp4netns",
    "systemd-nspawn": "systemd-container",
}
"""What machines in namespaces need on their host, with Debian's packages."""
_BIN = Path(sys.executable).parent
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def lacking(kubeconfig: str | None) -> str:
    """Return why machines cannot be made here, "" when they can."""
    if kubeconfig is not None:
        return "the cluster is yours, and machines of the demo may not reach it"
    if os.geteuid() != 0:
        return "machines in namespaces need root"
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program, path=_PATH) is None]
    return f"this machine has no {', '.join(missing)}: apt-get install {' '.join(missing)}" if missing else ""


def build_image() -> Path:
    """Return the directory of the machines' image, built when it is not in the cache."""
    done = subprocess.run(
        [str(_BIN / "stargate-machine-image"), "build"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise WorldError("Failed to build the machines' image; the lines above say why.")
    return Path(done.stdout.strip().rpartition("\n")[2])


def version(image: Path) -> str:
    """Return the oldest Kubernetes version in an image."""
    found = [path.name.removeprefix("v") for path in (image / "root/opt/stargate/kubernetes").glob("v*")]
    return min(found, key=lambda name: [int(part) for part in name.split(".")])


@dataclass(frozen=True)
class Site:
    """One router with its workers. `directory` keeps the machines, `log` what making them said."""

    checkout: Path
    directory: Path
    kubeconfig: str
    progress: Progress

    @property
    def log(self) -> Path:
        """Where the play's output goes."""
        return self.directory / "prep-dc-inventory.log"

    @property
    def variables(self) -> Path:
        """The site variables of such machines."""
        return self.checkout / "inventories" / "nspawn" / "site.yml"

    @property
    def environ(self) -> Mapping[str, str]:
        """What play and daemon have to know in common."""
        return {"STARGATE_MACHINES_DIR": str(self.directory / "machines")}

    def make(self, image: Path) -> bytes:
        """Make the machines and their Servers; returns the private key that opens them."""
        self._play("making a router and three machines", [f"nspawn_image={image}/root"])
        outputs = json.loads((self.directory / "outputs" / f"{ROUTER}.json").read_text(encoding="utf-8"))
        return Path(outputs["ssh_private_key"]).read_bytes()

    def take_down(self) -> bool:
        """Take the machines down; returns whether there were any."""
        if not (self.directory / "machines").is_dir():
            return False
        self._play("taking the machines down", ["state=absent", "confirm=true", "skip_server_cr=true"])
        return True

    def _play(self, text: str, variables: Sequence[str]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        ours = ["provider=nspawn", f"dc_namespace={NAMESPACE}", f"router_name={ROUTER}", f"vm={','.join(WORKERS)}"]
        ours += [f"outputs_dir={self.directory}/outputs", *variables]
        command = [str(_BIN / "ansible-playbook"), "playbooks/prep-dc-inventory.yml"]
        command += [word for variable in ours for word in ("-e", variable)]
        environ = {**os.environ, **self.environ, "KUBECONFIG": self.kubeconfig, "ANSIBLE_NOCOLOR": "1"}
        with self.log.open("wb") as log, self.progress.step(text):
            done = subprocess.run(command, cwd=self.checkout, env=environ, stdout=log, stderr=log, check=False)
        if done.returncode != 0:
            last = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-12:])
            raise WorldError(f"Failed at {text}. The last lines of {self.log}:\n{last}")


def manifests(key: bytes, version: str) -> list[dict[str, Any]]:
    """Return the Secret, the two profiles and an Operation for each worker that makes it a Node."""
    drain = {"timeoutSeconds": 60}
    return [
        objects.ssh_secret(NAMESPACE, key),
        objects.profile(
            NAMESPACE, FRESH, {"kubernetesVersion": version, "repave": {"strategy": "inPlace"}, "drain": drain}
        ),
        objects.profile(
            NAMESPACE, RENEWED, {"kubernetesVersion": version, "repave": {"strategy": "recreate"}, "drain": drain}
        ),
        *(joining(name, FRESH) for name in WORKERS),
    ]


def joining(worker: str, profile: str) -> dict[str, Any]:
    """Return the Operation that repaves a worker with a profile."""
    name = f"{'join' if profile == FRESH else 'repave'}-{worker}"
    return objects.operation(NAMESPACE, name, {"server": worker, "profile": profile, "operation": "repave"})
