# SPDX-License-Identifier: Apache-2.0
"""What is remembered between runs, and when it is not believed.

Programs are texts that say of themselves what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils._version import Version
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import MEMORY_FILE, Memory

KUBELET = "/usr/bin/kubelet"


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


def test_a_program_is_asked_once(host: Machine) -> None:
    """A program is asked for its version when its file is new, and not again by later runs."""
    assert Memory(host).version(KUBELET) is None
    host.have(KUBELET, "Kubernetes v1.20.2\n")
    assert [Memory(host).version(KUBELET) for _ in range(3)] == [Version(1, 20, 2)] * 3
    assert host.ran == [[KUBELET, "--version"]]
    host.have(KUBELET, "Kubernetes v1.20.13\n")
    assert Memory(host).version(KUBELET) == Version(1, 20, 13)
    host.have("/usr/bin/kubeadm", "v1.20.2\n")
    Memory(host).version("/usr/bin/kubeadm")
    assert host.ran[1:] == [[KUBELET, "--version"], ["/usr/bin/kubeadm", "version", "-o", "short"]]


def test_a_program_without_words(host: Machine) -> None:
    """A file that states no version has none."""
    host.have(KUBELET, "Segmentation fault\n")
    assert [Memory(host).version(KUBELET) for _ in range(2)] == [None, None]


def test_a_checksum_is_of_one_file(host: Machine) -> None:
    """The checksum of an installed program holds until its file is another."""
    host.have(KUBELET, "Kubernetes v1.20.2\n")
    memory = Memory(host)
    assert memory.digest(KUBELET) == ""
    memory.installed(KUBELET, Version(1, 20, 2), "abc")
    assert Memory(host).digest(KUBELET) == "abc"
    host.have(KUBELET, "Kubernetes v1.20.2 \n")
    assert Memory(host).digest(KUBELET) == ""


def test_debts(host: Machine) -> None:
    """What is owed is remembered once, until it is paid."""
    for name in ("kubelet", "reload", "kubelet"):
        Memory(host).owe(name)
    assert Memory(host).owed == ["kubelet", "reload"]
    Memory(host).paid("kubelet")
    Memory(host).paid("upgrade")
    assert Memory(host).owed == ["reload"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_broken_file_is_empty(host: Machine, content: str) -> None:
    """What cannot be read counts as nothing remembered."""
    host.have(MEMORY_FILE, content)
    memory = Memory(host)
    assert (memory.owed, memory.version(KUBELET)) == ([], None)
    memory.owe("kubelet")
    assert Memory(host).owed == ["kubelet"]


def test_read_only(host: Machine) -> None:
    """In check mode nothing is written, though the run itself remembers."""
    host.have(KUBELET, "Kubernetes v1.20.2\n")
    memory = Memory(host, read_only=True)
    memory.owe("kubelet")
    assert (memory.version(KUBELET), memory.owed) == (Version(1, 20, 2), ["kubelet"])
    assert host.written == []
