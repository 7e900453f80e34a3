# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubelet and kubeadm as packages: from a repository, or from files in a directory with their checksums.

PRIVATE to the collection. Both end the same: the exact version, up or down, and nobody else changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils import _apt as apt
from ansible_collections.stargate.core.plugins.module_utils import _dpkg as dpkg
from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound
from ansible_collections.stargate.core.plugins.module_utils._runtime_kubernetes import (
    KUBELET,
    Wanted,
    owe_restart,
    step,
)
from ansible_collections.stargate.core.plugins.module_utils._version import Version, newest
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

PACKAGES = ("kubelet", "kubeadm")


def ensure(ledger: Ledger, wanted: Wanted) -> Version:
    """Have both packages in the version, held; returns the version with its patch."""
    present = apt.installed(ledger.host, *PACKAGES)
    version = wanted.version
    if not _are(present, version):
        version = _ensure_from_files(ledger, wanted) if wanted.source == "directory" else _ensure_from(ledger, wanted)
        present = apt.installed(ledger.host, *PACKAGES)
    if ledger.check_mode:
        return version
    loose = [name for name in PACKAGES if name not in present or not present[name].is_held]
    if loose:
        apt.hold(ledger.host, loose)
        ledger.changes.append(f"{' and '.join(loose)} held")
    return version


def _are(present: dict[str, dpkg.Package], version: Version) -> bool:
    """Whether exactly this version is installed; a minor version says too little for that."""
    return all(name in present and present[name].upstream == version for name in PACKAGES)


def _ensure_from(ledger: Ledger, wanted: Wanted) -> Version:
    """Have the packages of a repository."""
    minor = f"v{wanted.version.major}.{wanted.version.minor}"
    uri = f"{wanted.repository}/{minor}/deb/"
    source = apt.Source("stargate-kubernetes", uri, "/", wanted.repository_key or f"{uri}Release.key")
    try:
        available = source.packages()
    except NotFound as error:
        raise NotFound(
            f"Failed to find Kubernetes {wanted.version.tag}: {wanted.repository} has no packages of {minor}.",
            code="VersionNotFound",
            details=error.message,
        ) from error
    version, chosen = _chosen(wanted.version, available, uri)
    if _are(apt.installed(ledger.host, *PACKAGES), version):
        return version
    names = [f"{package.name}={package.version}" for package in chosen]

    def act() -> None:
        apt.refresh(ledger.host, source, wanted.timeout)
        apt.install(ledger.host, names, timeout=wanted.timeout)

    apt.ensure_source(ledger, source)
    _replace(ledger, version, act)
    return version


def _ensure_from_files(ledger: Ledger, wanted: Wanted) -> Version:
    """Have the packages that are in a directory, with others that are there and that the machine lacks."""
    folder = ledger.host.path(wanted.packages_dir)
    names = [path.name for path in sorted(folder.glob("*.deb"))] if folder.is_dir() else []
    available = [package for package in map(dpkg.of_file_name, names) if package is not None]
    version, chosen = _chosen(wanted.version, available, wanted.packages_dir)
    if _are(apt.installed(ledger.host, *PACKAGES), version):
        return version
    others = [package for package in available if package.name not in (*PACKAGES, "kubectl")]
    present = apt.installed(ledger.host, *(package.name for package in others))
    paths = [folder / package.file for package in [*others, *chosen] if package.name not in present]

    def act() -> None:
        apt.install_files(ledger.host, [str(path) for path in paths], timeout=wanted.timeout)

    _require_checksums(folder, paths)
    _replace(ledger, version, act)
    return version


def _chosen(wanted: Version, available: Sequence[dpkg.Package], place: str) -> tuple[Version, list[dpkg.Package]]:
    """Return the version with its patch that a place has of all packages, and the packages."""
    versions = [{p.upstream for p in available if p.name == name and p.upstream} for name in PACKAGES]
    version = newest(wanted, set.intersection(*versions), place)
    chosen = [dpkg.best(available, name, version) for name in PACKAGES]
    return version, [package for package in chosen if package]


def _replace(ledger: Ledger, version: Version, act: Callable[[], None]) -> None:
    """Install, without what an installation of single programs has left; the packages bring their own units."""
    before = ledger.memory.version(KUBELET)
    owe_restart(ledger, version)
    if not apt.installed(ledger.host, "kubelet"):
        for name in (files.KUBELET_UNIT_FILE, files.KUBELET_DROPIN_FILE):
            if (ledger.host.text(name) or "").startswith(files.NOTE):
                ledger.gone(name)
    ledger.memory.owe("reload")
    ledger.do(step(before, version), act)
    now = None if ledger.check_mode else ledger.memory.version(KUBELET)
    if not ledger.check_mode and now != version:
        raise Invalid(
            f"Failed to install Kubernetes {version.tag}: the kubelet of the package calls itself "
            f"{now.tag if now else 'nothing'}.",
            code="ChecksumMismatch",
        )


def _require_checksums(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse packages that are not what the file of checksums says."""
    try:
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise Invalid(
            f"Failed to check the packages of {folder}: it has no SHA256SUMS.", code="ChecksumMismatch"
        ) from error
    known = {
        words[1].lstrip("*").removeprefix("./"): words[0].lower() for words in map(str.split, lines) if len(words) > 1
    }
    for path in paths:
        if hashlib.sha256(path.read_bytes()).hexdigest() != known.get(path.name):
            raise Invalid(
                f"Failed to check the package {path.name}: it is not what SHA256SUMS of {folder} says.",
                code="ChecksumMismatch",
            )
