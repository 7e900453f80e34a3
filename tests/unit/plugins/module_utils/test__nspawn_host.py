# SPDX-License-Identifier: Apache-2.0
"""An nspawn machine is made, started, found again, stopped: the order of things, and what stands in their way.

Root's programs are small ones of this test; that real machines boot is shown by tests/integration/test_nspawn.py.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _cgroup, _nspawn_host, _nspawn_net
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, save
from ansible_collections.stargate.core.plugins.module_utils._nspawn_host import Nspawn, image_root, tail
from ansible_collections.stargate.core.plugins.module_utils._process import alive, remember

# It says where it is, and goes on as a machine does until it is killed.
PROGRAMS = {
    "nsenter": 'shift; exec "$@"',
    "mount": 'echo "$*" >> "$LOG"',
    "systemd-nspawn": 'echo booting; echo "$*" >> "$LOG"; exec sleep 60',
    "unshare": "exit 1",
    "ip": "exit 1",
    "ssh-keygen": 'shift; for last; do :; done; echo key > "$last"; echo "ssh-ed25519 AAAA" > "$last.pub"',
    "slirp4netns": "exit 1",
}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return a directory of machines."""
    return Places(tmp_path / "machines")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the directory of an image."""
    path = tmp_path / "image"
    (path / "root/usr/lib").mkdir(parents=True)
    (path / "root/usr/lib/os-release").touch()
    return path


@pytest.fixture
def worker(places: Places, image: Path) -> Definition:
    """Return a worker that is defined."""
    definition = Definition(
        "w1", "ns", "gw", "nspawn", "worker", address="192.168.100.11", gateway="192.168.100.2", image=str(image)
    )
    save(places, definition)
    return definition


@pytest.fixture
def provider(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nspawn]:
    """Return the provider on a host whose programs, networks and control groups are this test's."""
    for name, script in PROGRAMS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nLOG="{tmp_path}/log"\n{script}\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(_cgroup, "mounted", list)
    monkeypatch.setattr(_nspawn_net, "SYSTEMD", tmp_path / "none")
    for name in ("up", "down", "connect"):
        monkeypatch.setattr(_nspawn_net, name, lambda *_, name=name: (tmp_path / "log").open("a").write(f"{name}\n"))
    monkeypatch.setattr(_nspawn_host, "_init", lambda pid: pid * ("--boot" in log(places)))
    monkeypatch.setattr(_nspawn_host, "HALT", 15)
    monkeypatch.setattr(_nspawn_host, "_mount_namespace", _no_namespace)
    provider = Nspawn(places)
    yield provider
    for definition in places.machines():
        provider.stop(definition)


_MOUNT_NAMESPACE = _nspawn_host._mount_namespace


@contextmanager
def _no_namespace(_: str) -> Iterator[str]:
    yield "/proc/self/ns/mnt"


def log(places: Places) -> str:
    """Return what the programs were asked."""
    path = places.machines_dir.with_name("log")
    return path.read_text() if path.exists() else ""


def test_a_life(provider: Nspawn, places: Places, worker: Definition) -> None:
    """A machine gets a disk and its network, boots, is found again, and stops."""
    parts = provider.parts(worker)
    provider.examine(worker)
    provider.renew(worker, "i-1")
    assert provider.pid(worker) == 0
    provider.start(worker)
    assert provider.pid(worker) == alive(parts.pid) > 0
    lines = log(places).splitlines()
    assert lines[0] == "up"
    assert "lowerdir=" in lines[1]
    assert "--keep-unit" in lines[2]
    assert provider.facts(worker) == {"console": str(parts.console), "accel": "none", "netns": parts.label}
    provider.stop(worker)
    assert provider.pid(worker) == 0
    assert parts.upper.exists()
    provider.remove(worker)
    assert log(places).splitlines()[-1] == "down"


def test_a_fresh_disk(provider: Nspawn, worker: Definition) -> None:
    """The seed is private, the rest as a system has it; what an earlier disk held is gone, but for the consoles."""
    parts = provider.parts(worker)
    for turn in range(5):
        provider.renew(worker, f"i-{turn}")
        parts.console.write_text(f"console {turn}")
        (parts.upper / "old").touch()
        (parts.directory / "kubelet/old").touch()
    provider.renew(worker, "i-9")
    assert not (parts.upper / "old").exists()
    assert list((parts.directory / "kubelet").iterdir()) == []
    seed = parts.upper / "var/lib/cloud/seed/nocloud-net"
    assert '"i-9"' in (seed / "meta-data").read_text()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (seed / "user-data", parts.upper / "etc/resolv.conf", seed)]
    assert modes == [0o600, 0o644, 0o755]
    consoles = {path.name: path.read_text() for path in parts.directory.glob("console.log*")}
    assert consoles == {"console.log": "", **{f"console.log.{n}": f"console {5 - n}" for n in (1, 2, 3)}}
    assert (parts.upper / "etc/systemd/system/systemd-networkd.service").readlink() == Path("/dev/null")


