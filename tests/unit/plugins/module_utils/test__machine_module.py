# SPDX-License-Identifier: Apache-2.0
"""What all machine modules do: which steps lead to which state, in what order, and what the result says.

The provider is a small class that remembers what it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _machine_module
from ansible_collections.stargate.core.plugins.module_utils._errors import Timeout
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, load, write
from ansible_collections.stargate.core.plugins.module_utils._machine_module import (
    Found,
    Task,
    drift,
    finish,
    machine_spec,
    steps,
)

KEY = "ssh-ed25519 AAAA ann@home"
NEW = {"name": "gw", "role": "router", "image": "/image", "public_key": KEY}
WORKER = {"name": "w1", "site": "gw", "role": "worker", "image": "/image", "public_key": KEY}
KNOWN = Definition("gw", "default", "gw", "fake", "router")


@dataclass
class FakeProvider:
    """Machines that exist in this object only."""

    kinds: tuple[str, ...] = ("fake", "simulator")
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"cpus": 1})
    acts: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    broken: str = ""  # the act that fails

    def examine(self, definition: Definition) -> None:
        """Remember."""
        self.act("examine", definition)

    def pid(self, definition: Definition) -> int:
        """Return a number for what runs."""
        return 42 if definition.name in self.running else 0

    def renew(self, definition: Definition, instance_id: str) -> None:
        """Remember."""
        self.act(f"renew {instance_id}", definition)

    def start(self, definition: Definition) -> None:
        """Let it run."""
        self.act("start", definition)
        self.running.add(definition.name)

    def stop(self, definition: Definition) -> None:
        """Let it run no more."""
        self.act("stop", definition)
        self.running.discard(definition.name)

    def remove(self, definition: Definition) -> None:
        """Remember."""
        self.act("remove", definition)

    def await_ssh(self, definition: Definition, seconds: float) -> None:
        """Remember."""
        self.act(f"await {seconds:.0f}", definition)

    def facts(self, definition: Definition) -> dict[str, Any]:
        """Return what is told."""
        return {"console": f"/{definition.name}.log", "accel": "none"}

    def act(self, act: str, definition: Definition) -> None:
        """Remember an act, or fail."""
        self.acts.append(act)
        if self.broken and act.startswith(self.broken):
            raise Timeout(f"Failed to {act} {definition.key}: broken.", code="BootTimeout")


@dataclass
class World:
    """A directory of machines and their provider."""

    places: Places
    provider: FakeProvider = field(default_factory=FakeProvider)

    def run(self, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Return the result of a task; `acts` has what was done for it."""
        spec = machine_spec(self.provider.kinds)["argument_spec"]
        params = {name: options.get(name, given.get("default")) for name, given in spec.items()}
        self.provider.acts.clear()
        return Task(params, self.provider, self.places).perform(check_mode=check_mode)

    @property
    def acts(self) -> list[str]:
        """Return what the last task did."""
        return self.provider.acts


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world without machines."""
    return World(Places(tmp_path / "machines"))


READY = Found(KNOWN, "i-1", 0, traces=True)
RUNNING = Found(KNOWN, "i-1", 42, traces=True)
HALF = Found(KNOWN, "", 0, traces=True)  # defined, no disk yet
NONE = Found(None)


@pytest.mark.parametrize(
    ("state", "found", "instance_id", "expected"),
    [
        ("running", NONE, "", "define renew start"),
        ("running", HALF, "", "renew start"),
        ("running", READY, "", "start"),
        ("running", RUNNING, "", ""),
        ("running", Found(KNOWN, "", 42, traces=True), "", "stop renew start"),
        ("stopped", NONE, "", "define renew"),
        ("stopped", READY, "", ""),
        ("stopped", RUNNING, "", "stop"),
        ("absent", NONE, "", ""),
        ("absent", Found(None, traces=True), "", "remove"),
        ("absent", READY, "", "remove"),
        ("absent", RUNNING, "", "stop remove"),
        ("recreated", NONE, "", "define renew start"),
        ("recreated", HALF, "", "define renew start"),
        ("recreated", READY, "", "define renew start"),
        ("recreated", RUNNING, "", "stop define renew start"),
        ("recreated", RUNNING, "i-2", "stop define renew start"),
        ("recreated", RUNNING, "i-1", ""),
        ("recreated", READY, "i-1", "start"),
        ("recreated", HALF, "i-1", "define renew start"),
    ],
)
def test_steps(state: str, found: Found, instance_id: str, expected: str) -> None:
    """Each state is reached from each other by as few steps as it takes."""
    assert steps(state, found, instance_id) == expected.split()


def test_a_new_machine(world: World) -> None:
    """It is examined, made, started and awaited, with what the provider and the house give it."""
    world.run(**NEW, wait=9.0, instance_id="i-1")
    assert world.acts == ["examine", "renew i-1", "start", "await 9"]
    definition = load(world.places, "default", "gw")
    assert definition is not None
    assert (definition.provider, definition.site, definition.cpus, definition.memory) == ("fake", "gw", 1, 2048)
    assert (definition.dns, definition.public_key) == (["10.0.2.3"], KEY)


def test_the_result(world: World) -> None:
    """It says who and where the machine is, how it is reached, and what changed."""
    result = world.run(**NEW, instance_id="i-1")
    definition = load(world.places, "default", "gw")
    assert definition is not None
    names = ("name", "namespace", "site", "role", "provider", "address", "mac", "port", "pod_cidr")
    assert result["machine"] == {
        **{name: getattr(definition, name) for name in names},
        "state": "running",
        "host_keys": [],
        "pid": 42,
        "directory": str(world.places.directory("default", "gw")),
        "instance_id": "i-1",
        "console": "/gw.log",
        "accel": "none",
    }
    assert (result["changed"], result["drift"]) == (True, [])
    assert result["diff"]["before"] == {"state": "absent"}
    assert result["diff"]["after"]["address"] == definition.address == "192.168.100.2"


def test_a_second_run_changes_nothing(world: World) -> None:
    """What runs is left alone, and needs no other options than its name."""
    first = world.run(**NEW)
    assert first["machine"]["instance_id"].startswith("gw-")
    write(world.places.directory("default", "gw") / "hostkey.pub", "ssh-ed25519 BBBB comment\n")
    second = world.run(name="gw", wait=1.0)
    assert (second["changed"], world.acts) == (False, ["await 1"])
    assert second["machine"] == {**first["machine"], "host_keys": ["ssh-ed25519 BBBB"]}
    assert second["diff"]["before"] == second["diff"]["after"]


def test_check_mode_foretells(world: World) -> None:
    """Nothing is made, the leases that would be are told, and what stands in the way is raised."""
    result = world.run(**NEW, check_mode=True, wait=9.0)
    assert (result["changed"], result["machine"]["address"], world.acts) == (True, "192.168.100.2", ["examine"])
    assert not world.places.machines_dir.exists()
    world.run(**NEW)
    for state in ("stopped", "recreated", "absent"):
        assert world.run(name="gw", state=state, check_mode=True)["changed"] is True
    assert world.run(name="gw", check_mode=True)["changed"] is False
    assert load(world.places, "default", "gw") is not None
    assert world.provider.running == {"gw"}


def test_stop_and_start(world: World) -> None:
    """A machine that was stopped starts with the disk that it has."""
    world.run(**NEW)
    stopped = world.run(name="gw", state="stopped", wait=5.0)
    assert (world.acts, stopped["machine"]["state"], stopped["machine"]["pid"]) == (["stop"], "stopped", 0)
    world.run(name="gw")
    assert world.acts == ["examine", "start"]


def test_recreation_keeps_the_place(world: World) -> None:
    """Addresses stay, the instance id is new; the same one again changes nothing."""
    before = world.run(**NEW)["machine"]
    after = world.run(name="gw", state="recreated", instance_id="op-1")["machine"]
    assert world.acts == ["examine", "stop", "renew op-1", "start"]
    assert after == {**before, "instance_id": "op-1"}
    assert world.run(name="gw", state="recreated", instance_id="op-1")["changed"] is False
    again = world.run(name="gw", state="recreated")
    assert (again["changed"], again["machine"]["instance_id"] == "op-1") == (True, False)


def test_recreation_that_was_cut_short(world: World) -> None:
    """An instance id counts only when the disk was finished; after that only the start is left to do."""
    world.run(**NEW)
    world.provider.broken = "renew"
    failed = world.run(name="gw", state="recreated", instance_id="op-1")
    assert (failed["failed"], failed["changed"], failed["failure"]["code"]) == (True, True, "BootTimeout")
    world.provider.broken = "start"
    world.run(name="gw", state="recreated", instance_id="op-1")
    assert world.acts == ["examine", "renew op-1", "start"]
    world.provider.broken = ""
    assert world.run(name="gw", state="recreated", instance_id="op-1")["changed"] is True
    assert world.acts == ["examine", "start"]


def test_drift_is_told_and_applied_by_recreation(world: World) -> None:
    """Options that differ are not applied to a machine that runs; secrets and keys are not shown."""
    world.run(**NEW)
    options = {"name": "gw", "memory": 4096, "user_data": "#!/bin/sh canary", "public_key": "ssh-ed25519 CCCC\n"}
    result = world.run(**options)
    assert result["changed"] is False
    assert result["drift"] == ["memory is 2048, not 4096", "public_key differs", "user_data differs"]
    assert "canary" not in json.dumps(result)
    recreated = world.run(**options, state="recreated")
    assert (recreated["drift"], "canary" in json.dumps(recreated)) == ([], False)
    definition = load(world.places, "default", "gw")
    assert definition is not None
    assert (definition.memory, definition.public_key) == (4096, "ssh-ed25519 CCCC")
    assert drift(definition, {}) == []


def test_a_machine_cannot_move(world: World) -> None:
    """What holds for life is told as drift, and refused by recreation before anything is stopped."""
    world.run(**NEW)
    assert world.run(name="gw", cidr="10.9.0.0/24")["drift"] == ["cidr is 192.168.100.0/24, not 10.9.0.0/24"]
    refused = world.run(name="gw", cidr="10.9.0.0/24", state="recreated")
    assert (refused["failure"]["code"], refused["changed"], world.acts) == ("CannotMove", False, [])


def test_absence(world: World) -> None:
    """Everything goes and the leases are free again; once more changes nothing."""
    world.run(**NEW)
    result = world.run(name="gw", state="absent")
    assert (result["changed"], world.acts) == (True, ["stop", "remove"])
    assert result["machine"] == {"name": "gw", "namespace": "default", "provider": "fake", "state": "absent"}
    assert (world.places.peek(), world.places.machines()) == ({}, [])
    assert not (world.places.machines_dir / "default").exists()
    assert (world.run(name="gw", state="absent")["changed"], world.acts) == (False, [])


def test_remains_are_taken_away(world: World) -> None:
    """A machine of which only a broken definition is left can be made absent, though not run."""
    write(world.places.directory("default", "gw") / "machine.json", "{")
    assert world.run(name="gw")["failure"]["code"] == "DefinitionBroken"
    assert (world.run(name="gw", state="absent")["changed"], world.acts) == (True, ["remove"])
    assert not world.places.directory("default", "gw").exists()


def test_another_providers_machine(world: World) -> None:
    """A machine is left alone by modules of other providers, whatever the state that is asked for."""
    world.run(**NEW)
    world.provider.kinds = ("other",)
    for state in ("running", "absent"):
        assert world.run(name="gw", state=state)["failure"]["code"] == "ProviderDiffers"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**NEW, "role": None}, "role is not set"),
        ({**WORKER, "site": None}, "site is not set"),
        ({**NEW, "image": None}, "image is not set"),
        ({**NEW, "public_key": None}, "public_key is not set"),
        ({**NEW, "public_key": f"{KEY}\n{KEY}"}, "public_key is not one line"),
        ({**NEW, "site": "other"}, "router gw is to be of site other"),
        ({**WORKER, "site": "w1"}, "worker w1 is to be of site w1"),
        ({**WORKER, "site": "../x"}, "not made of 1 to 63"),
        ({**NEW, "name": "Gw"}, "not made of 1 to 63"),
        ({**NEW, "cidr": "x"}, "does not appear to be"),
    ],
)
def test_options_that_cannot_be(world: World, options: dict[str, Any], said: str) -> None:
    """A new machine that lacks something, or contradicts itself, is refused before anything is made."""
    result = world.run(**options)
    assert (result["failed"], result["changed"], result["failure"]["retryable"]) == (True, False, False)
    assert said in result["msg"]
    assert load(world.places, "default", "gw") is None


def test_a_worker(world: World) -> None:
    """A worker gets the base for its pods, and its router as gateway whether or not there is one yet."""
    assert world.run(**WORKER, pod_cidr="10.8.0.0/16")["machine"]["pod_cidr"] == "10.8.1.0/24"
    definition = load(world.places, "default", "w1")
    assert definition is not None
    assert definition.gateway == "192.168.100.2"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["nameserver 127.0.0.53\n", "# no\nnameserver\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n"],
            ["192.0.2.1", "fe80::1%eth0"],
        ),
        (["nameserver 192.0.2.9\n", "nameserver 192.0.2.1\n"], ["192.0.2.9"]),
        ([], []),
    ],
)
def test_resolvers_on_a_bridge(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], expected: list[str]
) -> None:
    """Machines on a bridge ask whom the host asks, except for what only the host can reach."""
    paths = tuple(tmp_path / str(number) for number in range(2))
    for path, text in zip(paths, files, strict=False):
        path.write_text(text)
    monkeypatch.setattr(_machine_module, "RESOLVERS", paths)
    world.run(**NEW, network="bridge")
    definition = load(world.places, "default", "gw")
    assert definition is not None
    assert (definition.dns, definition.gateway) == (expected, "192.168.100.1")
    assert world.run(**WORKER, dns=["9.9.9.9"])["changed"]


@dataclass
class FakeModule:
    """What finish needs of an AnsibleModule."""

    params: dict[str, Any]
    _diff: bool
    check_mode: bool = False
    said: list[Any] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Remember a warning."""
        self.said.append(sentence)

    def exit_json(self, **result: Any) -> None:
        """Remember a result."""
        self.said.append(result)

    def fail_json(self, **result: Any) -> None:
        """Remember a failure, and end as Ansible does."""
        self.said.append(result)
        raise SystemExit


@pytest.mark.parametrize("diff", [True, False])
def test_the_end_of_a_module(world: World, diff: bool) -> None:
    """Drift is warned of; a diff is in the result when it was asked for; a failure fails the task."""
    world.run(**NEW)
    spec = machine_spec(world.provider.kinds)["argument_spec"]
    params = {**{name: given.get("default") for name, given in spec.items()}, "name": "gw", "cpus": 9}
    module = FakeModule(params, diff)
    finish(module, world.provider, world.places)
    warning, result = module.said
    assert warning == "Machine default/gw: cpus is 1, not 9. Recreate it to apply."
    assert ("diff" in result, result["changed"]) == (diff, False)
    failing = FakeModule({**params, "name": "new"}, diff)
    with pytest.raises(SystemExit):
        finish(failing, world.provider, world.places)
    assert failing.said[0]["failure"]["code"] == "Invalid"
