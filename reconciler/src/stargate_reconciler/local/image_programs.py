# SPDX-License-Identifier: Apache-2.0
"""Which Kubernetes goes into the machines' image: the version at hand, and a second patch version to upgrade to.

Where programs come from is known to binaries.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.binaries import from_bin_dir, from_cache, from_path, obtain, obtain_stamped
from stargate_reconciler.local.control_plane import version_of
from stargate_reconciler.local.debian import kept_stamped
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import Request
from stargate_reconciler.local.progress import Progress
from stargate_reconciler.local.release import from_kubernetes_release

PROGRAMS = ("kubeadm", "kubelet", "kubectl")
_CACHE = (("the cache", from_cache),)
_RELEASE = (("the release of Kubernetes", from_kubernetes_release),)
# The cache first: there the programs of one version stand together, a kubectl on PATH may be of any.
_LOOK = (*_CACHE, ("STARGATE_KUBE_BIN_DIR", from_bin_dir), ("PATH", from_path))

Programs = Mapping[str, Path]


def programs_of(
    places: Places, progress: Progress, *, version: str | None = None, single: bool = False
) -> dict[str, Programs]:
    """Return for each version that an image shall hold where its programs are, fetched or built when they are not.

    Without a version it is that of the API server at hand, so that machines fit the local control plane.
    """
    version = version or _at_hand(places, progress)
    found = obtain(Request(("kubelet", "kubeadm"), places, version, progress), look=_LOOK)
    first = version_of(found["kubelet"])
    versions: dict[str, Programs] = {first: obtain(Request(PROGRAMS, places, first, progress), look=_LOOK)}
    if not single:
        versions |= _second(Request(PROGRAMS, places, first, progress))
    return versions


def _at_hand(places: Places, progress: Progress) -> str | None:
    with contextlib.suppress(WorldError):
        return version_of(obtain(Request(("kube-apiserver",), places, None, progress), fetch=())["kube-apiserver"])
    return None


def neighbours(version: str) -> list[str]:
    """Return the patch versions beside one, the next one first."""
    minor, _, patch = version.rpartition(".")
    return [f"{minor}.{number}" for number in (int(patch) + 1, int(patch) - 1) if number >= 0]


def _second(request: Request) -> dict[str, Programs]:
    """Return a second patch version, from the first source that has one; {} with a note when none has."""
    reasons = []
    for version, obtained in _ways(request):
        try:
            return {version: obtained()}
        except (WorldError, OSError) as error:
            reasons.append(str(error))
    request.progress.note(f"the image gets one version of Kubernetes only. {reasons[-1]}")
    return {}


def _ways(request: Request) -> Iterator[tuple[str, Callable[[], Programs]]]:
    """Yield the ways to a second version: what is kept here, a release, the same source with another stamp."""
    near = neighbours(request.version or "")
    wanted = [replace(request, version=version) for version in near]
    for version, one in zip(near, wanted, strict=True):
        yield version, partial(obtain, one, look=_CACHE, fetch=())
    yield near[0], partial(kept_stamped, request, near[0])
    for version, one in zip(near, wanted, strict=True):
        yield version, partial(obtain, one, look=_CACHE, fetch=_RELEASE)
    yield near[0], partial(obtain_stamped, request, near[0])
