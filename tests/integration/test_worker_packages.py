# SPDX-License-Identifier: Apache-2.0
"""node_runtime with real packages: apt and dpkg of a real machine, a signed repository on the host's loopback.

The kubelet in the packages only states its version. The tests are one story, in their order. Needs root and gpg.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.deb_repository import Deb, Signer, kubernetes, serve, signer
from tests.integration.prep import machine_image
from tests.integration.worker_site import GATEWAY, NEEDS_ROOT, Worker, worker
from tests.unit.plugins.mirror import Mirror, mirror

pytestmark = [*NEEDS_ROOT, pytest.mark.skipif(not shutil.which("gpg"), reason="repositories are signed with gpg")]
FLAT = "/v1.34/deb/"
CNI = Deb("kubernetes-cni", "1.7.1-1.1", {"/opt/cni/bin/test": "plug-in"})
PACKAGES = [CNI, *(deb for patch in (1, 2, 10) for deb in kubernetes(f"1.34.{patch}"))]


@pytest.fixture(scope="module")
def machine() -> Iterator[Worker]:
    """Return a machine that has just been made."""
    with worker("debs") as made:
        yield made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where packages and keys are."""
    return tmp_path_factory.mktemp("debs")


@pytest.fixture(scope="module")
def key(directory: Path) -> Iterator[Signer]:
    """Return the key that the repository is signed with at first."""
    with signer(directory, "first") as made:
        yield made


@pytest.fixture(scope="module")
def debs(directory: Path) -> dict[Path, Deb]:
    """Return the packages with their files."""
    return {deb.build(directory): deb for deb in PACKAGES}


@pytest.fixture(scope="module")
def server(debs: dict[Path, Deb], key: Signer) -> Iterator[Mirror]:
    """Return the mirror with the repository."""
    with mirror() as made:
        serve(made, FLAT, debs, key)
        yield made


@pytest.fixture(scope="module")
def options(server: Mirror) -> dict[str, Any]:
    """Return the role's options."""
    return {
        "kubernetes_version": "1.34",
        "repository": f"http://{GATEWAY}:{server.port}",
        "container_runtime": "installed",
        "cgroup_driver": "cgroupfs",
        "restrict_oom_score_adj": True,
    }


def dpkg(machine: Worker, *names: str) -> list[str]:
    """Return state and version of packages."""
    return machine.ssh("dpkg-query -W -f '${db:Status-Abbrev}${Version}\\n' " + " ".join(names)).splitlines()


def test_install(machine: Worker, options: dict[str, Any]) -> None:
    """The newest patch is installed and held, and the kubelet, which its package starts, does not run."""
    foretold = machine.must("node_runtime", check=True, **options)
    assert "kubelet none -> v1.34.10" in foretold["changes"]
    made = machine.must("node_runtime", **options)
    print(f"packages: first run {machine.seconds:.1f} s, of them {made['seconds']} s there")
    assert (made["kubernetes_version"], made["kubelet_version"]) == ("v1.34.10", "v1.34.10")
    assert dpkg(machine, "kubelet", "kubeadm") == ["hi 1.34.10-1.1"] * 2
    assert machine.ssh("systemctl is-enabled kubelet; systemctl is-active kubelet; true").split() == [
        "disabled",
        "inactive",
    ]
    for check in (False, True):
        again = machine.must("node_runtime", check=check, **options)
        print(f"packages: run without change {machine.seconds:.1f} s, of them {again['seconds']} s there")
        assert again["changes"] == []


def test_down_and_up(machine: Worker, options: dict[str, Any]) -> None:
    """Another patch is installed, downwards too, though the packages are held and a conffile differs."""
    for was, version in (("10", "2"), ("2", "10"), ("10", "1")):
        wanted = {**options, "kubernetes_version": f"1.34.{version}"}
        assert f"kubelet v1.34.{was} -> v1.34.{version}" in machine.must("node_runtime", **wanted)["changes"]
        assert dpkg(machine, "kubelet", "kubeadm") == [f"hi 1.34.{version}-1.1"] * 2
        assert machine.must("node_runtime", **wanted)["changes"] == []
    assert "--cgroup-driver=cgroupfs" in machine.ssh("cat /etc/default/kubelet")


def test_a_version_that_is_not_there(machine: Worker, options: dict[str, Any]) -> None:
    """A version that the repository lacks is said with those that it has."""
    outcome = machine.role("node_runtime", **{**options, "kubernetes_version": "1.34.9"})
    assert outcome["failure"]["code"] == "VersionNotFound"
    assert "it has v1.34.1, v1.34.2, v1.34.10." in outcome["msg"]
    assert machine.refused("node_runtime", **{**options, "kubernetes_version": "1.35"})["code"] == "VersionNotFound"


def test_a_mirror_that_goes_away_in_the_middle(machine: Worker, options: dict[str, Any], server: Mirror) -> None:
    """A package that ends in its middle, or is another, changes nothing; the next run gets it."""
    wanted = {**options, "kubernetes_version": "1.34.2"}
    path = f"{FLAT}amd64/kubelet_1.34.2-1.1_amd64.deb"
    machine.ssh("sudo apt-get clean")
    server.cut.add(path)
    failure = machine.refused("node_runtime", **wanted)
    assert (failure["code"], failure["retryable"]) == ("MirrorUnavailable", True)
    server.cut.clear()
    right = server.files[path]
    server.files[path] = right.replace(b"1.34.2", b"1.34.7")
    failure = machine.refused("node_runtime", **wanted)
    assert (failure["code"], failure["retryable"]) == ("ChecksumMismatch", True)
    server.files[path] = right
    assert dpkg(machine, "kubelet", "kubeadm") == ["hi 1.34.1-1.1"] * 2
    assert machine.must("node_runtime", **wanted)["kubelet_version"] == "v1.34.2"


