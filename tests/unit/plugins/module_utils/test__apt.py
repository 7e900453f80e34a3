# SPDX-License-Identifier: Apache-2.0
"""Sources with their keys, and what apt and dpkg are asked; their answers are those of apt 2.6.

apt itself works in tests/integration/test_worker_packages.py.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.unit.plugins.mirror import Mirror, mirror
from tests.unit.plugins.worker_world import Machine, in_turn, machine

from ansible_collections.stargate.core.plugins.module_utils import _apt as apt
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nabc\n"
INDEX = "Package: kubelet\nVersion: 1.34.2-1.1\n"
LOCKED = Done(100, err="E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)\n")


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


@pytest.fixture
def server() -> Iterator[Mirror]:
    """Return a mirror with a key."""
    with mirror() as made:
        made.files["/v1.34/deb/Release.key"] = KEY.encode()
        yield made


def source_of(server: Mirror) -> apt.Source:
    """Return the repository of a mirror."""
    uri = f"{server.url}/v1.34/deb/"
    return apt.Source("stargate-kubernetes", uri, "/", f"{uri}Release.key")


@pytest.mark.parametrize("packed", [True, False])
def test_packages(server: Mirror, *, packed: bool) -> None:
    """A repository's index is read packed, or plain when it is not packed."""
    name = "/v1.34/deb/Packages.gz" if packed else "/v1.34/deb/Packages"
    server.files[name] = gzip.compress(INDEX.encode()) if packed else INDEX.encode()
    assert [package.version for package in source_of(server).packages()] == ["1.34.2-1.1"]


def test_source(host: Machine, server: Mirror) -> None:
    """The source and its key are written once; a partial earlier run without the key is mended."""
    source = source_of(server)
    apt.ensure_source(Ledger(host, Memory(host)), source)
    assert host.text(source.keyring) == KEY
    assert host.text(source.file) == source.content
    again = Ledger(host, Memory(host))
    apt.ensure_source(again, source)
    assert again.changes == []
    host.have(source.keyring, "")
    apt.ensure_source(again, source)
    assert (again.changes, host.text(source.keyring)) == ([source.keyring], KEY)


def test_source_in_check_mode(host: Machine, server: Mirror) -> None:
    """In check mode no key is fetched and nothing is written."""
    ledger = Ledger(host, Memory(host, read_only=True), check_mode=True)
    apt.ensure_source(ledger, source_of(server))
    assert (ledger.changes, host.written, server.asked) == ([source_of(server).file], [], [])


def test_a_key_that_is_none(host: Machine, server: Mirror) -> None:
    """A page that is no key is not put into a keyring."""
    server.files["/v1.34/deb/Release.key"] = b"<html>"
    with pytest.raises(StargateError, match="not an ASCII armoured key"):
        apt.ensure_source(Ledger(host, Memory(host)), source_of(server))


def test_twins(host: Machine, server: Mirror) -> None:
    """A file that names the same repository with another key is put aside, and others are not."""
    source, folder = source_of(server), "/etc/apt/sources.list.d"
    host.have(f"{folder}/kubernetes.list", f"# ours\ndeb [signed-by=/k.gpg] {source.uri} /\n")
    host.have(f"{folder}/kubernetes.sources", f"Types: deb\nURIs: {source.uri}\nSuites: /\n")
    host.have(f"{folder}/two.list", f"deb {source.uri} /\ndeb https://other /\n")
    host.have(f"{folder}/kubernetes.save", f"deb {source.uri} /\n")
    apt.ensure_source(Ledger(host, Memory(host)), source)
    assert sorted(path.name for path in host.path(folder).iterdir()) == [
        "kubernetes.list.disabled-by-stargate",
        "kubernetes.save",
        "kubernetes.sources.disabled-by-stargate",
        "stargate-kubernetes.sources",
        "two.list",
    ]


