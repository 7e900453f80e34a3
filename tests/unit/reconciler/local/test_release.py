# SPDX-License-Identifier: Apache-2.0
"""The official releases, from a mirror on loopback or in a directory, laid out as the projects lay them out.

Digests that do not fit and digests that are missing.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.reconciler.local.server import FileServer

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import release
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import ETCD_VERSION, KUBERNETES_VERSION, Request

ETCD = f"etcd-v{ETCD_VERSION}-linux-amd64"
KUBECTL = f"v{KUBERNETES_VERSION}/bin/linux/amd64/kubectl"


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same architecture on every machine that runs the tests."""
    monkeypatch.setattr(release.platform, "machine", lambda: "x86_64")


def mirror(*, digest: str = "", etcd_name: str = f"{ETCD}/etcd") -> dict[str, bytes]:
    """Return a mirror's files by path below its root."""
    kubectl, packed = b"#!/bin/sh\n", io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(etcd_name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"etcd"))
    sums = f"{'0' * 64}  other.tar.gz\n{hashlib.sha256(packed.getvalue()).hexdigest()}  {ETCD}.tar.gz\n"
    return {
        KUBECTL: kubectl,
        f"{KUBECTL}.sha256": (digest or hashlib.sha256(kubectl).hexdigest()).encode(),
        f"v{ETCD_VERSION}/{ETCD}.tar.gz": packed.getvalue(),
        f"v{ETCD_VERSION}/SHA256SUMS": sums.encode(),
    }


@pytest.fixture
def places(server: FileServer, tmp_path: Path) -> Places:
    """A cache below tmp_path and a mirror on loopback."""
    server.files = {f"/{path}": content for path, content in mirror().items()}
    return Places(tmp_path / "state", tmp_path / "cache", kube_mirror=server.url, etcd_mirror=server.url)


def both(request: Request) -> dict[str, Path]:
    """Return what the releases of both projects give."""
    return release.from_kubernetes_release(request) | release.from_etcd_release(request)


def test_mirror(places: Places) -> None:
    """Programs of both projects land in the cache, executable, and nothing else."""
    found = both(Request(("etcd", "kubectl"), places))
    kept = places.cache / "kube" / KUBERNETES_VERSION
    assert found == {"etcd": kept / "etcd", "kubectl": kept / "kubectl"}
    assert sorted(path.name for path in kept.iterdir()) == ["etcd", "kubectl"]
    assert (kept / "etcd").read_bytes() == b"etcd"
    assert all(path.stat().st_mode & 0o111 for path in kept.iterdir())


def test_directory_as_mirror(tmp_path: Path) -> None:
    """A machine without a network takes them from a directory."""
    for path, content in mirror().items():
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / path).write_bytes(content)
    address = (tmp_path / "mirror").as_uri()
    places = Places(tmp_path / "state", tmp_path / "cache", kube_mirror=address, etcd_mirror=address)
    assert both(Request(("etcd", "kubectl"), places)).keys() == {"etcd", "kubectl"}


@pytest.mark.parametrize(
    ("digest", "reason"), [("1" * 64, "refused and removed"), ("<html>", "publishes no SHA-256 of kubectl")]
)
def test_digest_that_does_not_fit(server: FileServer, places: Places, digest: str, reason: str) -> None:
    """Without the published digest nothing gets into the cache, not even a directory."""
    server.files[f"/{KUBECTL}.sha256"] = digest.encode()
    with pytest.raises(WorldError, match=reason):
        release.from_kubernetes_release(Request(("kubectl",), places))
    assert list((places.cache / "kube").iterdir()) == []


def test_archive_without_etcd(server: FileServer, places: Places) -> None:
    """A release without the program is an error and not a crash."""
    server.files |= {f"/{path}": content for path, content in mirror(etcd_name="README").items()}
    with pytest.raises(WorldError, match="holds no program etcd"):
        release.from_etcd_release(Request(("etcd",), places))
    assert list((places.cache / "kube").iterdir()) == []


def test_wanted_version(server: FileServer, places: Places) -> None:
    """A version that was asked for is the one that is looked for."""
    with pytest.raises(WorldError, match=r"/v1.99.0/bin/linux/amd64/kubelet.sha256 answers 404"):
        release.from_kubernetes_release(Request(("kubelet",), places, "1.99.0"))
    assert server.requests == [("/v1.99.0/bin/linux/amd64/kubelet.sha256", None)]


def test_unreachable_project(places: Places) -> None:
    """A project that cannot be reached is the reason."""
    nowhere = replace(places, kube_mirror="http://nothing.invalid")
    with pytest.raises(WorldError, match=r"http://nothing.invalid/.* cannot be reached"):
        release.from_kubernetes_release(Request(("kubectl",), nowhere))


def test_nothing_of_this_project(server: FileServer, places: Places) -> None:
    """A project that has none of the programs is not asked, and no directory is made."""
    assert release.from_etcd_release(Request(("kubectl",), places)) == {}
    assert release.from_kubernetes_release(Request(("etcd",), places)) == {}
    assert (server.requests, list((places.cache / "kube").iterdir())) == ([], [])


@pytest.mark.parametrize(("machine", "wanted"), [("aarch64", "arm64"), ("x86_64", "amd64")])
def test_architecture(monkeypatch: pytest.MonkeyPatch, machine: str, wanted: str) -> None:
    """The projects have their own names for architectures."""
    monkeypatch.setattr(release.platform, "machine", lambda: machine)
    assert release.architecture() == wanted


def test_unknown_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for which nothing is published is told so."""
    monkeypatch.setattr(release.platform, "machine", lambda: "riscv64")
    with pytest.raises(WorldError, match="no release for the architecture riscv64"):
        release.architecture()
