# SPDX-License-Identifier: Apache-2.0
"""What the build from the archive decides before it builds: versions, packages, stamps, and when it refuses.

The archive is a small fake; the build itself takes minutes and is not a unit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import debian
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import Request


class FakeArchive:
    """An archive with some versions of the source package; etcd comes as an unpacked file."""

    versions: tuple[str, ...] = ()

    def __init__(self, *_arguments: object) -> None:
        """Take what the real one takes."""

    def update(self) -> None:
        """Nothing to read."""

    def versions_of_source(self, _package: str) -> list[str]:
        """Return what the test says."""
        return list(self.versions)

    def unpack(self, packages: list[str], into: Path) -> None:
        """Put an etcd there."""
        assert packages == ["etcd-server"]
        (into / "usr/bin").mkdir(parents=True)
        (into / "usr/bin/etcd").write_text("etcd")


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Places below tmp_path, and the fake archive instead of apt."""
    monkeypatch.setattr(debian, "Archive", FakeArchive)
    monkeypatch.setattr(FakeArchive, "versions", ())
    return Places(state=tmp_path / "state", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.20.5+really1.20.2-1.1+deb12u1", "1.20.2"),
        ("1.32.3+ds-2", "1.32.3"),
        ("2:1.20.0-1", "1.20.0"),
        ("1.20-1", ""),
    ],
)
def test_upstream_version(version: str, wanted: str) -> None:
    """A Debian version tells which release it really is."""
    assert debian.upstream(version) == wanted


def test_etcd_is_unpacked(request_of: Places) -> None:
    """etcd alone needs no source package, and lands in the cache, executable."""
    found = debian.from_debian(Request(("etcd",), request_of, "1.30.0"))
    place = request_of.cache / "kube" / "1.30.0" / "etcd"
    assert found == {"etcd": place}
    assert place.stat().st_mode & 0o111
    assert [path.name for path in place.parent.iterdir()] == ["etcd"]


@pytest.mark.parametrize(
    ("versions", "version", "reason"),
    [
        ((), None, "has no source package kubernetes"),
        (("1.20.5+really1.20.2-1",), "1.34.1", "has Kubernetes 1.20.2, not 1.34.1"),
    ],
)
def test_refusals(
    request_of: Places, monkeypatch: pytest.MonkeyPatch, versions: tuple[str, ...], version: str, reason: str
) -> None:
    """What the archive does not have is said before anything is downloaded."""
    monkeypatch.setattr(FakeArchive, "versions", versions)
    with pytest.raises(WorldError, match=reason):
        debian.from_debian(Request(("etcd", "kubectl"), request_of, version))
    assert not (request_of.cache / "kube").exists()


def test_disk_must_have_room(request_of: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A build that cannot fit is not begun."""
    monkeypatch.setattr(FakeArchive, "versions", ("1.20.2-1",))
    monkeypatch.setattr(debian, "_SPACE", 10**18)
    (request_of.cache / "debian").mkdir(parents=True)
    with pytest.raises(WorldError, match="GB free in"):
        debian.from_debian(Request(("kubectl",), request_of))


def test_openapi_packages_follow_links(tmp_path: Path) -> None:
    """Packages that ask for definitions are found behind links too, test data left out."""
    asking = "// +k8s:openapi-gen=true\npackage x\n"
    for place in ("staging/src/k8s.io/api/core/v1", "pkg/apis/testdata", "pkg/kubelet/config"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "doc.go").write_text(asking)
    (tmp_path / "pkg/kubelet/types.go").write_text("package kubelet\n")
    (tmp_path / "vendor/k8s.io").mkdir(parents=True)
    (tmp_path / "vendor/k8s.io/api").symlink_to("../../staging/src/k8s.io/api")
    assert debian.openapi_packages(tmp_path) == ["k8s.io/api/core/v1", "k8s.io/kubernetes/pkg/kubelet/config"]


def test_stamps_name_the_vendored_package() -> None:
    """Without the vendor prefix the programs would say v0.0.0-master."""
    stamps = debian._stamps("1.20.2")
    assert "-X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion=v1.20.2" in stamps
    assert "-X k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version.gitMinor=20" in stamps