def test_refresh(host: Machine, server: Mirror) -> None:
    """Only the one repository's index is read, and all when none is named."""
    source = source_of(server)
    apt.refresh(host, source, 60)
    apt.refresh(host, None, 60)
    one, every = host.commands()
    assert f"-o Dir::Etc::sourcelist={source.file} -o Dir::Etc::sourceparts=-" in one
    assert "APT::Update::Error-Mode=any" in one
    assert "sourcelist" not in every


def test_refresh_fetches_a_renewed_key(host: Machine, server: Mirror) -> None:
    """When the signature does not fit, the key is fetched once more."""
    source = source_of(server)
    host.have(source.keyring, "old")
    unsigned = Done(100, err="E: The repository 'http://m  InRelease' is not signed.\n")
    host.answers["apt-get", "update"] = in_turn(unsigned, Done(0))
    apt.refresh(host, source, 60)
    assert host.text(source.keyring) == KEY
    host.answers["apt-get", "update"] = unsigned
    with pytest.raises(StargateError) as caught:
        apt.refresh(host, source, 60)
    assert caught.value.code == "SignatureInvalid"


def test_install(host: Machine) -> None:
    """Versions are installed up or down, though held, without a question."""
    apt.install(host, ["kubelet=1.34.2-1.1"], timeout=60)
    (command,) = host.commands()
    for flag in ("-y", "--allow-downgrades", "--allow-change-held-packages", "Dpkg::Options::=--force-confold"):
        assert flag in command.split()
    assert command.endswith(" kubelet=1.34.2-1.1")


def test_install_reads_the_indexes_that_it_lacks(host: Machine) -> None:
    """A package that apt has never heard of makes it read all indexes, once."""
    unknown = Done(100, err="E: Unable to locate package conntrack\n")
    host.answers["apt-get", "install"] = in_turn(unknown, Done(0))
    apt.install(host, ["conntrack"], timeout=60)
    assert [argv[1] for argv in host.ran] == ["install", "update", "install"]
    host.answers["apt-get", "install"] = unknown
    with pytest.raises(StargateError) as caught:
        apt.install(host, ["conntrack"], timeout=60)
    assert caught.value.code == "PackageInstallFailed"


def test_an_interrupted_installation_is_finished_first(host: Machine) -> None:
    """What an earlier dpkg has left half done is finished before anything else."""
    host.have("/var/lib/dpkg/updates/0001")
    apt.install_files(host, ["/packages/kubelet_1_amd64.deb"], timeout=60)
    configure, install = host.commands()
    assert configure.startswith("dpkg --configure -a")
    assert "--force-downgrade" in install
    assert install.endswith("/packages/kubelet_1_amd64.deb")


def test_locks(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another apt is waited for, but not for ever."""
    monkeypatch.setattr(apt.time, "sleep", lambda _seconds: None)
    host.answers["apt-get", "install"] = in_turn(LOCKED, LOCKED, Done(0))
    apt.install(host, ["x"], timeout=60)
    assert len(host.ran) == 3
    monkeypatch.setattr(apt, "LOCK_WAIT", -1)
    host.answers["apt-get", "install"] = LOCKED
    with pytest.raises(StargateError) as caught:
        apt.install(host, ["x"], timeout=60)
    assert (caught.value.code, caught.value.retryable) == ("PackageLocked", True)


def test_time_is_up(host: Machine) -> None:
    """A package manager that hangs is given up."""
    host.answers["apt-get", "install"] = Done(None)
    with pytest.raises(StargateError, match="Failed to install x: it did not end within 60 seconds") as caught:
        apt.install(host, ["x"], timeout=60)
    assert (caught.value.code, caught.value.retryable) == ("CommandTimeout", True)


def test_hold(host: Machine, server: Mirror) -> None:
    """Packages are held by their names; a repository may have a component."""
    apt.hold(host, ["kubelet", "kubeadm"])
    assert host.commands() == ["apt-mark hold kubelet kubeadm"]
    assert "Components: stable" in replace(source_of(server), suite="bookworm").content
