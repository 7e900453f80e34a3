# SPDX-License-Identifier: Apache-2.0
"""Which Kubernetes goes into the machines' image: the version at hand, and a second patch version to upgrade to.

Where programs come from is known to binaries.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stargate_reconciler.local.binaries import from_bin_dir, from_cache, from_path, obtain
from stargate_reconciler.local.control_plane import version_of
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import Request
from stargate_reconciler.local.progress import Progress

PROGRAMS = ("kubeadm", "kubelet", "kubectl")
_CACHE_FIRST = (("the cache", from_cache), ("STARGATE_KUBE_BIN_DIR", from_bin_dir), ("PATH", from_path))


def programs_of(
    places: Places, progress: Progress, *, version: str | None = None, single: bool = False
) -> dict[str, Mapping[str, Path]]:
    """Return for each version that an image shall hold where its programs are, fetched or built when they are not."""
    found = obtain(Request(("kubelet", "kubeadm"), places, version, progress), look=_CACHE_FIRST)
    first = version_of(found["kubelet"])
    versions: dict[str, Mapping[str, Path]] = {first: _all(places, progress, first)}
    return versions


def _all(places: Places, progress: Progress, version: str) -> dict[str, Path]:
    return obtain(Request(PROGRAMS, places, version, progress), look=_CACHE_FIRST)
