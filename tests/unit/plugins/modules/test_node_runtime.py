# SPDX-License-Identifier: Apache-2.0
"""The acts of node_runtime, each in check mode first, on a machine that is a directory.

What each part does in odd cases is tested beside module_utils; real machines are in tests/integration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.plugins.worker_world import Machine, machine, task, tree

from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._node_runtime import SPEC
from ansible_collections.stargate.core.plugins.module_utils._runtime_containerd import ENABLED
from ansible_collections.stargate.core.plugins.modules import node_runtime

ROLE = Path(__file__).parents[4] / "roles/node_runtime"


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine with CNI plug-ins on which containerd runs."""
    with machine() as made:
        for name in ("bridge", "host-local", "portmap"):
            made.have(f"/usr/lib/cni/{name}")
        made.path(ENABLED).parent.mkdir(parents=True)
        made.path(ENABLED).symlink_to("/usr/lib/systemd/system/containerd.service")
        with made.listening():
            yield made


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Return the options of a task that needs nothing from outside."""
    return {
        "kubernetes_version": "1.20",
        "source": "binaries",
        "binaries_url": tree(tmp_path, "v1.20.2", "v1.20.3"),
        "container_runtime": "installed",
        "cni": "bridge",
        "pod_cidr": "10.244.7.0/24",
    }


def test_made_and_left_alone(host: Machine, options: dict[str, Any]) -> None:
    """Check mode foretells exactly what the task does; a second task does nothing and starts no program."""
    foretold = task(node_runtime, host, options, check=True)
    assert (foretold["kubelet_version"], foretold["kubernetes_version"], host.written) == ("", "v1.20.3", [])
    made = task(node_runtime, host, options)
    assert made["changes"] == foretold["changes"]
    assert made["diff"] == foretold["diff"]
    assert (made["kubelet_version"], made["previous_version"]) == ("v1.20.3", "")
    assert (made["containerd_version"], made["restarted"]) == ("1.6.20", ["containerd"])
    ran = len(host.ran)
    for check in (True, False):
        again = task(node_runtime, host, options, check=check)
        assert (again["changed"], again["changes"], len(host.ran)) == (False, [], ran)


def test_changed(host: Machine, options: dict[str, Any]) -> None:
    """Another version, driver and network change what depends on them, and nothing else."""
    task(node_runtime, host, options)
    other = {**options, "kubernetes_version": "v1.20.2", "cgroup_driver": "cgroupfs", "cni": "none", "pod_cidr": ""}
    foretold = task(node_runtime, host, other, check=True)
    done = task(node_runtime, host, other)
    assert done["changes"] == foretold["changes"]
    assert done["changes"] == [
        files.CONTAINERD_FILE,
        f"{files.CONFLIST_FILE} removed",
        "kubelet v1.20.3 -> v1.20.2",
        files.KUBELET_DEFAULTS_FILE,
    ]
    assert (done["previous_version"], done["kubelet_version"]) == ("v1.20.3", "v1.20.2")
    assert "--cgroup-driver=cgroupfs" in (host.text(files.KUBELET_DEFAULTS_FILE) or "")


def test_arguments_and_images(host: Machine, options: dict[str, Any]) -> None:
    """More arguments and the sandbox image reach their files; archives of images are looked for."""
    more = {"kubelet_extra_args": ["--max-pods=50"], "sandbox_image": "q.io/pause:1", "images_dir": "/images"}
    failed = task(node_runtime, host, {**options, **more})
    assert failed["msg"] == "Failed to find image archives: /images has no *.tar."
    assert "--max-pods=50" in (host.text(files.KUBELET_DEFAULTS_FILE) or "")
    assert 'sandbox_image = "q.io/pause:1"' in (host.text(files.CONTAINERD_FILE) or "")


def test_a_member_that_is_not_restarted(host: Machine, options: dict[str, Any]) -> None:
    """A restart that is left to others is named."""
    task(node_runtime, host, options)
    host.have("/etc/kubernetes/kubelet.conf")
    done = task(node_runtime, host, {**options, "kubernetes_version": "1.20.2", "restart_kubelet": False})
    assert (done["restarted"], done["restart_pending"]) == ([], ["kubelet"])
    assert task(node_runtime, host, {**options, "kubernetes_version": "1.20.2"})["restarted"] == ["kubelet"]


def test_first_run_in_check_mode_without_containerd(host: Machine, options: dict[str, Any]) -> None:
    """Where containerd is to be installed first, its configuration cannot be foretold, and all else is."""
    host.lack("/usr/bin/containerd")
    foretold = task(node_runtime, host, {**options, "container_runtime": "distribution"}, check=True)
    assert (foretold["containerd_version"], foretold["changed"]) == ("", True)
    assert "packages containerd" in foretold["changes"]


def test_a_warning(host: Machine, options: dict[str, Any]) -> None:
    """What the task cannot help is a warning."""
    host.have("/run/systemd/container", "systemd-nspawn\n")
    host.have("/proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n")
    done = task(node_runtime, host, options)
    assert any("swap" in str(warning) for warning in done["warnings"])


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"kubernetes_version": "newest"}, "Invalid"),
        ({"kubernetes_version": 1.3}, "Invalid"),
        ({"kubernetes_version": "1.21"}, "VersionNotFound"),
        ({"pod_cidr": "10.244.7.1/24"}, "Invalid"),
        ({"kubelet_extra_args": ['--a="b"']}, "Invalid"),
        ({"kubelet_extra_args": ["--a\nExecStart=/bin/sh"]}, "Invalid"),
        ({"sandbox_image": 'x"\n[plugins]'}, "Invalid"),
        ({"repository": "https://m\nTrusted: yes"}, "Invalid"),
        ({"binaries_url": "ftp://mirror"}, "Invalid"),
    ],
)
def test_mistakes(host: Machine, options: dict[str, Any], given: dict[str, Any], code: str) -> None:
    """A user's mistake fails with a sentence and is not worth another try."""
    failed = task(node_runtime, host, {**options, **given})
    assert (failed["failed"], failed["failure"]["code"], failed["failure"]["retryable"]) == (True, code, False)
    assert failed["msg"].startswith("Failed to ")


def test_other_families(host: Machine, options: dict[str, Any]) -> None:
    """A machine of another family is refused before anything is changed."""
    host.have("/etc/os-release", 'PRETTY_NAME="Rocky Linux 9"\nID="rocky"\nID_LIKE="rhel fedora"\n')
    failed = task(node_runtime, host, options)
    assert (failed["failure"]["code"], host.written) == ("UnsupportedSystem", [])


def test_documentation() -> None:
    """Documentation, argument spec and role know the same options with the same defaults."""
    documented = yaml.safe_load(node_runtime.DOCUMENTATION)["options"]
    spec = SPEC["argument_spec"]
    assert documented.keys() == spec.keys()
    for name, option in spec.items():
        assert documented[name].get("default") == option.get("default"), name
    role = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert {f"node_runtime_{name}" for name in spec} == role.keys()
    for name in spec.keys() - {"kubernetes_version"}:
        assert defaults[f"node_runtime_{name}"] == (spec[name].get("default") if "default" in spec[name] else ""), name
