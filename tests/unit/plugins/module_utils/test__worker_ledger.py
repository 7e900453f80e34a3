# SPDX-License-Identifier: Apache-2.0
"""The ledger: changes are made and noted, or only noted.

Each act is tried in check mode and without.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.plugins.worker_world import Machine, machine

from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger
from ansible_collections.stargate.core.plugins.module_utils._worker_memory import Memory


@pytest.fixture
def host() -> Iterator[Machine]:
    """Return a machine."""
    with machine() as made:
        yield made


def ledger(host: Machine, *, check: bool = False) -> Ledger:
    """Return a ledger for one run."""
    return Ledger(host, Memory(host, read_only=check), check_mode=check)


@pytest.mark.parametrize("check", [True, False])
def test_file(host: Machine, *, check: bool) -> None:
    """A file that differs is written, with a diff and a debt; in check mode only the diff is made."""
    host.have("/etc/x", "old\n")
    run = ledger(host, check=check)
    assert run.file("/etc/x", "new\n", owes=["kubelet"])
    assert run.changes == ["/etc/x"]
    assert run.result()["diff"] == [
        {"before_header": "/etc/x", "after_header": "/etc/x", "before": "old\n", "after": "new\n"}
    ]
    assert host.text("/etc/x") == ("old\n" if check else "new\n")
    assert Memory(host).owed == ([] if check else ["kubelet"])


def test_same_file(host: Machine) -> None:
    """A file that is right is left alone, but for its permissions."""
    host.have("/etc/x", "same\n").chmod(0o644)
    run = ledger(host)
    assert not run.file("/etc/x", "same\n")
    assert run.file("/etc/x", "same\n", 0o600)
    assert host.mode("/etc/x") == 0o600


def test_the_debt_comes_first(host: Machine) -> None:
    """What a change needs afterwards is remembered before the change, so that a crash between them loses nothing."""
    ledger(host).file("/etc/x", "new\n", owes=["kubelet"])
    assert host.written.index("/var/lib/stargate/worker.json") < host.written.index("/etc/x")


@pytest.mark.parametrize("check", [True, False])
def test_gone(host: Machine, *, check: bool) -> None:
    """A file that ought not to be there is removed."""
    host.have("/etc/x", "old\n")
    run = ledger(host, check=check)
    assert (run.gone("/etc/x"), run.gone("/etc/y")) == (True, False)
    assert (run.changes, host.path("/etc/x").exists()) == (["/etc/x removed"], check)


@pytest.mark.parametrize("check", [True, False])
def test_restart(host: Machine, *, check: bool) -> None:
    """A restart reads the units again if that is owed, and pays."""
    Memory(host).owe("reload")
    Memory(host).owe("kubelet")
    run = ledger(host, check=check)
    run.restart("kubelet")
    run.reload()
    assert run.result()["restarted"] == ["kubelet"]
    assert host.commands() == ([] if check else ["systemctl daemon-reload", "systemctl restart kubelet"])
    assert Memory(host).owed == (["reload", "kubelet"] if check else [])
