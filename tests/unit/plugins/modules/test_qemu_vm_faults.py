# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with QEMU machines, each with its code, and the less usual networks.

The usual acts are test_qemu_vm.py's.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plugins.module_utils.image_server import ImageServer
from tests.unit.plugins.modules.qemu_world import World

from ansible_collections.stargate.core.plugins.module_utils import _qemu_host, _qemu_stock
from ansible_collections.stargate.core.plugins.module_utils._errors import Unreachable
from ansible_collections.stargate.core.plugins.module_utils._qemu_ability import Ability

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a place for machines on a host without vde_switch; they are all gone after the test."""
    monkeypatch.setattr(_qemu_host, "ability", lambda _: Ability("tcg", "tests are the same everywhere", vde=False))
    monkeypatch.setattr(_qemu_host, "POWERDOWN", 0.1)
    place = World(tmp_path)
    yield place
    place.clear()


def refused(result: dict[str, Any], code: str, *words: str) -> bool:
    """Whether a task failed with a code and a sentence that has some words."""
    return result.get("failure", {}).get("code") == code and all(word in result["msg"] for word in words)


def test_a_port_that_is_taken(world: World) -> None:
    """Another program on the router's port is not fought with, in check mode neither."""
    machine = world.router(state="stopped")["machine"]
    with socket.create_server(("127.0.0.1", machine["port"])):
        for check in (True, False):
            assert refused(world.router(check=check), "PortTaken", "dc/r1", str(machine["port"]))
    assert world.router()["changed"] is True


def test_images_that_do_not_fit(world: World, tmp_path: Path) -> None:
    """An image that is missing, too large or no image is refused before anything is made."""
    (tmp_path / "image.xz").write_bytes(b"\xfd7zXZ\0")
    world.image.unlink()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(world.image), "2G"], check=True)
    for check in (True, False):
        assert refused(world.router(check=check), "DiskTooSmall", "Set disk to 2")
        assert refused(world.router(check=check, image=str(tmp_path / "none")), "ImageUnavailable", "none")
        assert refused(world.router(check=check, image=str(tmp_path / "image.xz")), "ImageUnfit", "compressed")
        assert refused(world.router(check=check, disk=2, image_checksum="sha256:0"), "ChecksumInvalid")
    assert not world.directory("r1").exists()


def test_an_image_that_changed(world: World) -> None:
    """A disk whose image is no longer what it was is not started, but can be recreated."""
    world.router(state="stopped")
    os.utime(world.image, ns=(1, 1))
    assert refused(world.router(), "ImageChanged", "Recreate")
    assert world.router(state="recreated")["changed"] is True
    world.router(state="stopped")
    (world.directory("r1") / "base").unlink()
    assert refused(world.router(), "ImageUnavailable", "gone")


def test_an_image_that_is_replaced(world: World) -> None:
    """A machine keeps the files that it is made from, also when they are removed or replaced elsewhere."""
    kernel = world.image.with_name("kernel")
    kernel.write_bytes(b"kernel")
    world.router(state="stopped", kernel=str(kernel))
    kernel.unlink()
    world.image.unlink()
    assert (world.directory("r1") / "kernel").read_bytes() == b"kernel"
    assert "QemuFailed" in world.router()["failure"]["code"]  # and not that it is gone: this kernel is none


def test_an_image_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another file system the image is used where it is."""

    def fail(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("pathlib.Path.hardlink_to", fail)
    world.router()
    assert (world.directory("r1") / "base").readlink() == world.image


def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a disk could not grow, none is made."""
    monkeypatch.setattr(_qemu_stock, "RESERVE", 1 << 60)
    assert refused(world.router(), "DiskFull", "dc/r1")


def test_qemu_refuses(world: World) -> None:
    """What QEMU says when it ends at once is in the error, and the machine can still be removed."""
    result = world.router(cpus=100000)
    assert refused(result, "QemuFailed", "dc/r1")
    assert "SMP" in result["failure"]["details"] or "smp" in result["failure"]["details"]
    assert world.router(state="absent")["changed"] is True


def test_qemu_is_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that takes no commands is ended; one that cannot be asked to stop is ended too."""
    monkeypatch.setattr(_qemu_host, "_answers", lambda _: False)
    monkeypatch.setattr(_qemu_host, "_START", 0.3)
    assert refused(world.router(), "Deadline", "dc/r1", "silent")
    assert world.router(check=True)["machine"]["pid"] == 0
    monkeypatch.undo()
    monkeypatch.setattr(_qemu_host, "POWERDOWN", 30.0)
    pid = world.router()["machine"]["pid"]
    monkeypatch.setattr(_qemu_host, "execute", _unreachable)
    assert (world.router(state="stopped")["changed"], Path(f"/proc/{pid}/exe").exists()) == (True, False)


def _unreachable(*_: object) -> None:
    raise Unreachable("Failed to reach QEMU.")


def test_an_image_from_the_network(world: World) -> None:
    """An image that nobody vouches for is used with a warning, kept in the cache, and remembered there."""
    server = ImageServer()
    server.publish("/base.qcow2", world.image.read_bytes(), sums=False)
    cache = world.image.with_name("cache")
    given = {"image": f"{server.url}/base.qcow2", "image_cache": str(cache)}
    assert world.router(check=True, **given)["changed"] is True
    assert server.seen == []
    made = world.router(**given)
    assert "Nobody vouches" in json.dumps(made["warnings"])
    assert world.router(state="recreated", image=None)["changed"] is True
    assert server.requests("/base.qcow2") == [200, 304]
    server.close()


def test_consoles(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console's log goes on when a machine is started again, unless it has become long; few older ones stay."""
    world.router(state="stopped")
    monkeypatch.setattr(_qemu_stock, "LONGEST_CONSOLE", 10)
    console = world.directory("r1") / "console.log"
    for size in (5, 50):
        console.write_bytes(b"x" * size)
        world.router()
        world.router(state="stopped")
        assert console.read_bytes().startswith(b"x" * size) == (size == 5)
    for _ in range(_qemu_stock.KEPT_CONSOLES + 2):
        world.router(state="recreated")
    assert len(list(world.directory("r1").glob("console.log*"))) == _qemu_stock.KEPT_CONSOLES + 1


