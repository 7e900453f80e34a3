# SPDX-License-Identifier: Apache-2.0
"""What Debian's package tools write and say, read.

The texts are what dpkg 1.21 and apt 2.6 write.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _dpkg as dpkg
from ansible_collections.stargate.core.plugins.module_utils._version import Version, asked

STATUS = """\
Package: kubelet
Status: hold ok installed
Priority: optional
Maintainer: Kubernetes: Authors <dev@kubernetes.io>
Architecture: amd64
Version: 1.34.2-1.1
Depends: iptables (>= 1.4.21)
Description: Node agent
 Package: not-a-package

Package: kubeadm
Status: install ok installed
Version: 1:1.34.2-1.1

Package: containerd
Status: deinstall ok config-files
Version: 1.6.20~ds1-1+b1

Package: runc
Status: install reinstreq half-configured
Version: 1.1.5
"""


def test_installed() -> None:
    """Only what is wholly installed counts, and whether it is held is known."""
    packages = dpkg.installed(STATUS, ("kubelet", "kubeadm", "containerd", "runc", "not-a-package", "kube"))
    assert packages == {
        "kubelet": dpkg.Package("kubelet", "1.34.2-1.1", "amd64", is_held=True),
        "kubeadm": dpkg.Package("kubeadm", "1:1.34.2-1.1"),
    }
    assert [package.upstream for package in packages.values()] == [Version(1, 34, 2)] * 2


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("1.34.2-1.1", Version(1, 34, 2)),
        ("1.20.5+really1.20.2-1", Version(1, 20, 5)),
        ("1.35.0~rc.1-1.1", Version(1, 35, 0, "-rc.1")),
        ("2:1.20.2-00", Version(1, 20, 2)),
        ("unknown-1", None),
    ],
)
def test_upstream(version: str, upstream: Version | None) -> None:
    """The upstream version is what is left without epoch and revision."""
    assert dpkg.Package("kubelet", version).upstream == upstream


def test_index_and_best() -> None:
    """Of several revisions of a version the newest is taken, counted and not spelled."""
    stanzas = [
        f"Package: kubelet\nVersion: 1.34.2-{n}.1\nArchitecture: amd64\nFilename: k{n}.deb\n" for n in (2, 10, 9)
    ]
    packages = dpkg.index("\n".join([*stanzas, "Package: kubelet\nVersion: 1.34.3-1.1\n", "Origin: nobody\n"]))
    assert len(packages) == 4
    best = dpkg.best(packages, "kubelet", asked("1.34.2"))
    assert best == dpkg.Package("kubelet", "1.34.2-10.1", "amd64", file="k10.deb")
    assert dpkg.best(packages, "kubeadm", asked("1.34.2")) is None


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("kubelet_1.34.2-1.1_amd64.deb", dpkg.Package("kubelet", "1.34.2-1.1", "amd64")),
        ("containerd.io_1%3a2_all.deb", dpkg.Package("containerd.io", "1:2", "all")),
        ("SHA256SUMS", None),
        ("kubelet.deb", None),
    ],
)
def test_of_file_name(name: str, package: dpkg.Package | None) -> None:
    """A file's name says which package is in it; colons are written as %3a."""
    found = dpkg.of_file_name(name)
    assert found == (package and replace(package, file=name))


FETCH = """\
Err:1 http://10.0.2.2:1234/v1.34/deb  Packages
  Connection failed [IP: 10.0.2.2 1234]
E: Failed to fetch http://10.0.2.2:1234/v1.34/deb/Packages  Connection failed [IP: 10.0.2.2 1234]
E: Some index files failed to download.
"""
UNMET = """\
The following packages have unmet dependencies:
 kubelet : Depends: kubernetes-cni (>= 1.2.0) but it is not installable
E: Unable to correct problems, you have held broken packages.
"""
DPKG = """\
dpkg: dependency problems prevent configuration of kubelet:
 kubelet depends on conntrack; however:
dpkg: error processing package kubelet (--install):
"""


@pytest.mark.parametrize(
    ("words", "code", "retryable"),
    [
        (FETCH, "MirrorUnavailable", True),
        ("E: The repository 'http://m  Release' does not have a Release file.\n", "MirrorUnavailable", True),
        ("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 12 (apt-get)\n", "PackageLocked", True),
        (
            "dpkg: error: dpkg frontend lock was locked by another process\nE: is another process using it?\n",
            "PackageLocked",
            True,
        ),
        (
            "W: GPG error: http://m  InRelease: NO_PUBKEY 23\nE: The repository is not signed.\n",
            "SignatureInvalid",
            False,
        ),
        ("E: Failed to fetch http://m/k.deb  Hash Sum mismatch\n", "ChecksumMismatch", True),
        ("E: You don't have enough free space in /var/cache/apt/archives/.\n", "DiskFull", False),
        ("E: Version '1.34.9-1.1' for 'kubelet' was not found\n", "PackageInstallFailed", False),
        (UNMET, "PackageInstallFailed", False),
        (DPKG, "PackageInstallFailed", False),
        ("", "PackageInstallFailed", False),
    ],
)
def test_failure(words: str, code: str, *, retryable: bool) -> None:
    """Failures are told apart by what the tools say; what may go away by itself is marked."""
    error = dpkg.failure("install kubelet", words)
    assert (error.code, error.retryable) == (code, retryable)
    assert error.message.startswith("Failed to install kubelet: ")


@pytest.mark.parametrize(("words", "need"), [(UNMET, "kubernetes-cni"), (DPKG, "conntrack")])
def test_failure_names_what_is_missing(words: str, need: str) -> None:
    """The details of a failed installation name the package that it lacks."""
    assert need in dpkg.failure("install kubelet", words).details
