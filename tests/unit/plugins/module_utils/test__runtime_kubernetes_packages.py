# SPDX-License-Identifier: Apache-2.0
"""kubelet and kubeadm as packages: the exact version, up and down, held, from a repository or from files.

apt and dpkg are played: what is asked of them is what the machine then has. The real ones work in
tests/integration/test_worker_packages.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import pytest
from tests.unit.plugins.mirror import Mirror, mirror
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils import _runtime_kubernetes as kubernetes
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import asked
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

STATUS = "/var/lib/dpkg/status"
FOLDER = "/srv/packages"


class Played(Machine):
    """A machine whose apt and dpkg install what they are asked for."""

    def play(self) -> Played:
        """Have the commands answered."""
        self.answers["apt-get", "install"] = self.install
        self.answers["dpkg", "--install"] = self.install
        self.answers["apt-mark", "hold"] = self.hold
        return self

    def install(self, argv: Sequence[str], stdin: str) -> Done:
        """Install every package that is named with a version, or in the name of a file."""
        del stdin
        found = [re.fullmatch(r"(?:.*/)?([a-z-]+)[=_](\d[^_]*)(?:_.*)?", word) for word in argv]
        for name, version in [(match[1], match[2]) for match in found if match]:
            text = re.sub(rf"Package: {name}\n.*?\n\n", "", self.text(STATUS) or "", flags=re.DOTALL)
            self.have(STATUS, f"{text}Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n")
            self.have(f"/usr/bin/{name}", f"Kubernetes v{version.partition('-')[0]}\n")
        return Done(0)

    def hold(self, argv: Sequence[str], stdin: str) -> Done:
        """Hold packages."""
        del stdin
        for name in argv[2:]:
            text = (self.text(STATUS) or "").replace(f"{name}\nStatus: install", f"{name}\nStatus: hold")
            self.have(STATUS, text)
        return Done(0)


@pytest.fixture
def host() -> Iterator[Played]:
    """Return a machine whose package tools are played."""
    with machine() as made:
        yield Played(made.root).play()


@pytest.fixture
def server() -> Iterator[Mirror]:
    """Return a mirror of packages of 1.34."""
    with mirror() as made:
        names = [(name, f"1.34.{patch}-1.1") for name in ("kubelet", "kubeadm") for patch in (1, 2, 10)]
        index = "\n".join(f"Package: {name}\nVersion: {version}\n" for name, version in names)
        made.files["/v1.34/deb/Packages"] = f"{index}\nPackage: kubelet\nVersion: 1.34.11-1.1\n".encode()
        made.files["/v1.34/deb/Release.key"] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
        yield made


def ensured(host: Machine, version: str, *, check: bool = False, repository: str = "") -> Ledger:
    """Return the ledger of one run, from the directory when no repository is given."""
    ledger = Ledger(host, Memory(host, read_only=check), check_mode=check)
    source = "packages" if repository else "directory"
    wanted = kubernetes.Wanted(asked(version), source, repository=repository, packages_dir=FOLDER)
    kubernetes.ensure(ledger, wanted)
    kubernetes.settle(ledger, restart=True)
    return ledger


def packages(host: Machine, *versions: str, wrong: str = "") -> None:
    """Put packages with their checksums into the directory."""
    names = [f"{name}_{version}-1.1_amd64.deb" for version in versions for name in ("kubelet", "kubeadm", "kubectl")]
    names += ["kubernetes-cni_1.7.1-1.1_amd64.deb", "no package"]
    sums = [(hashlib.sha256(name.encode()).hexdigest(), name) for name in names]
    for name in names:
        host.have(f"{FOLDER}/{name}", name)
    lines = [f"{'0' * 64 if wrong and wrong in name else digest}  ./{name}\n" for digest, name in sums]
    host.have(f"{FOLDER}/SHA256SUMS", "".join(lines))


def test_install_from_a_repository(host: Played, server: Mirror) -> None:
    """The newest patch that all packages have is installed and held; a second run asks nobody for a whole version."""
    first = ensured(host, "1.34", repository=server.url)
    assert [change.rpartition("/")[2] for change in first.changes] == [
        "stargate-kubernetes.asc",
        "stargate-kubernetes.sources",
        "kubelet none -> v1.34.10",
        "kubelet and kubeadm held",
    ]
    assert [argv[1] for argv in host.ran if argv[0].startswith("apt")] == ["update", "install", "hold"]
    server.asked.clear()
    ran = len(host.ran)
    assert ensured(host, "1.34.10", repository=server.url).changes == []
    assert (server.asked, len(host.ran)) == ([], ran)
    assert ensured(host, "1.34", repository=server.url).changes == []
    assert (server.asked, len(host.ran)) == (["/v1.34/deb/Packages.gz", "/v1.34/deb/Packages"], ran)


@pytest.mark.parametrize(("before", "after"), [("1.34.1", "1.34.2"), ("1.34.10", "1.34.2"), ("1.34.1", "1.34")])
def test_up_and_down(host: Played, server: Mirror, before: str, after: str) -> None:
    """Another version is installed, whichever way, and the kubelet itself is asked what it is."""
    ensured(host, before, repository=server.url)
    done = ensured(host, after, repository=server.url)
    version = "1.34.10" if after == "1.34" else after
    assert done.changes[0] == f"kubelet v{before} -> v{version}"
    assert str(Memory(host).version("/usr/bin/kubelet")) == version


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.34.9", r"it has v1\.34\.1, v1\.34\.2, v1\.34\.10\."), ("1.35", r"has no packages of v1\.35")],
)
def test_a_version_that_is_not_there(host: Played, server: Mirror, version: str, words: str) -> None:
    """What the repository lacks is said before apt is asked, with what it has."""
    with pytest.raises(StargateError, match=words) as caught:
        ensured(host, version, repository=server.url)
    assert (caught.value.code, host.ran) == ("VersionNotFound", [])


def test_check_mode(host: Played, server: Mirror) -> None:
    """Check mode reads the index and changes nothing."""
    foretold = ensured(host, "1.34", check=True, repository=server.url)
    assert "kubelet none -> v1.34.10" in foretold.changes
    assert (host.ran, host.written) == ([], [])


def test_units_of_programs_go(host: Played, server: Mirror) -> None:
    """Units that came with single programs make room for those of the packages; a person's own stay."""
    host.have(files.KUBELET_UNIT_FILE, files.kubelet_unit())
    host.have(files.KUBELET_DROPIN_FILE, "[Service]\n# mine\n")
    done = ensured(host, "1.34.2", repository=server.url)
    assert f"{files.KUBELET_UNIT_FILE} removed" in done.changes
    assert host.path(files.KUBELET_DROPIN_FILE).exists()
    assert "systemctl daemon-reload" in host.commands()


