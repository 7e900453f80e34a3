# SPDX-License-Identifier: Apache-2.0
"""The inventory plugin on a real API server, through ansible-inventory and ansible-playbook as users run them.

What needs no cluster is in tests/unit/plugins/inventory/test_servers.py.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

BIN = Path(sys.executable).parent
Object = dict[str, Any]


def server(name: str, **spec: Any) -> Object:
    """Return a manifest of a Server."""
    return {
        "apiVersion": "stargate.io/v1alpha1",
        "kind": "Server",
        "metadata": {"name": name, "labels": {"rack": "r1" if name < "s3" else "r2"}},
        "spec": {"ipv4": "10.0.1.5", **spec},
    }


PROFILE = {
    "apiVersion": "stargate.io/v1alpha1",
    "kind": "ProvisioningProfile",
    "metadata": {"name": "os-2"},
    "spec": {"osVersion": "2.0.0", "adminUsername": "admin"},
}


@dataclass
class Shell:
    """A terminal with KUBECONFIG set, in a directory of its own."""

    directory: Path
    kubeconfig: str
    namespace: str

    def source(self, **options: Any) -> str:
        """Write an inventory file for the test's namespace; returns its path."""
        path = self.directory / "servers.stargate.yml"
        content = {"plugin": "stargate.core.servers", "namespaces": [self.namespace], **options}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment; its output is kept."""
        environment = {
            **os.environ,
            "KUBECONFIG": self.kubeconfig,
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "2000",
            **variables,
        }
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def hosts(self, **options: Any) -> list[str]:
        """Return the short names of the hosts that ansible-inventory --list shows."""
        done = self.run("ansible-inventory", "-i", self.source(**options), "--list")
        assert done.returncode == 0, done.stderr
        return sorted(name.partition(".")[0] for name in json.loads(done.stdout)["_meta"]["hostvars"])

    def refusal(self, **options: Any) -> str:
        """Return what is said when the inventory cannot be made; seconds, not minutes, after the start."""
        started = time.monotonic()
        done = self.run(
            "ansible-inventory", "-i", self.source(**options), "--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1"
        )
        assert done.returncode != 0
        assert time.monotonic() - started < 30
        return done.stderr


@pytest.fixture
def apply(crds: Any, namespace: str) -> Callable[..., None]:
    """Return a function that creates objects in the test's namespace."""

    def act(*objects: Object) -> None:
        crds.run(
            "apply",
            "-n",
            namespace,
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        )

    return act


@pytest.fixture
def shell(tmp_path: Path, crds: Any, namespace: str, apply: Callable[..., None]) -> Shell:
    """Return a terminal for a namespace with four Servers and a profile."""
    servers = [server(f"s{n}", provider=("qemu", "azure")[n % 2], provisioningProfile="os-2") for n in range(1, 5)]
    apply(PROFILE, *servers)
    return Shell(tmp_path, crds.kubeconfig, namespace)


def test_graph(shell: Shell) -> None:
    """ansible-inventory --graph shows the groups and the hosts in them."""
    done = shell.run("ansible-inventory", "-i", shell.source(), "--graph")
    assert done.returncode == 0, done.stderr
    lines = [line.strip(" |-") for line in done.stdout.splitlines()]
    at = lines.index("@provider_azure:")
    assert lines[at + 1 : at + 3] == [f"s1.{shell.namespace}", f"s3.{shell.namespace}"]
    assert {"@provider_qemu:", "@state_unknown:", "@profile_os_2:"} <= set(lines)
    assert "WARNING" not in done.stderr


def test_variables_in_a_play(shell: Shell) -> None:
    """A play sees the whole Server and its profile on each host."""
    (shell.directory / "play.yml").write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.assert:\n        that:\n"
        "          - ansible_user == 'admin'\n"
        "          - stargate_profile.spec.osVersion == '2.0.0'\n"
        "          - stargate_server.spec.ipv4 == ansible_host\n"
        "          - stargate_server.metadata.managedFields is undefined\n"
        "          - stargate_uid == stargate_server.metadata.uid\n",
        encoding="utf-8",
    )
    done = shell.run("ansible-playbook", "-i", shell.source(), "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ["s1", "s2", "s3", "s4"]),
        ({"label_selector": "rack=r1"}, ["s1", "s2"]),
        ({"filters": ["stargate_provider == 'azure'"]}, ["s1", "s3"]),
        ({"label_selector": "rack=r2", "filters": [{"exclude": "stargate_name == 's4'"}]}, ["s3"]),
        ({"namespaces": ["no-such-namespace"]}, []),
    ],
)
def test_what_is_wanted(shell: Shell, options: Object, wanted: list[str]) -> None:
    """The API server applies namespaces and label_selector, the plugin the filters."""
    assert shell.hosts(**options) == wanted


def test_other_namespaces(shell: Shell, crds: Any) -> None:
    """Without namespaces all of the cluster is read; with several, each."""
    assert {"s1", "s2", "s3", "s4"} <= set(shell.hosts(namespaces=[]))
    assert len(shell.hosts(namespaces=[shell.namespace, "default"])) == 4


def test_lists_of_several_pages(shell: Shell, apply: Callable[..., None]) -> None:
    """More Servers than fit in one answer all arrive, once each."""
    apply(*(server(f"page-{n:04}") for n in range(1010)))
    hosts = shell.hosts(label_selector="rack=r1")
    assert (len(hosts), len(set(hosts))) == (1012, 1012)


