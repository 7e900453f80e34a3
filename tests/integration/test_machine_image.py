# SPDX-License-Identifier: Apache-2.0
"""The machines' image as it was built: whole, fit to boot, with what the roles expect, and nobody's keys.

It is looked at where it is built already; building takes two minutes and root, and is asked for with
STARGATE_TEST_BUILD_IMAGE=1 (then in a cache of its own).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler.local.binaries import directory_of, from_cache, obtain
from stargate_reconciler.local.image_programs import PROGRAMS
from stargate_reconciler.local.image_recipe import sha256
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import Request

PROGRAM = str(Path(sys.executable).parent / "stargate-machine-image")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What is said of an image that is here, or is built now."""
    environ, cache = dict(os.environ), tmp_path_factory.mktemp("cache")
    command = [PROGRAM, "path", "-o", "json"]
    if environ.get("STARGATE_TEST_BUILD_IMAGE"):
        places = Places.read(environ)
        found = obtain(Request(PROGRAMS, places), look=(("the cache", from_cache),))
        environ["STARGATE_KUBE_BIN_DIR"] = str(directory_of(found, places))
        environ["STARGATE_CACHE_DIR"] = str(cache)
        command[1:2] = ["build", "--single"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    yield dict(json.loads(done.stdout))
    shutil.rmtree(cache)  # not kept with pytest's other directories: it is large


def test_disk_is_what_was_written(facts: dict[str, Any]) -> None:
    """The disk has its checksum, and kernel and initramfs lie beside it."""
    assert facts["checksum"] == f"sha256:{sha256(Path(facts['disk']))}"
    assert all(Path(facts[name]).stat().st_size > 1 << 20 for name in ("disk", "vmlinuz", "initrd"))


def test_kubernetes_lies_as_in_a_release(facts: dict[str, Any]) -> None:
    """Each version has its programs with digests that fit, and none of them is installed."""
    root = Path(facts["root"])
    for version in facts["kubernetes"]:
        directory = root / "opt/stargate/kubernetes" / f"v{version}" / "bin/linux" / facts["architecture"]
        for name in ("kubeadm", "kubelet", "kubectl"):
            assert (directory / f"{name}.sha256").read_text() == sha256(directory / name)
        said = subprocess.run([directory / "kubelet", "--version"], capture_output=True, text=True, check=True)
        assert said.stdout == f"Kubernetes v{version}\n"
    assert not (root / "usr/bin/kubelet").exists()


@pytest.mark.parametrize(
    "program",
    ["cloud-init", "containerd", "ctr", "runc", "conntrack", "socat", "ethtool", "ebtables", "nft", "iptables", "sshd"],
)
def test_programs_are_there(facts: dict[str, Any], program: str) -> None:
    """What the roles and kubeadm's checks ask for is installed."""
    places = [Path(facts["root"]) / directory / program for directory in ("usr/bin", "usr/sbin")]
    assert any(place.is_symlink() or place.exists() for place in places)


def test_it_belongs_to_nobody(facts: dict[str, Any]) -> None:
    """No host key, no machine id, no password and no user is in it; seeds come from NoCloud."""
    etc = Path(facts["root"]) / "etc"
    assert not list(etc.glob("ssh/ssh_host_*"))
    assert (etc / "machine-id").read_text() == ""
    assert all(line.split(":")[1] in ("*", "!", "!*") for line in (etc / "shadow").read_text().splitlines())
    assert "datasource_list: [NoCloud, None]" in (etc / "cloud/cloud.cfg.d/90-stargate.cfg").read_text()


def test_services(facts: dict[str, Any]) -> None:
    """containerd and sshd start, timers that work in the background do not."""
    units = Path(facts["root"]) / "etc/systemd/system"
    started = {path.name for path in (units / "multi-user.target.wants").iterdir()}
    assert {"containerd.service", "ssh.service"} <= started
    assert (units / "apt-daily.timer").readlink() == Path("/dev/null")
