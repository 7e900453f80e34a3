# SPDX-License-Identifier: Apache-2.0
"""The demo's cluster as a user has it: kubectl, the CRDs, the samples.

How the cluster is started is not known here.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..catalogue import built_in
from ..errors import WorldError

SAMPLES = ("namespaces.yaml", "profiles.yaml", "servers.yaml", "operation-repave.yaml", "operations.yaml")
DEFINITIONS = ("servers.yaml", "provisioningprofiles.yaml", "operations.yaml")


def checkout() -> Path:
    """Return the directory that this all is in."""
    return built_in().parent.parent


class Cluster:
    """kubectl against the demo's cluster."""

    def __init__(self, kubectl: str, kubeconfig: str) -> None:
        self.kubectl = kubectl
        self.kubeconfig = kubeconfig

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints; raises WorldError with what it complains of."""
        done = self._done(*arguments, stdin=stdin)
        if done.returncode != 0:
            raise WorldError(f"Failed to run kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[:512]}")
        return done.stdout

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
        """Apply objects, their Operations anew; returns the Operations' namespaces and names."""
        wanted = {
            (str(item["metadata"]["namespace"]), str(item["metadata"]["name"]))
            for item in objects
            if item["kind"] == "Operation"
        }
        for namespace, name in wanted:
            self.run("delete", "operation", name, "-n", namespace, "--ignore-not-found")
        self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
        return wanted

    def install_definitions(self) -> None:
        """Install the three CRDs and wait until they are served.

        Without kubectl's own validation: servers before 1.25 do not know x-kubernetes-validations and ignore it.
        """
        files = [part for name in DEFINITIONS for part in ("-f", str(checkout() / "crds" / name))]
        self.run("apply", "--validate=false", *files)
        names = [f"crd/{Path(name).stem}.stargate.io" for name in DEFINITIONS]
        deadline = time.monotonic() + 60
        while True:
            try:
                self.run("wait", "--for=condition=Established", "--timeout=60s", *names)
                return
            except WorldError:  # kubectl cannot wait for a condition before there is any
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def apply_samples(self) -> set[tuple[str, str]]:
        """Apply the samples, their Operations anew; returns the Operations' namespaces and names."""
        samples = checkout() / "crds" / "examples"
        operations = [samples / name for name in SAMPLES if name.startswith("operation")]
        for path in (path for path in operations if self._has(samples / SAMPLES[0])):
            self.run("delete", "--ignore-not-found", "-f", str(path))
        for name in SAMPLES:
            self.run("apply", "-f", str(samples / name))
        items = [item for path in operations for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
        return {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}

    def _has(self, path: Path) -> bool:
        return self._done("get", "-f", str(path)).returncode == 0

    def _done(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.kubectl, *arguments],
            env={**os.environ, "KUBECONFIG": self.kubeconfig},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
