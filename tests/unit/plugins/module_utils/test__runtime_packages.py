# SPDX-License-Identifier: Apache-2.0
"""Which packages a machine lacks, and where its CNI plug-ins are.

apt is not there: what would be installed is looked at, not how.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils import _apt as apt
from ansible_collections.stargate.core.plugins.module_utils import _runtime_packages as packages
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

STANZA = "Package: {}\nStatus: install ok installed\nVersion: 1.7\n\n"


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


def have_plugins(host: Machine, place: str) -> None:
    """Put the CNI plug-ins somewhere."""
    for name in packages.PLUGINS:
        host.have(f"{place}/{name}")


@pytest.mark.parametrize(
    ("runtime", "installed", "program", "missing"),
    [
        ("distribution", ["containerd"], True, []),
        ("distribution", [], False, ["containerd"]),
        ("distribution", [], True, []),
        ("distribution", ["containerd.io"], True, ["containerd"]),
        ("vendor", ["containerd.io"], True, []),
        ("vendor", ["containerd"], True, ["containerd.io"]),
        ("vendor", [], True, ["containerd.io"]),
        ("installed", [], True, []),
        ("installed", [], False, []),
    ],
)
def test_containerd(host: Machine, runtime: str, installed: list[str], missing: list[str], *, program: bool) -> None:
    """The package of the source that is asked for is installed; one that was put there by hand does for ours."""
    host.have("/var/lib/dpkg/status", "".join(STANZA.format(name) for name in installed))
    if not program:
        host.lack(packages.CONTAINERD)
    assert packages.missing_packages(host, packages.Wanted(runtime=runtime)) == missing


def test_programs(host: Machine) -> None:
    """Programs without which kubeadm refuses are installed."""
    host.lack("/usr/sbin/conntrack")
    host.lack("/usr/sbin/iptables")
    assert packages.missing_packages(host, packages.Wanted(runtime="installed")) == ["conntrack", "iptables"]


@pytest.mark.parametrize(
    ("there", "wanted", "outcome"),
    [
        ("/usr/lib/cni", packages.Wanted(cni="bridge"), "/usr/lib/cni"),
        ("/opt/cni/bin", packages.Wanted(cni="bridge"), "/opt/cni/bin"),
        ("/usr/lib/cni", packages.Wanted(cni="none"), "/opt/cni/bin"),
        ("/srv/cni", packages.Wanted(cni="bridge", cni_bin_dir="/srv/cni"), "/srv/cni"),
        ("", packages.Wanted(cni="none", cni_bin_dir="/srv/cni"), "/srv/cni"),
    ],
)
def test_plugins_dir(host: Machine, there: str, wanted: packages.Wanted, outcome: str) -> None:
    """The plug-ins are where somebody says, or where they are found."""
    if there:
        have_plugins(host, there)
    assert packages.ensure(Ledger(host, Memory(host)), wanted) == outcome


@pytest.mark.parametrize(
    "wanted", [packages.Wanted(cni="bridge", cni_bin_dir="/srv/cni"), packages.Wanted("installed", cni="bridge")]
)
def test_no_plugins(host: Machine, wanted: packages.Wanted) -> None:
    """Plug-ins that are to be there already and are not fail the task, with the names of the places."""
    with pytest.raises(StargateError, match=r"bridge, host-local, portmap: .* lack them") as caught:
        packages.ensure(Ledger(host, Memory(host)), wanted)
    assert caught.value.code == "CniPluginsMissing"


def test_no_containerd(host: Machine) -> None:
    """A containerd that is to be there already and is not fails the task."""
    host.lack(packages.CONTAINERD)
    with pytest.raises(StargateError, match="/usr/bin/containerd is missing") as caught:
        packages.ensure(Ledger(host, Memory(host)), packages.Wanted("installed"))
    assert caught.value.code == "ContainerdMissing"


def test_install_from_the_distribution(host: Machine) -> None:
    """Packages of the distribution need no other repository."""
    host.lack("/usr/sbin/conntrack")
    packages.ensure(Ledger(host, Memory(host)), packages.Wanted("installed"))
    assert [argv[:2] for argv in host.ran] == [["apt-get", "install"]]


@pytest.mark.parametrize("check", [True, False])
def test_install(host: Machine, monkeypatch: pytest.MonkeyPatch, *, check: bool) -> None:
    """All packages are installed in one go, the vendor's with its repository."""
    host.lack("/usr/sbin/conntrack")
    monkeypatch.setattr(apt, "_key", lambda _url: "a key")
    wanted = packages.Wanted("vendor", repository="https://mirror/docker/linux", cni="bridge")
    ledger = Ledger(host, Memory(host, read_only=check), check_mode=check)
    packages.ensure(ledger, wanted)
    names = ["conntrack", "containernetworking-plugins", "containerd.io"]
    assert ledger.changes[-1] == "packages " + ", ".join(names)
    source = host.text("/etc/apt/sources.list.d/stargate-containerd.sources")
    if check:
        assert (source, host.ran) == (None, [])
        return
    assert "URIs: https://mirror/docker/linux/debian\nSuites: bookworm\nComponents: stable\n" in str(source)
    assert [argv[:2] for argv in host.ran] == [["apt-get", "update"], ["apt-get", "install"]]
    assert host.ran[1][-3:] == names


@pytest.mark.parametrize(
    ("release", "distribution"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", ("debian", "bookworm")),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME="noble"\nUBUNTU_CODENAME=noble\n', ("ubuntu", "noble")),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n', ("ubuntu", "noble")),
        ("ID=debian\n", None),
    ],
)
def test_distribution(host: Machine, release: str, distribution: tuple[str, str] | None) -> None:
    """The vendor's packages are those of the distribution, or of the one that it derives from."""
    host.have("/etc/os-release", release)
    if distribution:
        assert packages.distribution(host) == distribution
        return
    with pytest.raises(StargateError, match="no VERSION_CODENAME"):
        packages.distribution(host)