def test_a_disk_that_cannot_be_made(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is said, as one that may have room later."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_nspawn_host, "_place", full)
    with pytest.raises(StargateError, match="make the disk of machine ns/w1") as caught:
        provider.renew(worker, "i-1")
    assert (caught.value.code, caught.value.retryable) == ("DiskFull", True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"network": "bridge"}, "Invalid"),
        ({"image_checksum": "sha256:0"}, "Invalid"),
        ({"image": "/no"}, "ImageUnavailable"),
    ],
)
def test_what_cannot_be(provider: Nspawn, worker: Definition, change: dict[str, Any], code: str) -> None:
    """What nspawn machines do not have is refused, and so is an image that is none."""
    with pytest.raises(Invalid, match="ns/w1") as caught:
        provider.examine(replace(worker, **change))
    assert caught.value.code == code


def test_root_is_needed(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root is told before anything is touched."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for act in (provider.examine, provider.stop, provider.remove):
        with pytest.raises(Invalid, match="needs root") as caught:
            act(worker)
        assert caught.value.code == "RootNeeded"
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_a_missing_program(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that brings it is named."""
    missing = "systemd-nspawn"
    monkeypatch.setitem(_nspawn_host.__dict__, "found", _refuse(missing))
    with pytest.raises(Invalid) as caught:
        provider.examine(worker)
    assert caught.value.code == "ProgramMissing"


def _refuse(missing: str) -> Any:
    def found(name: str, *, doing: str) -> str:
        if name == missing:
            raise Invalid(f"Failed to {doing}", code="ProgramMissing")
        return name

    return found


def test_a_routers_port(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port on which somebody else listens is found out before anything is changed; one's own is no matter."""
    router = replace(worker, name="gw", role="router", port=20001)
    provider.places.directory("ns", "gw").mkdir(parents=True)
    monkeypatch.setattr(_nspawn_host, "is_port_free", lambda _: False)
    with pytest.raises(StargateError) as caught:
        provider.examine(router)
    assert caught.value.code == "PortTaken"
    remember(provider.parts(router).slirp, os.getpid())
    provider.examine(router)
    provider.parts(router).slirp.unlink()


def test_inotify_instances(
    provider: Nspawn, worker: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that could not boot for want of them is not started, and the host's limit is left alone."""
    (tmp_path / "limit").write_text(f"{_nspawn_host.INOTIFY_NEED - 1}\n")
    monkeypatch.setattr(_nspawn_host, "_INOTIFY", tmp_path / "limit")
    with pytest.raises(Invalid, match="max_user_instances") as caught:
        provider.examine(worker)
    assert caught.value.code == "InotifyExhausted"


def test_an_image_that_went_away(provider: Nspawn, places: Places, worker: Definition, image: Path) -> None:
    """A machine whose image is gone does not start on another; its own disk needs the one it was made for."""
    provider.renew(worker, "i-1")
    image.rename(image.with_name("moved"))
    provider.examine(worker)
    with pytest.raises(Invalid, match="Recreate it") as caught:
        provider.start(worker)
    assert (caught.value.code, log(places)) == ("ImageUnavailable", "")


@pytest.mark.parametrize("script", ["echo kernel too old; exit 1", "echo kernel too old; exec sleep 60"])
def test_a_machine_that_does_not_boot(
    provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    """What it said is told, and nothing is left running."""
    path = tmp_path / "bin/systemd-nspawn"
    path.write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setattr(_nspawn_host, "_init", lambda _: 0)
    monkeypatch.setattr(_nspawn_host, "BOOT_PATIENCE", 0.5)
    provider.renew(worker, "i-1")
    with pytest.raises(StargateError, match="did not boot it") as caught:
        provider.start(worker)
    assert (caught.value.code, caught.value.details) == ("StartFailed", "kernel too old")
    assert alive(provider.parts(worker).pid) == 0


def test_a_router_that_lost_its_connection(provider: Nspawn, places: Places, worker: Definition) -> None:
    """It does not count as running, and is connected again without a boot."""
    router = replace(worker, name="gw", role="router")
    save(places, router)
    parts = provider.parts(router)
    remember(parts.pid, os.getpid())
    assert provider.pid(router) == 0
    provider.start(router)
    assert log(places) == "connect\n"
    remember(parts.slirp, os.getpid())
    assert provider.pid(router) == os.getpid()
    for path in (parts.pid, parts.slirp):
        path.unlink()


def test_with_systemd_on_the_host(
    provider: Nspawn, places: Places, worker: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There systemd makes the machine's control groups, and ends what is left in them."""
    monkeypatch.setattr(_nspawn_net, "SYSTEMD", tmp_path)
    for name, script in {
        "systemd-run": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
        "systemctl": ":",
    }.items():
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/log"\n{script}\n')
        path.chmod(0o755)
    provider.renew(worker, "i-1")
    provider.start(worker)
    assert "--property=MemoryMax=2048M" in log(places)
    assert "--keep-unit" not in log(places)
    provider.stop(worker)
    assert f"systemctl kill --signal=KILL {provider.parts(worker).label}-run.scope" in log(places)


def test_waiting_for_ssh(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's server is asked inside of its site, a router's at its port, until it answers."""
    asked: list[tuple[Any, ...]] = []

    def banner(address: str, port: int, *, netns: str, timeout: float) -> str:
        asked.append((address, port, netns[:6], timeout))
        return "SSH-2.0" if len(asked) != 1 else ""

    monkeypatch.setattr(_nspawn_host, "ssh_banner", banner)
    provider.renew(worker, "i-1")
    remember(provider.parts(worker).pid, os.getpid())
    provider.await_ssh(worker, 5)
    provider.await_ssh(replace(worker, role="router", port=20001), 5)
    assert [entry[:3] for entry in asked] == [("192.168.100.11", 22, "sg-gw-")] * 2 + [("127.0.0.1", 20001, "")]
    provider.parts(worker).pid.unlink()


def test_a_server_that_never_answers(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """When time is over the last lines of the console are told; a machine that has stopped is not waited for."""
    monkeypatch.setattr(_nspawn_host, "ssh_banner", lambda *_, **__: "")
    provider.renew(worker, "i-1")
    parts = provider.parts(worker)
    parts.console.write_text("\x1b[0;32mA start job\x1b[0m is running\r\n\n  for sshd\n")
    remember(parts.pid, os.getpid())
    with pytest.raises(Timeout, match="no SSH server has answered for 0 seconds") as caught:
        provider.await_ssh(worker, 0)
    assert (caught.value.code, caught.value.details) == ("BootTimeout", "A start job is running / for sshd")
    parts.pid.unlink()
    with pytest.raises(StargateError, match="it has stopped") as stopped:
        provider.await_ssh(worker, 60)
    assert stopped.value.code == "MachineStopped"


def test_images(worker: Definition, image: Path, tmp_path: Path) -> None:
    """An image may be named by its root, by the directory above it, or by a link; the disk is made for what it is."""
    (tmp_path / "link").symlink_to(image)
    roots = {image_root(replace(worker, image=str(path))) for path in (image, image / "root", tmp_path / "link")}
    assert roots == {image / "root"}
    assert tail(tmp_path / "none") == ""


def test_settings_that_a_kernel_lacks() -> None:
    """A setting that this kernel does not have reads as off."""
    assert _nspawn_host._sysctl("kernel/panic").strip().lstrip("-").isdigit()
    assert _nspawn_host._sysctl("no/such") == "0\n"


def test_modules_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of modules is the host's, when it has those of its kernel."""
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    assert _nspawn_host._modules() == "/lib/modules"
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    assert _nspawn_host._modules() == ""


def test_the_init_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the first process below ours that is number 1 of a namespace; another number there is none."""
    processes = {1: ("1", "2 9"), 2: ("2", "3"), 3: ("3\t1", ""), 4: ("4\t7", "3"), 5: ("5", "6")}
    for pid, (numbers, children) in processes.items():
        (tmp_path / f"{pid}/task/{pid}").mkdir(parents=True)
        (tmp_path / f"{pid}/status").write_text(f"Name:\tx\nNSpid:\t{numbers}\nThreads: 1\n")
        (tmp_path / f"{pid}/task/{pid}/children").write_text(children)
    monkeypatch.setattr(_nspawn_host, "PROC", tmp_path)
    assert [_nspawn_host._init(pid) for pid in (0, 1, 2, 3, 4, 5)] == [0, 3, 3, 3, 0, 0]


def test_an_init_that_is_gone(provider: Nspawn, worker: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose init ends before it is asked to is ended all the same."""
    provider.renew(worker, "i-1")
    provider.start(worker)
    monkeypatch.setattr(_nspawn_host, "_init", lambda _: 2**22 + 1)
    monkeypatch.setattr(_nspawn_host, "PATIENCE", 0.05)
    provider.stop(worker)
    assert provider.pid(worker) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_a_mount_namespace() -> None:
    """It is another than ours, and there as long as it is held."""
    with _MOUNT_NAMESPACE("try") as path:
        assert Path(path).stat().st_ino != Path("/proc/self/ns/mnt").stat().st_ino
    assert not Path(path).exists()


def test_no_mount_namespace(provider: Nspawn) -> None:
    """Where none can be made, that is said."""
    with pytest.raises(StargateError, match="no mount namespace"), _MOUNT_NAMESPACE("try"):
        pass


def test_entering_groups(tmp_path: Path) -> None:
    """A process enters a group by writing a nought."""
    _nspawn_host._enter([tmp_path / "cgroup.procs"])
    assert (tmp_path / "cgroup.procs").read_text() == "0"
