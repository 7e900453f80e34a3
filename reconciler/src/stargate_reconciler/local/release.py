# SPDX-License-Identifier: Apache-2.0
"""The official releases of Kubernetes and etcd for this machine's architecture, checked against their digests.

The addresses are those of the projects or of a mirror with the same layout (STARGATE_KUBE_MIRROR,
STARGATE_ETCD_MIRROR; file:// for machines without a network). How a file is loaded is in download.py.
"""

from __future__ import annotations

import contextlib
import io
import platform
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import download
from stargate_reconciler.local.programs import ETCD_VERSION, KUBERNETES_VERSION, Request

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}


def architecture() -> str:
    """Return this machine's architecture as the projects call it; WorldError when they publish nothing for it."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise WorldError(f"there is no release for the architecture {machine}")
    return _ARCHITECTURES[machine]


def from_kubernetes_release(request: Request) -> dict[str, Path]:
    """Return the programs of Kubernetes in a request, downloaded into the cache; {} when it wants none."""
    wanted = [program for program in request.programs if program != "etcd"]
    version = request.version or KUBERNETES_VERSION
    with _directory(request, version) as directory:
        for program in wanted:
            base = f"{request.places.kube_mirror}/v{version}/bin/linux/{architecture()}"
            _program(request, base, directory / program)
    return {program: directory / program for program in wanted}


def from_etcd_release(request: Request) -> dict[str, Path]:
    """Return etcd, downloaded into the cache beside the Kubernetes of the request; {} when it is not wanted."""
    if "etcd" not in request.programs:
        return {}
    with _directory(request, request.version or KUBERNETES_VERSION) as directory:
        _etcd(request, directory)
    return {"etcd": directory / "etcd"}


@contextlib.contextmanager
def _directory(request: Request, version: str) -> Iterator[Path]:
    """Give the directory of a version, removed when nothing came into it."""
    directory = request.kept / version
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield directory
    finally:
        if not any(directory.iterdir()):
            directory.rmdir()


def _program(request: Request, base: str, target: Path) -> None:
    url = f"{base}/{target.name}"
    published = _published(f"{url}.sha256", target.name)
    loaded = target.with_name(f".{target.name}.new")
    with request.progress.step(f"downloading {url}") as step:
        download.file(url, loaded, sha256=published, step=step)
    _finish(loaded, target)


def _etcd(request: Request, directory: Path) -> None:
    name = f"etcd-v{ETCD_VERSION}-linux-{architecture()}"
    base = f"{request.places.etcd_mirror}/v{ETCD_VERSION}"
    published = _published(f"{base}/SHA256SUMS", f"{name}.tar.gz")
    archive = directory / f".{name}.tar.gz"
    with request.progress.step(f"downloading {base}/{name}.tar.gz") as step:
        download.file(f"{base}/{name}.tar.gz", archive, sha256=published, step=step)
    loaded = directory / ".etcd.new"
    try:
        _extract(archive, f"{name}/etcd", loaded)
    finally:
        archive.unlink()
    _finish(loaded, directory / "etcd")


def _extract(archive: Path, name: str, target: Path) -> None:
    try:
        with tarfile.open(archive) as tar, target.open("wb") as output:
            member = tar.extractfile(name)
            shutil.copyfileobj(member or io.BytesIO(), output)
    except (KeyError, tarfile.TarError) as error:
        target.unlink(missing_ok=True)
        raise WorldError(f"the release of etcd holds no program {name}") from error


def _published(url: str, name: str) -> str:
    """Return the digest in a file that holds only one, or one for each name."""
    for line in download.text(url).splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})(?:\s+\*?(\S+))?\s*", line)
        if match and match[2] in (None, name):
            return match[1]
    raise WorldError(f"{url} publishes no SHA-256 of {name}")


def _finish(loaded: Path, target: Path) -> None:
    loaded.chmod(0o755)
    loaded.replace(target)
