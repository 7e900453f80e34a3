# SPDX-License-Identifier: Apache-2.0
"""containerd: configured, running with its configuration, with the images that were given.

The archives are real ones; containerd is a socket on which somebody listens.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils import _runtime_containerd as containerd
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory

CONFIG = "/etc/containerd/config.toml"
LIST = ("ctr", "-n", "k8s.io", "images", "ls", "-q")


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine on which containerd is enabled and runs."""
    with machine() as made:
        enabled = made.path(containerd.ENABLED)
        enabled.parent.mkdir(parents=True)
        enabled.symlink_to("/usr/lib/systemd/system/containerd.service")
        with made.listening():
            yield made


def ledger(host: Machine, *, check: bool = False) -> Ledger:
    """Return a ledger for one run."""
    return Ledger(host, Memory(host, read_only=check), check_mode=check)


def archive(path: Path, documents: dict[str, Any]) -> Path:
    """Write an image archive with these documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, document in documents.items():
            body = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def test_a_new_configuration(host: Machine) -> None:
    """A configuration that containerd can read is put in place, and containerd restarted with it; then nothing."""
    run = ledger(host)
    containerd.ensure_running(run, "version = 2\n")
    assert (run.changes, run.restarted) == ([CONFIG], ["containerd"])
    assert host.commands() == [
        "/usr/bin/containerd --config /run/stargate/containerd.toml config dump",
        "systemctl restart containerd",
    ]
    assert not host.path("/run/stargate/containerd.toml").exists()
    run = ledger(host)
    containerd.ensure_running(run, "version = 2\n")
    assert (run.changes, run.restarted, len(host.ran)) == ([], [], 2)


def test_a_configuration_that_is_not_read(host: Machine) -> None:
    """A configuration that containerd does not read never reaches its place."""
    host.have(CONFIG, "old\n")
    host.answers["/usr/bin/containerd", "--config"] = Done(1, err="containerd: invalid TOML\n")
    with pytest.raises(StargateError, match="invalid TOML"):
        containerd.ensure_running(ledger(host), "version = 2\n")
    assert host.text(CONFIG) == "old\n"
    assert Memory(host).owed == []


def test_a_restart_that_is_owed(host: Machine) -> None:
    """A run that ended before the restart is made good by the next one."""
    host.have(CONFIG, "version = 2\n").chmod(0o644)
    Memory(host).owe("containerd")
    run = ledger(host)
    containerd.ensure_running(run, "version = 2\n")
    assert (run.changes, run.restarted, Memory(host).owed) == ([], ["containerd"], [])


def test_stopped_and_disabled(host: Machine) -> None:
    """A containerd that does not run is started, now and at the next boot."""
    host.have(CONFIG, "version = 2\n").chmod(0o644)
    host.lack(containerd.ENABLED)
    host.path(containerd.SOCKET).rename(host.path("/run/elsewhere"))
    run = ledger(host)
    containerd.ensure_running(run, "version = 2\n")
    host.path("/run/elsewhere").rename(host.path(containerd.SOCKET))
    assert run.changes == ["containerd enabled", "containerd started"]
    assert host.commands() == ["systemctl enable containerd", "systemctl restart containerd"]


def test_check_mode(host: Machine) -> None:
    """In check mode containerd is neither asked nor restarted."""
    run = ledger(host, check=True)
    containerd.ensure_running(run, "version = 2\n")
    assert (run.changes, run.restarted, host.ran, host.written) == ([CONFIG], ["containerd"], [], [])


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("me/app:1", "docker.io/me/app:1"),
        ("localhost/stargate/pause:1", "localhost/stargate/pause:1"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("registry.k8s.io/pause:3.6", "registry.k8s.io/pause:3.6"),
    ],
)
def test_full_name(name: str, full: str) -> None:
    """Names are completed as containerd does."""
    assert containerd.full_name(name) == full


@pytest.mark.parametrize(
    ("documents", "names"),
    [
        ({"manifest.json": [{"RepoTags": ["b:1", "a"]}]}, ["docker.io/library/a:latest", "docker.io/library/b:1"]),
        ({"./manifest.json": [{"RepoTags": None}]}, []),
        ({"index.json": {"manifests": [{"annotations": {"io.containerd.image.name": "q.io/a:1"}}, {}]}}, ["q.io/a:1"]),
        ({"other": {}}, []),
    ],
)
def test_image_names(tmp_path: Path, documents: dict[str, Any], names: list[str]) -> None:
    """Archives of both kinds say which images they hold."""
    assert containerd.image_names(archive(tmp_path / "x.tar", documents)) == names


def test_images(host: Machine) -> None:
    """Only archives with an image that containerd lacks are imported, those without names always."""
    for name in ("pause", "app"):
        archive(host.path(f"/images/{name}.tar"), {"manifest.json": [{"RepoTags": [f"q.io/{name}:1"]}]})
    archive(host.path("/images/unnamed.tar"), {})
    host.answers[LIST] = Done(0, "q.io/pause:1\nsha256:abc\n")
    run = ledger(host)
    containerd.ensure_images(run, "/images")
    assert run.changes == ["images q.io/app:1", "images unnamed.tar"]
    assert host.commands()[1:] == [
        "ctr -n k8s.io images import /images/app.tar",
        "ctr -n k8s.io images import /images/unnamed.tar",
    ]


def test_images_before_containerd_runs(host: Machine) -> None:
    """In check mode of a first run containerd cannot be asked, and all images are to come."""
    archive(host.path("/images/app.tar"), {"manifest.json": [{"RepoTags": ["q.io/app:1"]}]})
    host.path(containerd.SOCKET).rename(host.path("/run/elsewhere"))
    run = ledger(host, check=True)
    containerd.ensure_images(run, "/images")
    host.path("/run/elsewhere").rename(host.path(containerd.SOCKET))
    assert (run.changes, host.ran) == (["images q.io/app:1"], [])


@pytest.mark.parametrize("content", [None, "no tar"])
def test_no_images(host: Machine, content: str | None) -> None:
    """A directory without archives, or with something else, is a user's mistake."""
    if content is not None:
        host.have("/images/x.tar", content)
    with pytest.raises(StargateError, match="image archive") as caught:
        containerd.ensure_images(ledger(host), "/images")
    assert caught.value.code == "Invalid"