def test_cache(shell: Shell, apply: Callable[..., None]) -> None:
    """A cached inventory asks nobody, stays what it was, and gives way to --flush-cache and to another selector."""
    options = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(shell.directory / "c"),
    }
    first = shell.hosts(**options)
    apply(server("new"))
    assert shell.hosts(**options) == first
    assert shell.hosts(**options, label_selector="rack=r2") == ["s3", "s4"]
    done = shell.run("ansible-inventory", "-i", shell.source(**options), "--list", "--flush-cache")
    assert f"new.{shell.namespace}" in json.loads(done.stdout)["_meta"]["hostvars"]
    assert "new" in shell.hosts(**options)


def test_templates_from_the_cluster_and_the_cache(shell: Shell, apply: Callable[..., None]) -> None:
    """A template in labels and annotations stays text in a play, fresh and from the cache."""
    canary = shell.directory / "canary"
    item = server("evil")
    item["metadata"]["annotations"] = {"note": f"{{{{ lookup('pipe', 'touch {canary}') }}}}"}
    item["spec"]["inventory"] = {"sku": item["metadata"]["annotations"]["note"]}
    apply(item)
    play = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug:\n"
    play += "        msg: '{{ [stargate_server, sku] }}'\n"
    (shell.directory / "play.yml").write_text(play, encoding="utf-8")
    options = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(shell.directory / "c"),
    }
    source = shell.source(compose={"sku": "stargate_server.spec.inventory.sku | default('')"}, **options)
    for _ in ("fresh", "cached"):
        done = shell.run("ansible-playbook", "-i", source, "play.yml")
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("lookup('pipe'") >= 2
        assert not canary.exists()


def test_snapshot_needs_no_cluster(shell: Shell) -> None:
    """With a snapshot nobody is asked, not even a kubeconfig that is wrong."""
    snapshot = {"servers": [{**server("a"), "metadata": {"name": "a", "namespace": "n"}}], "profiles": []}
    (shell.directory / "snapshot.json").write_text(json.dumps(snapshot), encoding="utf-8")
    assert shell.hosts(snapshot="snapshot.json", kubeconfig="/nowhere") == ["a"]


def test_inventory_of_a_plain_yaml_file(shell: Shell) -> None:
    """A file of any name is ours when it says so."""
    Path(shell.source()).rename(shell.directory / "hosts.yml")
    done = shell.run("ansible-inventory", "-i", str(shell.directory / "hosts.yml"), "--graph")
    assert f"s1.{shell.namespace}" in done.stdout


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def changed(shell: Shell, cluster: Object, user: Object | None = None) -> str:
    """Write the kubeconfig with other entries for the cluster, and for the user; returns its path."""
    content = yaml.safe_load(Path(shell.kubeconfig).read_text(encoding="utf-8"))
    content["clusters"][0]["cluster"] = {**content["clusters"][0]["cluster"], **cluster}
    if user is not None:
        content["users"][0]["user"] = user
    path = shell.directory / "kubeconfig"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def test_unusable_kubeconfigs(shell: Shell) -> None:
    """A kubeconfig that is missing, empty or garbage, and an unknown context, are named with the remedy."""
    (shell.directory / "garbage").write_text("a: [", encoding="utf-8")
    (shell.directory / "empty").write_text("", encoding="utf-8")
    for name in ("missing", "garbage", "empty"):
        said = shell.refusal(kubeconfig=str(shell.directory / name))
        assert f"Failed to load the kubeconfig {shell.directory / name}" in said
        assert "Set the option kubeconfig" in said
    assert "context to one of its contexts" in shell.refusal(context="no-such-context")


def test_unreachable_server(shell: Shell, silent_port: int) -> None:
    """A server that refuses, or never answers, is named within seconds."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        said = shell.refusal(kubeconfig=changed(shell, {"server": f"https://127.0.0.1:{port}"}))
        assert f"of https://127.0.0.1:{port}: " in said
        assert "Is the API server up" in said
    said = shell.refusal(kubeconfig=changed(shell, {"server": f"https://127.0.0.1:{silent_port}"}), timeout=2)
    assert "Is the API server up" in said


def test_untrusted_server(shell: Shell) -> None:
    """A server whose certificate is of another authority is not believed."""
    content = yaml.safe_load(Path(shell.kubeconfig).read_text(encoding="utf-8"))
    for name in ("certificate-authority-data", "certificate-authority"):
        content["clusters"][0]["cluster"].pop(name, None)
    path = shell.directory / "kubeconfig"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    said = shell.refusal(kubeconfig=str(path))
    assert "Failed to list the provisioningprofiles" in said
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_refused_requests(shell: Shell, crds: Any) -> None:
    """Unknown credentials, no rights, no CRDs and a malformed selector get the API server's words and a remedy."""
    assert "log in again" in shell.refusal(kubeconfig=changed(shell, {}, {"token": "wrong"}))
    assert "Let this user list provisioningprofiles" in shell.refusal(kubeconfig=changed(shell, {}, {}))
    elsewhere = changed(shell, {"server": f"{crds.server}/elsewhere"})
    assert "kubectl apply -f crds/" in shell.refusal(kubeconfig=elsewhere)
    assert "Correct the option label_selector" in shell.refusal(label_selector="rack in (")


def test_missing_package(shell: Shell) -> None:
    """Without the Python package kubernetes, the line that installs it is shown."""
    (shell.directory / "kubernetes.py").write_text("raise ImportError('gone')\n", encoding="utf-8")
    done = shell.run("ansible-inventory", "-i", shell.source(), "--list", PYTHONPATH=str(shell.directory))
    assert "-m pip install kubernetes" in done.stderr
