# SPDX-License-Identifier: Apache-2.0
"""Where etcd, kube-apiserver, kubectl and the others come from: the sources in their order, one error for all.

How a release is downloaded is in release.py, how the archive's source package is built in debian.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.control_plane import version_of
from stargate_reconciler.local.debian import from_debian, stamped
from stargate_reconciler.local.locks import locked
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import KUBERNETES_VERSION, ONE_VERSION, Request, Source
from stargate_reconciler.local.release import from_etcd_release, from_kubernetes_release

_REMEDY = (
    "Put the programs into a directory and set STARGATE_KUBE_BIN_DIR to it; or set STARGATE_KUBE_MIRROR and "
    "STARGATE_ETCD_MIRROR to a mirror of the releases (file:///directory works too); or use a cluster that you have: "
    "set KUBECONFIG."
)


def from_bin_dir(request: Request) -> dict[str, Path]:
    """Return the programs in STARGATE_KUBE_BIN_DIR."""
    directory = request.places.bin_dir
    if directory is None:
        raise WorldError("not set")
    return _in_path(request, str(directory)) or _nothing(request, str(directory))


def from_path(request: Request) -> dict[str, Path]:
    """Return the programs on PATH."""
    return _in_path(request, request.places.path) or _nothing(request, "PATH")


def _in_path(request: Request, path: str) -> dict[str, Path]:
    places = {program: shutil.which(program, path=path) for program in request.programs}
    found = {program: Path(place).absolute() for program, place in places.items() if place}
    if request.version is None:
        return found
    return {name: place for name, place in found.items() if name not in ONE_VERSION or _is(place, request.version)}


def _is(program: Path, version: str) -> bool:
    with contextlib.suppress(WorldError):  # what cannot even say its version is not what was asked for
        return version_of(program) == version
    return False


def _nothing(request: Request, place: str) -> dict[str, Path]:
    wanted = f" {request.version}" if request.version else ""
    raise WorldError(f"no {' or '.join(request.programs)}{wanted} in {place}")


def from_cache(request: Request) -> dict[str, Path]:
    """Return the programs in the cache, those of Kubernetes of one version: the default, else the newest there is."""
    kept = sorted(request.kept.glob("[0-9]*"), key=_numbers, reverse=True)
    kept.sort(key=lambda directory: directory.name != KUBERNETES_VERSION)
    choices = [{name: d / name for name in request.programs if os.access(d / name, os.X_OK)} for d in kept]
    of_version = [c for c, d in zip(choices, kept, strict=True) if request.version in (None, d.name)]
    best = max(of_version, key=lambda choice: ("kube-apiserver" in choice, len(choice)), default={})
    etcds = [choice["etcd"] for choice in choices if "etcd" in choice]
    found = ({"etcd": etcds[0]} if etcds else {}) | best
    return found or _nothing(request, str(request.kept))


def _numbers(directory: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", directory.name)]


LOOK: tuple[tuple[str, Source], ...] = (
    ("STARGATE_KUBE_BIN_DIR", from_bin_dir),
    ("PATH", from_path),
    ("the cache", from_cache),
)
FETCH: tuple[tuple[str, Source], ...] = (
    ("the release of Kubernetes", from_kubernetes_release),
    ("the release of etcd", from_etcd_release),
    ("the package archive", from_debian),
)


def obtain(
    request: Request,
    *,
    look: Iterable[tuple[str, Source]] = LOOK,
    fetch: Iterable[tuple[str, Source]] = FETCH,
) -> dict[str, Path]:
    """Return the path of each program of a request, from the first source that has it.

    What must be fetched or built goes into the cache, one process at a time. Raises WorldError that says for each
    source why it could not help, and what to do.
    """
    found, tried = _ask(look, request, {})
    if _missing(request, found):
        note = "waiting: another process is obtaining programs"
        with locked(request.places.cache, waiting=lambda: request.progress.note(note)):
            # What we waited for may be all that we need.
            found, _ = _ask([("the cache", from_cache)], request, found)
            found, late = _ask(fetch, request, found)
            tried |= late
    if missing := _missing(request, found):
        wanted = f" {request.version}" if request.version else ""
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in tried.items())
        raise WorldError(f"Failed to obtain {' and '.join(missing)}{wanted}. Tried in this order:{reasons}\n{_REMEDY}")
    return found


def obtain_stamped(request: Request, stamp: str) -> dict[str, Path]:
    """Return the programs of a request, built from the archive's source so that they say they are version `stamp`."""
    note = "waiting: another process is obtaining programs"
    with locked(request.places.cache, waiting=lambda: request.progress.note(note)):
        try:
            return stamped(request, stamp)
        except (WorldError, OSError) as error:
            names = " and ".join(request.programs)
            raise WorldError(f"Failed to build {names} stamped {stamp}: {error}.") from error


def _missing(request: Request, found: Mapping[str, Path]) -> tuple[str, ...]:
    return tuple(name for name in request.programs if name not in found)


def _ask(
    sources: Iterable[tuple[str, Source]], request: Request, found: Mapping[str, Path]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Ask sources for what is still missing; returns all that is found, and the reason of each that had nothing."""
    everything, tried = dict(found), {}
    for name, source in sources:
        missing = _missing(request, everything)
        if not missing:
            break
        version = request.version
        if version is None and "kube-apiserver" in everything and not ONE_VERSION.isdisjoint(missing):
            version = version_of(everything["kube-apiserver"])
        try:
            everything |= source(replace(request, programs=missing, version=version))
        except (WorldError, OSError) as error:
            tried[name] = str(error)
    return everything, tried


def directory_of(found: Mapping[str, Path], places: Places) -> Path:
    """Return one directory with all found programs: theirs when they share one, else one with links to them."""
    parents = {place.parent for place in found.values()}
    if len(parents) == 1:
        return parents.pop()
    links = places.cache / "bin"
    links.mkdir(parents=True, exist_ok=True)
    for name, place in found.items():
        temporary = links / f".{name}.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(place)
        temporary.replace(links / name)
    return links
