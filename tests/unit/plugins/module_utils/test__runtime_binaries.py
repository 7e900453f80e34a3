# SPDX-License-Identifier: Apache-2.0
"""kubelet and kubeadm as programs: which version, which checksum, all or nothing.

The trees are directories and a real HTTP server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from tests.unit.plugins.mirror import Mirror, mirror
from tests.unit.plugins.worker_world import ARCHITECTURE, Machine, machine, tree

from ansible_collections.stargate.core.plugins.module_utils import _runtime_binaries as binaries
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import Version, asked
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

NAMES = ["/usr/bin/kubeadm", "/usr/bin/kubelet"]


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


@pytest.fixture
def server() -> Iterator[Mirror]:
    """Return a mirror without anything."""
    with mirror() as made:
        yield made


def program(server: Mirror, name: str, version: str, digest: str = "") -> str:
    """Put a program on a mirror; returns its path there."""
    path = f"/{version}/bin/linux/{ARCHITECTURE}/{name}"
    body = {"kubelet": f"Kubernetes {version}\n", "kubeadm": f"{version}\n"}[name].encode()
    server.files[path] = body
    server.files[f"{path}.sha256"] = (digest or hashlib.sha256(body).hexdigest()).encode()
    return path


def test_resolved_from_a_directory(tmp_path: Path) -> None:
    """A minor version is looked up among the directories, a whole one is taken as it is."""
    base = tree(tmp_path, "v1.20.2", "v1.20.10", "v1.21.0")
    (tmp_path / "notes").mkdir()
    assert binaries.resolved(asked("1.20"), base).tag == "v1.20.10"
    assert binaries.resolved(asked("1.99.9"), base).tag == "v1.99.9"
    with pytest.raises(StargateError, match=r"it has v1\.20\.2, v1\.20\.10, v1\.21\.0") as caught:
        binaries.resolved(asked("1.22"), base)
    assert caught.value.code == "VersionNotFound"
    with pytest.raises(StargateError, match="it has none at all"):
        binaries.resolved(asked("1.22"), "file:///no/such/tree")


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"v1.34.7", ""), (None, "VersionNotFound"), (b"v1.33.1", "VersionNotFound"), (b"<html>", "VersionNotFound")],
)
def test_resolved_over_http(server: Mirror, answer: bytes | None, code: str) -> None:
    """A minor version is what the tree calls stable; an answer that names another is not taken."""
    if answer is not None:
        server.files["/stable-1.34.txt"] = answer
    if not code:
        assert binaries.resolved(asked("1.34"), server.url) == Version(1, 34, 7)
        return
    with pytest.raises(StargateError) as caught:
        binaries.resolved(asked("1.34"), server.url)
    assert caught.value.code == code


def test_install(host: Machine, tmp_path: Path) -> None:
    """Both programs are installed, and a second look finds nothing to do without reading the tree."""
    base, version = tree(tmp_path, "v1.20.2"), asked("1.20.2")
    memory = Memory(host)
    wanted = binaries.outdated(memory, version, base)
    assert sorted(wanted) == NAMES
    binaries.install(memory, wanted, version, timeout=10)
    assert [host.mode(name) for name in NAMES] == [0o755] * 2
    assert binaries.outdated(Memory(host), version, "file:///gone") == {}


def test_side_by_side(host: Machine, tmp_path: Path) -> None:
    """Neither program waits until the other one has been tried."""
    base, version = tree(tmp_path, "v1.20.2"), asked("1.20.2")
    wanted, both, answered = binaries.outdated(Memory(host), version, base), Barrier(2), host.run

    def run(argv: Sequence[str], **options: Any) -> Done:
        both.wait(timeout=20)
        return answered(argv, **options)

    host.run = run  # type: ignore[method-assign]  # each answers when both are asked
    binaries.install(Memory(host), wanted, version, timeout=10)
    assert [host.mode(name) for name in NAMES] == [0o755] * 2


def test_a_program_that_was_there(host: Machine, tmp_path: Path) -> None:
    """A program of the right version that somebody else installed is compared once, and replaced if it differs."""
    base, version = tree(tmp_path, "v1.20.2"), asked("1.20.2")
    host.have("/usr/bin/kubeadm", "v1.20.2\n")
    host.have("/usr/bin/kubelet", "Kubernetes v1.20.2 with something else\n")
    assert list(binaries.outdated(Memory(host), version, base)) == ["/usr/bin/kubelet"]
    assert Memory(host).digest("/usr/bin/kubeadm")


def test_all_or_nothing(host: Machine, server: Mirror) -> None:
    """When the second program is not what it ought to be, the first is not installed either."""
    program(server, "kubeadm", "v1.20.2")
    program(server, "kubelet", "v1.20.2", digest="0" * 64)
    host.have("/usr/bin/kubeadm", "v1.19.0\n")
    wanted = binaries.outdated(Memory(host), asked("1.20.2"), server.url)
    with pytest.raises(StargateError) as caught:
        binaries.install(Memory(host), wanted, asked("1.20.2"), timeout=10)
    assert caught.value.code == "ChecksumMismatch"
    assert host.text("/usr/bin/kubeadm") == "v1.19.0\n"
    assert sorted(path.name for path in host.path("/usr/bin").iterdir()) == ["containerd", "kubeadm"]


def test_a_cut_connection(host: Machine, server: Mirror) -> None:
    """A mirror that goes away in the middle leaves what was there, and may be tried again."""
    program(server, "kubeadm", "v1.20.2")
    path = program(server, "kubelet", "v1.20.2")
    server.cut.add(path)
    wanted = binaries.outdated(Memory(host), asked("1.20.2"), server.url)
    with pytest.raises(StargateError) as caught:
        binaries.install(Memory(host), wanted, asked("1.20.2"), timeout=10)
    assert (caught.value.code, caught.value.retryable) == ("MirrorUnavailable", True)
    server.cut.clear()
    binaries.install(Memory(host), wanted, asked("1.20.2"), timeout=10)
    assert host.text("/usr/bin/kubelet") == "Kubernetes v1.20.2\n"


def test_a_program_that_calls_itself_something_else(host: Machine, tmp_path: Path) -> None:
    """A program whose own word differs, or that does not run here at all, never replaces one that works."""
    base = tree(tmp_path, "v1.20.2")
    host.have("/usr/bin/kubelet", "Kubernetes v1.19.0\n")
    wanted = binaries.outdated(Memory(host), asked("1.20.2"), base)
    with pytest.raises(StargateError, match=r"calls itself v1\.20\.2") as caught:
        binaries.install(Memory(host), wanted, asked("1.20.3"), timeout=10)
    assert caught.value.code == "ChecksumMismatch"
    assert host.text("/usr/bin/kubelet") == "Kubernetes v1.19.0\n"
    host.run = lambda *_args, **_options: Done(126, err="Exec format error")  # type: ignore[method-assign]  # its CPU
    with pytest.raises(StargateError, match="calls itself nothing"):
        binaries.install(Memory(host), wanted, asked("1.20.2"), timeout=10)
    assert host.text("/usr/bin/kubelet") == "Kubernetes v1.19.0\n"


def test_a_version_that_is_not_there(tmp_path: Path, server: Mirror) -> None:
    """A directory says which versions it has, a mirror which it calls stable."""
    base = tree(tmp_path, "v1.20.2")
    with pytest.raises(StargateError, match=r"it has v1\.20\.2") as caught:
        binaries.checksums(asked("1.20.9"), base)
    assert caught.value.code == "VersionNotFound"
    server.files["/stable-1.34.txt"] = b"v1.34.2\n"
    with pytest.raises(StargateError, match=r"Its newest 1\.34 is v1\.34\.2\.") as caught:
        binaries.checksums(asked("1.34.9"), server.url)
    assert caught.value.code == "VersionNotFound"
    with pytest.raises(StargateError, match=r"HTTP 404\.$"):
        binaries.checksums(asked("1.33.9"), server.url)


def test_a_version_without_our_architecture(tmp_path: Path) -> None:
    """A tree that has the version for other machines only says what it lacks."""
    base = tree(tmp_path, "v1.20.2")
    (tmp_path / "v1.20.2/bin/linux" / ARCHITECTURE).rename(tmp_path / "v1.20.2/bin/linux/other")
    with pytest.raises(StargateError, match="no such file"):
        binaries.checksums(asked("1.20.2"), base)


def test_a_checksum_that_is_none(server: Mirror) -> None:
    """A file of a checksum that holds none is refused."""
    program(server, "kubeadm", "v1.20.2", digest="<html>")
    with pytest.raises(StargateError, match="holds no SHA-256 checksum") as caught:
        binaries.checksums(asked("1.20.2"), server.url)
    assert caught.value.code == "ChecksumMismatch"
