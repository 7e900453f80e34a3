# SPDX-License-Identifier: Apache-2.0
"""Where etcd, kube-apiserver, kubectl and the others come from: the sources in their order, and one error for all.

How a release is downloaded is in release.py, how the archive's source package is built in debian.py.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.control_plane import version_of
from stargate_reconciler.local.flags import CONTROLLERS
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.progress import Progress

NEEDED = ("etcd", "kube-apiserver", "kubectl")
EVERYTHING = (*NEEDED, *CONTROLLERS, "kubeadm", "kubelet")
KUBERNETES_VERSION = "1.34.1"  # what is downloaded when nobody asks for another; ETCD_VERSION is in release.py

# A kubectl of another version is fine, and etcd has versions of its own.
_VERSIONED = frozenset(EVERYTHING) - {"etcd", "kubectl"}


@dataclass(frozen=True)
class Request:
    """Programs that are still missing; `version` is None when any will do."""

    programs: tuple[str, ...]
    places: Places
    version: str | None = None
    progress: Progress = Progress()

    def directory(self, version: str) -> Path:
        """Return where the cache keeps the programs of a Kubernetes version."""
        return self.places.cache / "kube" / version


# A source returns what it has of the programs, or raises WorldError with the reason why it has nothing.
Source = Callable[[Request], dict[str, Path]]


def from_bin_dir(request: Request) -> dict[str, Path]:
    """Return the programs in STARGATE_KUBE_BIN_DIR."""
    if request.places.bin_dir is None:
        raise WorldError("not set")
    return _found(request, str(request.places.bin_dir))


def from_path(request: Request) -> dict[str, Path]:
    """Return the programs on PATH."""
    return _found(request, request.places.path)


def _found(request: Request, path: str) -> dict[str, Path]:
    places = {program: shutil.which(program, path=path) for program in request.programs}
    found = {program: Path(place).absolute() for program, place in places.items() if place}
    if request.version is None:
        return found
    return {n: p for n, p in found.items() if n not in _VERSIONED or version_of(p) == request.version}


def from_cache(request: Request) -> dict[str, Path]:
    """Return the programs in the cache, all Kubernetes ones of a single version: the default's, else the newest."""
    kept = sorted((request.places.cache / "kube").glob("[0-9]*"), key=_version_key, reverse=True)
    kept.sort(key=lambda directory: directory.name != KUBERNETES_VERSION)
    if request.version is not None:
        kept = [request.directory(request.version)]
    choices = [{name: d / name for name in request.programs if os.access(d / name, os.X_OK)} for d in kept]
    best = max(choices, key=lambda choice: ("kube-apiserver" in choice, len(choice)), default={})
    return best | {name: path for choice in choices for name, path in choice.items() if name == "etcd" not in best}


def _version_key(directory: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", directory.name)]


def obtain(request: Request, sources: Iterable[tuple[str, Source]] | None = None) -> dict[str, Path]:
    """Return the path of each program of a request, from the first source that has it.

    What has to be fetched or built goes into the cache, one program at a time doing so. Raises WorldError that says
    for each source why it could not help.
    """
    programs = {name: place for name, place in _look(request)}
    return programs


def _look(request: Request) -> list[tuple[str, Path]]:
    found: dict[str, Path] = {}
    for source in (from_bin_dir, from_path, from_cache):
        missing = tuple(name for name in request.programs if name not in found)
        try:
            found |= source(replace(request, programs=missing))
        except WorldError:
            continue
    missing = tuple(name for name in request.programs if name not in found)
    if missing:
        raise WorldError(f"Failed to find {' and '.join(missing)}")
    return list(found.items())
