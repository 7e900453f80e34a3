# SPDX-License-Identifier: Apache-2.0
"""Where programs, caches and state are on this machine, as the environment says it.

Only reads a mapping; which of the places holds what is the question of binaries.py and control_plane.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stargate_reconciler.settings import state_home

KUBE_MIRROR = "https://dl.k8s.io/release"
ETCD_MIRROR = "https://github.com/etcd-io/etcd/releases/download"


@dataclass(frozen=True)
class Places:
    """The places that an environment names."""

    state: Path
    cache: Path
    bin_dir: Path | None = None
    path: str = ""
    kube_mirror: str = KUBE_MIRROR
    etcd_mirror: str = ETCD_MIRROR

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Places:
        """Return the places of an environment: the variables are those of --help; empty ones count as unset."""
        home = Path(environ.get("HOME") or Path.home())
        bin_dir = environ.get("STARGATE_KUBE_BIN_DIR")
        return cls(
            state=state_home(environ),
            cache=Path(environ.get("STARGATE_CACHE_DIR") or home / ".cache" / "stargate").absolute(),
            bin_dir=Path(bin_dir).absolute() if bin_dir else None,
            path=environ.get("PATH", ""),
            kube_mirror=(environ.get("STARGATE_KUBE_MIRROR") or KUBE_MIRROR).rstrip("/"),
            etcd_mirror=(environ.get("STARGATE_ETCD_MIRROR") or ETCD_MIRROR).rstrip("/"),
        )
