# SPDX-License-Identifier: Apache-2.0
"""Which programs a control plane is made of, which versions are the default, and what a source is asked for.

The pinned versions stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stargate_reconciler.local.flags import CONTROLLERS
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.progress import Progress

# What is downloaded when nobody asks for another version.
KUBERNETES_VERSION = "1.34.1"
ETCD_VERSION = "3.6.4"

NEEDED = ("etcd", "kube-apiserver", "kubectl")
WITH_CONTROLLERS = (*NEEDED, *CONTROLLERS)
EVERYTHING = (*WITH_CONTROLLERS, "kubeadm", "kubelet")

# These must be of one version. kubectl may differ, and etcd has versions of its own.
ONE_VERSION = frozenset(EVERYTHING) - {"etcd", "kubectl"}


@dataclass(frozen=True)
class Request:
    """Programs that are wanted; `version` ("1.20.2") is None when any will do."""

    programs: tuple[str, ...]
    places: Places
    version: str | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def kept(self) -> Path:
        """Where the cache keeps a directory of programs for each Kubernetes version."""
        return self.places.cache / "kube"


# A source returns what it has of the programs, or raises WorldError with the reason why it has nothing.
Source = Callable[[Request], dict[str, Path]]
