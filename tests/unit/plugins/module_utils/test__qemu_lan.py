# SPDX-License-Identifier: Apache-2.0
"""A site's own network: the switch runs as long as it is needed, and nothing of it stays.

That machines reach each other over it is tests/integration/test_qemu.py's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _qemu_lan
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places
from ansible_collections.stargate.core.plugins.module_utils._process import MARK, alive
from ansible_collections.stargate.core.plugins.module_utils._qemu_lan import Lan

needs_switch = pytest.mark.skipif(not _qemu_lan.available("vde_switch"), reason="vde_switch is not installed")


@pytest.fixture
def lan(tmp_path: Path) -> Lan:
    """Return the network of a site without machines."""
    return Lan(Places(tmp_path), Definition("r1", "dc", "r1", "qemu", "router"))


@needs_switch
def test_the_switch_comes_and_goes(lan: Lan) -> None:
    """One switch runs, marked as a machine's, until it is to rest; what others keep in the directory stays."""
    with lan.held():
        lan.ensure("vde")
        pid = alive(lan.directory / "lan.pid")
        lan.ensure("vde")
        assert alive(lan.directory / "lan.pid") == pid > 0
    assert f"{MARK}=dc/r1".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (lan.directory / "ssh_config").touch()
    lan.rest()
    assert not Path(f"/proc/{pid}/exe").exists()
    assert lan.kind(vde=False) == "vde"
    lan.remove()
    assert [path.name for path in lan.directory.iterdir()] == ["ssh_config"]


@needs_switch
def test_a_dead_switch_is_replaced(lan: Lan) -> None:
    """A switch that died, sockets and all, is no obstacle."""
    lan.ensure("vde")
    os.kill(alive(lan.directory / "lan.pid"), 9)
    while alive(lan.directory / "lan.pid"):
        pass
    lan.ensure("vde")
    assert alive(lan.directory / "lan.pid")
    with lan.held():
        lan.remove()
    assert not list(lan.directory.parent.iterdir())


def test_kinds(lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program, without QEMU's knowing it, or with too long a path, the router's process is the hub."""
    monkeypatch.setattr(_qemu_lan, "available", lambda name: f"/bin/{name}")
    assert (lan.kind(vde=True), lan.kind(vde=False)) == ("vde", "hub")
    far = Lan(Places(tmp_path / ("x" * 90)), lan.definition)
    assert far.kind(vde=True) == "hub"
    monkeypatch.setattr(_qemu_lan, "available", lambda name: "")
    assert lan.kind(vde=True) == "hub"
    lan.ensure("hub")
    monkeypatch.setattr(_qemu_lan, "available", lambda name: f"/bin/{name}")
    assert lan.kind(vde=True) == "hub"
    lan.remove()
    assert not lan.directory.exists()


def test_cables_of_an_earlier_router(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that an earlier process left are removed, and the new one's are waited for."""
    monkeypatch.setattr(_qemu_lan, "PATIENCE", 0.1)
    lan.ensure("hub")
    (lan.directory / "lan-0.sock").touch()
    lan.ensure("hub")
    assert not list(lan.directory.glob("lan-*.sock"))
    with pytest.raises(StargateError, match="dc/r1") as caught:
        lan.settle("hub")
    assert caught.value.code == "LanFailed"
    for number in range(_qemu_lan.SLOTS):
        (lan.directory / f"lan-{number}.sock").touch()
    lan.settle("hub")
    lan.settle("vde")
    lan.remove()


def test_a_switch_that_does_not_come_up(lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the switch said is in the error."""
    program = tmp_path / "vde_switch"
    program.write_text("#!/bin/sh\necho cannot bind >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(_qemu_lan, "found", lambda name, doing: str(program))
    monkeypatch.setattr(_qemu_lan, "PATIENCE", 0.2)
    with pytest.raises(StargateError, match="dc/r1") as caught:
        lan.ensure("vde")
    assert (caught.value.code, caught.value.details) == ("LanFailed", "cannot bind")