def test_a_partial_earlier_run(machine: Worker, options: dict[str, Any]) -> None:
    """An empty keyring, a half unpacked package, and a file that names the repository with another key are mended."""
    uri = f"{options['repository']}{FLAT}"
    machine.ssh("sudo truncate -s 0 /etc/apt/keyrings/stargate-kubernetes.asc")
    line = f"deb [signed-by=/etc/apt/keyrings/other.gpg] {uri} /"
    machine.ssh(f"echo '{line}' | sudo tee /etc/apt/sources.list.d/kubernetes.list")
    machine.ssh("cd /tmp && sudo apt-get clean && curl -sO " + f"{uri}amd64/kubelet_1.34.1-1.1_amd64.deb")
    machine.ssh("sudo dpkg --force-hold --force-downgrade --unpack /tmp/kubelet_1.34.1-1.1_amd64.deb")
    assert dpkg(machine, "kubelet") in (["hU 1.34.1-1.1"], ["iU 1.34.1-1.1"])
    done = machine.must("node_runtime", **options)
    assert (done["kubelet_version"], dpkg(machine, "kubelet")) == ("v1.34.10", ["hi 1.34.10-1.1"])
    assert machine.must("node_runtime", **options)["changes"] == []


def test_a_renewed_key(
    machine: Worker, options: dict[str, Any], server: Mirror, directory: Path, debs: dict[Path, Deb]
) -> None:
    """A repository that is signed with another key now is trusted when its own place says so."""
    with signer(directory, "second") as second:
        serve(server, FLAT, debs, second)
        machine.must("node_runtime", **{**options, "kubernetes_version": "1.34.2"})
        server.files[f"{FLAT}Release.key"] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nof somebody else\n"
        machine.ssh("sudo truncate -s 0 /etc/apt/keyrings/stargate-kubernetes.asc")
        failure = machine.refused("node_runtime", **{**options, "kubernetes_version": "1.34.1"})
        assert (failure["code"], failure["retryable"]) == ("SignatureInvalid", False)
        serve(server, FLAT, debs, second)
        machine.ssh("sudo truncate -s 0 /etc/apt/keyrings/stargate-kubernetes.asc")
        assert machine.must("node_runtime", **{**options, "kubernetes_version": "1.34.1"})["changed"]


def test_another_apt_is_waited_for(machine: Worker, options: dict[str, Any]) -> None:
    """While somebody else holds dpkg's lock the role waits."""
    hold = (
        "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(8)"
    )
    machine.ssh(f'sudo setsid python3 -c "{hold}" >/dev/null 2>&1 </dev/null &')
    done = machine.must("node_runtime", **{**options, "kubernetes_version": "1.34.2"})
    assert done["kubelet_version"] == "v1.34.2"


def test_from_files(machine: Worker, options: dict[str, Any], debs: dict[Path, Deb], server: Mirror) -> None:
    """Packages in a directory are installed, up and down, if they are what the checksums say."""
    names = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in debs}
    server.files["/SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in names.items()).encode()
    urls = " ".join(f"-O {options['repository']}{FLAT}amd64/{name}" for name in names)
    machine.ssh(f"sudo mkdir -p /srv/debs && cd /srv/debs && sudo curl -s {urls} -O {options['repository']}/SHA256SUMS")
    files = {**options, "source": "directory", "packages_dir": "/srv/debs", "repository": "http://127.0.0.1:1"}
    assert machine.must("node_runtime", **files)["kubelet_version"] == "v1.34.10"
    assert machine.must("node_runtime", **{**files, "kubernetes_version": "1.34.1"})["kubelet_version"] == "v1.34.1"
    machine.ssh("echo more | sudo tee -a /srv/debs/kubeadm_1.34.2-1.1_amd64.deb")
    failure = machine.refused("node_runtime", **{**files, "kubernetes_version": "1.34.2"})
    assert (failure["code"], dpkg(machine, "kubelet")) == ("ChecksumMismatch", ["hi 1.34.1-1.1"])


def test_the_vendors_containerd(
    machine: Worker, options: dict[str, Any], server: Mirror, directory: Path, key: Signer
) -> None:
    """The vendor's package takes the place of the distribution's, and containerd runs with our configuration."""
    root = machine_image() / "root"
    programs = ("/usr/bin/containerd", "/usr/bin/ctr", "/usr/bin/containerd-shim-runc-v2", "/usr/sbin/runc")
    unit = "/usr/lib/systemd/system/containerd.service"
    source = (
        root / unit.lstrip("/")
        if (root / unit.lstrip("/")).exists()
        else root / "lib/systemd/system/containerd.service"
    )
    files = {**{name: root / name.lstrip("/") for name in programs}, unit: source}
    both = {"Conflicts": "containerd, runc", "Replaces": "containerd, runc", "Provides": "containerd, runc"}
    vendors = Deb("containerd.io", "1.6.99-1", files, both)
    serve(server, "/docker/debian/", {vendors.build(directory): vendors}, key, suite="bookworm")
    wanted = {**options, "container_runtime": "vendor", "kubernetes_version": "1.34.1"}
    wanted["container_runtime_repository"] = f"{options['repository']}/docker"
    done = machine.must("node_runtime", **wanted)
    assert "packages containerd.io" in done["changes"]
    assert dpkg(machine, "containerd.io") == ["ii 1.6.99-1"]
    assert machine.ssh("systemctl is-active containerd") == "active"
    assert machine.must("node_runtime", **wanted)["changes"] == []