def test_a_loose_package_is_held(host: Played, server: Mirror) -> None:
    """A package that somebody let go is held again."""
    ensured(host, "1.34.2", repository=server.url)
    host.have(STATUS, (host.text(STATUS) or "").replace("kubelet\nStatus: hold", "kubelet\nStatus: install"))
    assert ensured(host, "1.34.2", repository=server.url).changes == ["kubelet held"]


def test_install_from_files(host: Played) -> None:
    """Both packages are installed from files, with another that the machine lacks; kubectl is not needed."""
    packages(host, "1.33.1", "1.33.2")
    done = ensured(host, "1.33")
    assert done.changes == ["kubelet none -> v1.33.2", "kubelet and kubeadm held"]
    install = next(argv for argv in host.ran if argv[:2] == ["dpkg", "--install"])
    assert [word.rpartition("/")[2] for word in install if word.endswith(".deb")] == [
        "kubernetes-cni_1.7.1-1.1_amd64.deb",
        "kubelet_1.33.2-1.1_amd64.deb",
        "kubeadm_1.33.2-1.1_amd64.deb",
    ]
    down = ensured(host, "1.33.1")
    assert down.changes[0] == "kubelet v1.33.2 -> v1.33.1"
    assert ensured(host, "1.33.1").changes == []


def test_newest_of_files_is_there(host: Played) -> None:
    """A minor version whose newest patch is installed changes nothing."""
    packages(host, "1.33.2")
    ensured(host, "1.33")
    assert ensured(host, "1.33").changes == []


@pytest.mark.parametrize("damage", ["wrong", "missing"])
def test_files_without_their_checksum(host: Played, damage: str) -> None:
    """A package that is not what the checksums say, or has none, is not installed."""
    packages(host, "1.33.2", wrong="kubeadm")
    if damage == "missing":
        host.lack(f"{FOLDER}/SHA256SUMS")
    with pytest.raises(StargateError, match="SHA256SUMS") as caught:
        ensured(host, "1.33.2")
    assert (caught.value.code, host.ran) == ("ChecksumMismatch", [])


def test_no_directory(host: Played) -> None:
    """A directory that is not there has no versions."""
    with pytest.raises(StargateError, match="it has none at all") as caught:
        ensured(host, "1.33.2")
    assert caught.value.code == "VersionNotFound"


def test_a_package_with_something_else_in_it(host: Played, server: Mirror) -> None:
    """A kubelet that calls itself something else than its package is found out."""
    host.answers["apt-get", "install"] = Done(0)
    host.have("/usr/bin/kubelet", "Kubernetes v1.30.0\n")
    with pytest.raises(StargateError, match=r"calls itself v1\.30\.0") as caught:
        ensured(host, "1.34.2", repository=server.url)
    assert caught.value.code == "ChecksumMismatch"
