# SPDX-License-Identifier: Apache-2.0
"""What a person may set, as one frozen value.

Reading flags and the environment is `cli.py`'s; nobody else looks at either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def state_home(environ: Mapping[str, str]) -> Path:
    """Return the directory for what outlives a process: STARGATE_STATE_DIR, else the XDG state directory.

    Empty variables count as unset.
    """
    home = Path(environ.get("HOME") or Path.home())
    base = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return Path(environ.get("STARGATE_STATE_DIR") or base / "stargate").absolute()


@dataclass(frozen=True)
class Settings:
    """All settings of one daemon. Durations are seconds."""

    kubeconfig: str | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    operations_dirs: tuple[Path, ...] = ()
    runs_dir: Path = field(default_factory=lambda: state_home(os.environ) / "runs")
    datacenters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    vars_files: tuple[Path, ...] = ()
    kubernetes_version: str = "1.34"
    control_plane: Mapping[str, str] = field(default_factory=dict)
    identity: str = "stargate-reconciler"
    lease_namespace: str = "default"
    lease_name: str = "stargate-reconciler"
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    renew_period: float = 2.0
    leader_elect: bool = True
    workers: int = 4
    max_runs: int = 8
    max_hosts_per_run: int = 500
    forks: int = 0
    batch_window: float = 0.1
    default_deadline: float = 3600.0
    drain_seconds: float = 30.0
    retry_base: float = 10.0
    retry_cap: float = 300.0
    keep_runs: int = 50
    keep_runs_seconds: float = 86400.0
    keep_runs_bytes: int = 512 * 1024 * 1024
    metrics_address: str = ":8083"
    health_address: str = ":8084"
    max_unhealthy: float = 0.4
    auto_repave_limit: int = 3
    auto_repave_pause: float = 600.0
    probe_seconds: float = 30.0
    once: bool = False
    dry_run: bool = False

    @property
    def cluster(self) -> Mapping[str, Any]:
        """What plays know of the cluster that machines join: how it is reached, and what profiles may leave out."""
        reached = {"kubeconfig": self.kubeconfig or "", "context": self.context or ""}
        usual = {"kubernetesVersion": self.kubernetes_version, "controlPlane": dict(self.control_plane)}
        return {**{key: value for key, value in reached.items() if value}, "defaults": usual}
