# SPDX-License-Identifier: Apache-2.0
"""The acts of qemu_vm, each in check mode first, with real QEMU processes that have nothing to boot.

What options, plans and results all providers share is test__machine_module.py's; a real boot is
tests/integration/test_qemu.py's.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.plugins.modules.qemu_world import World

from ansible_collections.stargate.core.plugins.doc_fragments.machine import ModuleDocFragment
from ansible_collections.stargate.core.plugins.module_utils import _qemu_host
from ansible_collections.stargate.core.plugins.module_utils._machine_module import machine_spec
from ansible_collections.stargate.core.plugins.module_utils._process import MARK
from ansible_collections.stargate.core.plugins.module_utils._qemu_ability import Ability
from ansible_collections.stargate.core.plugins.modules import qemu_vm


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a place for machines, which are all gone after the test."""
    monkeypatch.setattr(_qemu_host, "ability", lambda _: Ability("tcg", "tests are the same everywhere", vde=True))
    monkeypatch.setattr(_qemu_host, "POWERDOWN", 0.1)
    place = World(tmp_path)
    yield place
    place.clear()


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_made_and_left_alone(world: World) -> None:
    """Check mode makes nothing, the first task makes a machine that runs, the second changes nothing."""
    foretold = world.router(check=True)
    assert (foretold["changed"], foretold["machine"]["pid"]) == (True, 0)
    assert not world.places.machines_dir.exists()
    made = world.router()
    machine = made["machine"]
    assert (made["changed"], machine["state"], machine["address"]) == (True, "running", "192.168.100.2")
    assert (runs(machine["pid"]), machine["accel"]) == (True, "tcg")
    assert machine["host_keys"][0].startswith("ssh-ed25519 ")
    assert f"{MARK}=dc/r1".encode() in Path(f"/proc/{machine['pid']}/environ").read_bytes().split(b"\0")
    assert {path.name for path in world.directory("r1").iterdir()} >= {"disk.qcow2", "seed.iso", "pid", "hostkey"}
    again = world.router()
    assert (again["changed"], again["machine"]) == (False, machine)
    assert world.task("r1", check=True, image=None)["changed"] is False


def test_stopped_and_started(world: World) -> None:
    """A machine keeps its disk and its address; its switch rests meanwhile."""
    first = world.router()["machine"]
    assert world.router(check=True, state="stopped")["changed"] is True
    assert runs(first["pid"])
    stopped = world.router(state="stopped")
    assert (stopped["changed"], stopped["machine"]["pid"], runs(first["pid"])) == (True, 0, False)
    assert not (world.places.site("dc", "r1") / "lan").exists()
    assert world.router(state="stopped")["changed"] is False
    started = world.router()
    assert started["changed"] is True
    assert {**started["machine"], "pid": 0} == {**first, "pid": 0}


def test_recreated(world: World) -> None:
    """A recreated machine has a fresh disk, the new options, its old addresses and host key; once per instance id."""
    first = world.router()["machine"]
    disk = (world.directory("r1") / "disk.qcow2").stat().st_ino
    told = world.router(memory=96)
    assert (told["changed"], told["drift"]) == (False, ["memory is 64, not 96"])
    assert world.router(check=True, memory=96, state="recreated", instance_id="op-1")["changed"] is True
    new = world.router(memory=96, state="recreated", instance_id="op-1")
    kept = ("address", "mac", "port", "host_keys")
    assert [new["machine"][name] for name in kept] == [first[name] for name in kept]
    assert (new["machine"]["instance_id"], runs(first["pid"]), new["drift"]) == ("op-1", False, [])
    assert (world.directory("r1") / "disk.qcow2").stat().st_ino != disk
    assert b"\0".join([b"-m", b"96M"]) in Path(f"/proc/{new['machine']['pid']}/cmdline").read_bytes()
    assert (world.directory("r1") / "console.log.1").exists()
    again = world.router(memory=96, state="recreated", instance_id="op-1")
    assert (again["changed"], again["machine"]["pid"]) == (False, new["machine"]["pid"])


def test_absent(world: World) -> None:
    """The last machine of a site takes everything with it, the network too."""
    pids = [world.router()["machine"]["pid"], world.worker()["machine"]["pid"]]
    assert world.worker(check=True, state="absent")["changed"] is True
    for name in ("r1", "w1"):
        gone = world.task(name, state="absent", image=None)
        assert (gone["changed"], gone["machine"]["state"]) == (True, "absent")
        assert world.task(name, state="absent")["changed"] is False
    assert not any(runs(pid) for pid in pids)
    left = {path.name for path in world.places.machines_dir.rglob("*")}
    assert left <= {".lock", "leases.json", "qemu-ability.json", ".qemu-ability.lock"}


def test_a_machine_that_nobody_wrote_down(world: World) -> None:
    """A process whose pid file was lost is found by its socket, and stopped as any other."""
    pid = world.router()["machine"]["pid"]
    (world.directory("r1") / "pid").unlink()
    again = world.router()
    assert (again["changed"], again["machine"]["pid"]) == (False, pid)
    world.router(state="absent")
    assert not runs(pid)


def test_a_machine_that_died(world: World) -> None:
    """A machine whose process is no more is started again, on its old disk."""
    first = world.router()["machine"]
    os.kill(first["pid"], signal.SIGKILL)
    while runs(first["pid"]):
        time.sleep(0.01)
    again = world.router()
    assert (again["changed"], again["machine"]["instance_id"]) == (True, first["instance_id"])
    assert again["machine"]["pid"] not in (0, first["pid"])


def test_two_at_once(world: World) -> None:
    """Of two tasks for one machine at the same time, one makes it."""
    provider = [_provider(world), _provider(world)]
    pids: list[int] = []

    def act(number: int) -> None:
        with world.places.lock("dc", "r1"):
            machine = _definition(world)
            if not provider[number].pid(machine):
                provider[number].start(machine)
            pids.append(provider[number].pid(machine))

    world.router(state="stopped")
    threads = [threading.Thread(target=act, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(pids)) == 1
    assert len(pids) == 2


def _provider(world: World) -> _qemu_host.Qemu:
    stock = qemu_vm.Stock(world.places, qemu_vm.Options(), print)
    return _qemu_host.Qemu(world.places, stock, print)


def _definition(world: World) -> Any:
    return world.places.machines("dc")[0]


def test_the_options_are_documented() -> None:
    """Options, choices and defaults of the documentation are those of the code."""
    own = yaml.safe_load(qemu_vm.DOCUMENTATION)["options"]
    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    documented = {**shared, **own}
    spec = {**machine_spec(_qemu_host.Qemu.kinds)["argument_spec"], **qemu_vm.OWN}
    assert set(documented) == set(spec)
    for name, option in spec.items():
        for key in ("type", "choices", "default", "required"):
            assert documented[name].get(key) == option.get(key), (name, key)
