# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubelet and kubeadm as single programs, from a tree with the layout of dl.k8s.io.

PRIVATE to the collection. A program is installed only with the checksum that stands beside it in the tree.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ansible_collections.stargate.core.plugins.module_utils import _runtime_download as download
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound, StargateError, clipped
from ansible_collections.stargate.core.plugins.module_utils._version import Version, found, newest
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host, disk_errors, settle
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

PROGRAMS = ("kubeadm", "kubelet")  # in this order: kubeadm is there before the kubelet that it serves
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def resolved(wanted: Version, base: str) -> Version:
    """Return the version with its patch; a whole version is not looked up here."""
    if wanted.patch is not None:
        return wanted
    if base.startswith("file:"):
        return newest(wanted, _listed(base), base)
    try:
        answer = download.text(f"{base}/stable-{wanted}.txt")
    except NotFound as error:
        raise NotFound(
            f"Failed to find the newest Kubernetes {wanted.tag}: {base} has no stable-{wanted}.txt. "
            "Ask for a version with its patch, or for one that there is.",
            code="VersionNotFound",
        ) from error
    version = found(answer[:100])
    if version is None or not wanted.covers(version):
        raise Invalid(
            f"Failed to find the newest Kubernetes {wanted.tag}: {base}/stable-{wanted}.txt names no such version.",
            code="VersionNotFound",
            details=answer[:100],
        )
    return version


def outdated(memory: Memory, version: Version, base: str) -> dict[str, tuple[str, str]]:
    """Return the programs that are not there in this version, each with its URL and checksum.

    One that this module did not install may have the right version and be another program all the same: its
    checksum decides, once.
    """
    names = [f"/usr/bin/{program}" for program in PROGRAMS]
    if all(memory.version(name) == version and memory.digest(name) for name in names):
        return {}
    wanted = {f"/usr/bin/{url.rpartition('/')[2]}": (url, digest) for url, digest in checksums(version, base).items()}
    for name, (_url, digest) in list(wanted.items()):
        if memory.version(name) == version and digest == (memory.digest(name) or _digest_of(memory.host, name)):
            memory.installed(name, version, digest)
            del wanted[name]
    return wanted


def checksums(version: Version, base: str) -> dict[str, str]:
    """Return the URL of each program with the checksum that stands beside it."""
    machine = platform.machine()
    folder = f"{base}/{version.tag}/bin/linux/{ARCHITECTURES.get(machine, machine)}"
    try:
        return {f"{folder}/{program}": _checksum(f"{folder}/{program}.sha256") for program in PROGRAMS}
    except NotFound as error:
        if base.startswith("file:"):
            newest(version, _listed(base), base)
        raise NotFound(
            f"Failed to find Kubernetes {version.tag} at {base}: {error.message}{_hint(version, base)}",
            code="VersionNotFound",
        ) from error


def install(memory: Memory, programs: Mapping[str, tuple[str, str]], version: Version, *, timeout: float) -> None:
    """Install programs, all or none: each has its checksum, runs on this machine, and is of this version.

    They are fetched and tried side by side: on a slow processor that takes most of the time there is.
    """
    from concurrent.futures import ThreadPoolExecutor

    host = memory.host
    with disk_errors("install " + " and ".join(programs)), ExitStack() as stack:
        staged = {name: stack.enter_context(host.staged(name)) for name in programs}

        def prepare(name: str) -> None:
            url, digest = programs[name]
            with staged[name].open("wb") as file:
                download.fetch(url, file.fileno(), digest=digest, timeout=timeout)
                settle(file.fileno(), 0o755)
            _require_version(name, url, states=memory.asked(name, str(staged[name])), version=version)

        with ThreadPoolExecutor(len(programs)) as pool:
            list(pool.map(prepare, programs))
        for name, (_url, digest) in programs.items():
            staged[name].replace(host.path(name))
            memory.installed(name, version, digest)


def _require_version(name: str, url: str, *, states: Version | None, version: Version) -> None:
    if states != version:
        raise Invalid(
            f"Failed to install {name}: what {url} has calls itself {states.tag if states else 'nothing'}.",
            code="ChecksumMismatch",
        )


def _listed(base: str) -> list[Version]:
    folder = Path(unquote(urlsplit(base).path))
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    versions = [found(name) for name in names if re.match(r"v\d", name)]
    return [version for version in versions if version is not None]


def _hint(version: Version, base: str) -> str:
    """Return a sentence on what such a tree has of the same minor version, "" when it does not say."""
    minor = f"{version.major}.{version.minor}"
    try:
        return f" Its newest {minor} is {clipped(download.text(f'{base}/stable-{minor}.txt'), 20)}."
    except StargateError:
        return ""


def _checksum(url: str) -> str:
    words = download.text(url).split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0].lower()):
        raise Invalid(f"Failed to read {url}: it holds no SHA-256 checksum.", code="ChecksumMismatch")
    return words[0].lower()


def _digest_of(host: Host, name: str) -> str:
    seen = hashlib.sha256()
    with host.path(name).open("rb") as file:
        while piece := file.read(download.PIECE):
            seen.update(piece)
    return seen.hexdigest()