def test_a_boot_that_takes_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When SSH does not answer in time, the console's last lines are in the error."""
    monkeypatch.setattr(_qemu_host, "ssh_banner", lambda *_, **__: "")
    world.router()
    (world.directory("r1") / "console.log").write_bytes(b"\x1b[0;32mOK\x1b[0m first\r\nKernel panic\r\n\r\n")
    result = world.router(wait=0.5)
    assert refused(result, "BootTimeout", "OK first | Kernel panic")
    assert result["failure"]["retryable"] is True


def test_a_machine_that_dies_while_it_boots(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends is noticed at once, not at the end of the patience."""

    def kill(*_: object, **__: object) -> str:
        os.kill(int(world.router(check=True)["machine"]["pid"]), signal.SIGKILL)
        return ""

    world.router()
    monkeypatch.setattr(_qemu_host, "ssh_banner", kill)
    assert refused(world.router(wait=60), "MachineDied", "dc/r1")


def test_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router is asked at its port of the loopback; a worker behind it cannot be asked and is not waited for."""
    asked: list[tuple[str, int, str]] = []

    def banner(address: str, port: int, *, netns: str) -> str:
        asked.append((address, port, netns))
        return "SSH-2.0-x"

    monkeypatch.setattr(_qemu_host, "ssh_banner", banner)
    port = world.router(wait=5)["machine"]["port"]
    world.worker(wait=5)
    assert asked == [("127.0.0.1", port, "")]


def test_a_router_that_is_the_hub(world: World) -> None:
    """Without vde_switch a worker needs the router's process, and learns when that was another one."""
    world.router(state="stopped")
    assert refused(world.worker(), "RouterMissing", "dc/w1", "r1")
    world.router()
    assert world.worker()["machine"]["state"] == "running"
    world.router(state="stopped")
    assert "dc/w1 has lost its network" in json.dumps(world.router()["warnings"])


@contextlib.contextmanager
def holder_of(disk: str) -> Iterator[None]:
    """Have a QEMU of somebody else's that uses a disk; it answers once it has locked it."""
    command = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-m", "16", "-qmp", "stdio"]
    command += ["-drive", f"file={disk},format=qcow2,if=virtio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(b'{"execute": "qmp_capabilities"}\n')
            other.stdin.flush()
            assert any(b'"return"' in line for line in other.stdout)
            yield
        finally:
            other.kill()


def test_a_machine_of_libvirt(world: World) -> None:
    """What libvirt runs is neither started nor recreated here, and removed only when it does not run."""
    disk = world.router(state="stopped")["machine"]["directory"] + "/disk.qcow2"
    (world.directory("r1") / "libvirt").touch()
    for state in ("running", "recreated"):
        assert refused(world.router(state=state), "LibvirtOwns", "dc/r1")
    assert world.router(state="stopped")["changed"] is False
    with holder_of(disk):
        assert refused(world.router(state="absent"), "LibvirtOwns", "dc/r1")
    assert world.router(state="absent")["changed"] is True


def test_bridge_without_root(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge is root's business."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert refused(world.router(network="bridge"), "RootNeeded", "become")


@needs_root
def test_a_bridge_in_a_namespace(world: World) -> None:
    """Machines on a bridge run in its namespace and leave nothing of it, however broken their definition is."""
    netns = f"stargate-{secrets.token_hex(4)}"
    network = {"network": "bridge", "netns": netns, "bridge": "sgbr1", "cidr": "198.18.45.0/24"}
    assert world.router(check=True, **network)["changed"] is True
    pid = world.router(**network)["machine"]["pid"]
    worker = world.worker(**network)["machine"]
    assert (worker["address"], worker["port"]) == ("198.18.45.11", 0)
    assert Path(f"/proc/{pid}/ns/net").samefile(f"/run/netns/{netns}")
    assert not Path("/proc/self/ns/net").samefile(f"/run/netns/{netns}")
    ports = subprocess.run(["ip", "-netns", netns, "link", "show", "master", "sgbr1"], capture_output=True, check=True)
    assert ports.stdout.count(b"LOWER_UP") == 2
    world.router(state="absent")
    assert Path("/run/netns", netns).exists()
    os.kill(worker["pid"], signal.SIGKILL)
    (world.directory("w1") / "machine.json").write_text("{")
    assert world.task("w1", state="absent", image=None)["changed"] is True
    assert not Path("/run/netns", netns).exists()
