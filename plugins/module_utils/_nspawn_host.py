# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An nspawn machine made, started, found again, stopped and taken away.

PRIVATE to the collection. What it consists of is said in _nspawn.py, its network is _nspawn_net.py's business, its
control groups are _cgroup.py's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _cgroup, _nspawn_net
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, disk_error, is_port_free
from ansible_collections.stargate.core.plugins.module_utils._netns import ssh_banner
from ansible_collections.stargate.core.plugins.module_utils._nspawn import (
    SHADOWED,
    Layout,
    files,
    layout,
    links,
    looped,
    mounts,
    nspawn,
    overlay,
    scoped,
)
from ansible_collections.stargate.core.plugins.module_utils._process import alive, end, environment, gone, remember
from ansible_collections.stargate.core.plugins.module_utils._program import found, run
from ansible_collections.stargate.core.plugins.module_utils._seed import files as seed_files
from ansible_collections.stargate.core.plugins.module_utils._seed import host_key

CONSOLES_KEPT = 3
INOTIFY_NEED = 12  # instances that a machine with a kubelet holds: 8 without, 4 by kubelet and containerd
HALT = signal.SIGRTMIN + 4  # what systemd as init takes for "power off"
BOOT_PATIENCE = 60.0  # seconds until a machine has an init
PATIENCE = 20.0  # seconds in which a machine powers off by itself
PROC = Path("/proc")
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|[\x00-\x08\x0b-\x1f]")


class Nspawn:
    """Machines of systemd-nspawn; see Provider in _machine_module.py."""

    kinds = ("nspawn", "simulator")
    defaults = MappingProxyType({"network": "user"})

    def __init__(self, places: Places) -> None:
        """Keep where machines are."""
        self.places = places

    def parts(self, definition: Definition) -> Layout:
        """Return where the parts of a machine are."""
        return layout(self.places, definition.namespace, definition.name)

    def examine(self, definition: Definition) -> None:
        """Raise what stands in the way of making or starting this machine, before anything is changed."""
        doing = f"start machine {definition.key}"
        _need_root(doing)
        if definition.network != "user" or definition.image_checksum:
            wrong = "network=bridge" if definition.network != "user" else "image_checksum"
            raise Invalid(f"Failed to {doing}: {wrong} is not for machines of systemd-nspawn.")
        for program in ("systemd-nspawn", "ip", "mount", "unshare", "nsenter", "ssh-keygen"):
            found(program, doing=doing)
        parts = self.parts(definition)
        if definition.role == "router":
            found("slirp4netns", doing=doing)
            if not alive(parts.slirp) and not is_port_free(definition.port):
                raise _nspawn_net.port_taken(definition)
        if not parts.lower.exists():
            image_root(definition)
        _examine_inotify(doing)

    def pid(self, definition: Definition) -> int:
        """Return the process of a machine that runs, else 0. A router that is cut off from the host does not."""
        parts = self.parts(definition)
        return alive(parts.pid) if definition.role == "worker" or alive(parts.slirp) else 0

    def renew(self, definition: Definition, instance_id: str) -> None:
        """Give a machine that does not run a fresh upper layer on its image."""
        lower, parts = image_root(definition), self.parts(definition)
        overlay(parts, str(lower))  # refuses names that it cannot take
        self.stop(definition)  # what may be left of it; nothing must run on a disk that goes away
        private, public = host_key(parts.directory)
        seed = seed_files(definition, instance_id=instance_id, host_key_private=private, host_key_public=public)
        values = {name: _sysctl(name) for name in SHADOWED}
        groups = [tree.mount.name for tree in _cgroup.mounted() if not tree.is_systemds]
        try:
            for path in parts.discarded:
                shutil.rmtree(path, ignore_errors=not path.exists())
                path.mkdir(mode=0o755, parents=True)
            parts.root.mkdir(mode=0o700, exist_ok=True)
            _rotate(parts.console)
            for name, text in {**files(definition, seed, sysctls=values), **mounts(groups)}.items():
                _place(parts.upper / name, text)
            for name, target in links().items():
                _directory(parts.upper / name).symlink_to(target)
            parts.lower.write_text(f"{lower}\n", encoding="utf-8")
        except OSError as error:
            raise disk_error(error, f"make the disk of machine {definition.key}") from error

    def start(self, definition: Definition) -> None:
        """Start a machine that does not run, or connect a router again that lost its connection only."""
        parts = self.parts(definition)
        if alive(parts.pid):
            _nspawn_net.connect(definition, parts)
            return
        lower = parts.lower.read_text(encoding="utf-8").strip()
        if not _is_root(Path(lower)):
            raise Invalid(
                f"Failed to start machine {definition.key}: its image {lower} is not there any more. Recreate it.",
                code="ImageUnavailable",
            )
        self._sweep(definition)
        try:
            _nspawn_net.up(self.places, definition)
            self._spawn(definition, lower)
        except StargateError:
            self.stop(definition)
            raise

    def stop(self, definition: Definition) -> None:
        """Stop a machine: ask its init first, then end what is left."""
        _need_root(f"stop machine {definition.key}")
        parts = self.parts(definition)
        init = _init(alive(parts.pid))
        if init:
            with suppress(ProcessLookupError):
                os.kill(init, HALT)
            gone(parts.pid, PATIENCE)
        end(parts.pid)
        self._sweep(definition)
        end(parts.slirp)

    def remove(self, definition: Definition) -> None:
        """Take away what is outside of the machine's directory: processes, network, nspawn's own leavings."""
        self.stop(definition)
        _nspawn_net.down(self.places, definition)
        with suppress(OSError):  # never was, or is not empty
            (Path("/run/systemd/nspawn/propagate") / self.parts(definition).label).rmdir()

    def await_ssh(self, definition: Definition, seconds: float) -> None:
        """Return when the machine's SSH server answers: a router's at its port, a worker's inside of its site."""
        parts, is_router = self.parts(definition), definition.role == "router"
        address, port = ("127.0.0.1", definition.port) if is_router else (definition.address, 22)
        netns = "" if is_router else _nspawn_net.site_label(self.places, definition)
        deadline = time.monotonic() + seconds
        while not ssh_banner(address, port, netns=netns, timeout=2.0):
            doing, said = f"reach machine {definition.key} at {address}:{port}", tail(parts.console)
            if not alive(parts.pid):
                raise StargateError(f"Failed to {doing}: it has stopped.", code="MachineStopped", details=said)
            if time.monotonic() > deadline:
                raise Timeout(
                    f"Failed to {doing}: no SSH server has answered for {seconds:.0f} seconds. Its console is in "
                    f"{parts.console}.",
                    code="BootTimeout",
                    details=said,
                )
            time.sleep(0.1)

    def facts(self, definition: Definition) -> dict[str, Any]:
        """Return what else the result says of a machine."""
        parts = self.parts(definition)
        return {"console": str(parts.console), "accel": "none", "netns": parts.label}

    def _spawn(self, definition: Definition, lower: str) -> None:
        """Start the machine's processes in a mount namespace of their own and wait until its init is there."""
        parts, doing = self.parts(definition), f"start machine {definition.key}"
        command = nspawn(definition, parts, netns=_nspawn_net.NAMESPACES, modules=_modules())
        command[0] = found(command[0], doing=doing)
        entries: list[Path] = []
        if _nspawn_net.SYSTEMD.is_dir():
            command = scoped(definition, command, parts)
        else:
            entries, inside = _cgroup.make(
                _cgroup.mounted(), parts.label, memory=definition.memory, cpus=definition.cpus
            )
            command = looped(command, inside)
        with _mount_namespace(doing) as namespace, parts.console.open("ab") as console:
            enter = ["nsenter", f"--mount={namespace}"]
            run([*enter, *overlay(parts, lower)], doing=f"{doing} (overlayfs on {parts.directory})")
            process = subprocess.Popen(
                [*enter, *command],
                env={**environment(definition.key), "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _enter(entries),  # noqa: PLW1509  # no other thread in this process
            )
            remember(parts.pid, process.pid)
            deadline = time.monotonic() + BOOT_PATIENCE
            while not _init(process.pid) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        if process.poll() is not None or not _init(process.pid):
            raise StargateError(
                f"Failed to {doing}: systemd-nspawn did not boot it.", code="StartFailed", details=tail(parts.console)
            )

    def _sweep(self, definition: Definition) -> None:
        """End whatever processes a machine has left that no file tells of."""
        label = self.parts(definition).label
        if not _nspawn_net.SYSTEMD.is_dir():
            _cgroup.empty(_cgroup.mounted(), label)
            return
        for name in (label, f"{label}-run"):
            with suppress(StargateError):  # there is no such scope any more, which is what is wanted
                run(["systemctl", "kill", "--signal=KILL", f"{name}.scope"], doing=f"end {name}")


def image_root(definition: Definition) -> Path:
    """Return the root directory of a machine's image, with symbolic links followed."""
    named = Path(definition.image).expanduser()
    for path in (named, named / "root"):
        if _is_root(path):
            return path.resolve()
    raise Invalid(
        f"Failed to find the image of machine {definition.key}: {definition.image} is not the directory of a root file "
        "system. Make one with: stargate-machine-image build.",
        code="ImageUnavailable",
    )


def tail(console: Path, limit: int = 250) -> str:
    """Return the last of what a machine has said on its console, without what moves a cursor."""
    if not console.exists():
        return ""
    said = _ESCAPES.sub("", console.read_bytes()[-4096:].decode("utf-8", "replace"))
    return " / ".join(line.strip() for line in said.splitlines() if line.strip())[-limit:]


def _is_root(path: Path) -> bool:
    return (path / "usr/lib/os-release").exists() or (path / "etc/os-release").is_file()


def _need_root(doing: str) -> None:
    if os.geteuid() != 0:
        raise Invalid(
            f"Failed to {doing}: systemd-nspawn needs root. Run the task with become, or use qemu_vm, which needs no "
            "root with network=user.",
            code="RootNeeded",
        )


def _modules() -> str:
    """Return the directory of the running kernel's modules, "" when it has none."""
    directory = Path("/lib/modules")
    return str(directory) if (directory / os.uname().release).is_dir() else ""


def _sysctl(name: str) -> str:
    path = Path("/proc/sys") / name
    return path.read_text(encoding="ascii") if path.exists() else "0\n"


def _place(path: Path, text: str) -> None:
    """Write a file of a machine; what cloud-init is told holds a private key."""
    mode = 0o600 if "nocloud-net" in path.parts else 0o644
    with os.fdopen(
        os.open(_directory(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
    ) as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def _directory(path: Path) -> Path:
    """Return a path after the directories above it are there, open to all as a system's are, whatever the umask."""
    for directory in reversed([parent for parent in path.parents if not parent.exists()]):
        directory.mkdir()
        directory.chmod(0o755)
    return path


def _enter(entries: list[Path]) -> None:
    """Move this process, just forked, into control groups."""
    for path in entries:
        path.write_text("0", encoding="ascii")


def _rotate(console: Path) -> None:
    for number in range(CONSOLES_KEPT, 0, -1):
        older = console.with_name(f"{console.name}.{number}")
        newer = console if number == 1 else console.with_name(f"{console.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)
    console.touch(mode=0o600)


def _init(pid: int) -> int:
    """Return the process that is number 1 of a machine, below the one that was started; 0 when there is none."""
    unseen = [pid] if pid else []
    while unseen:
        pid = unseen.pop()
        try:
            status = (PROC / f"{pid}/status").read_text(encoding="utf-8")
            children = (PROC / f"{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        numbers = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
        if numbers and len(numbers[1].split()) > 1:
            return pid if numbers[1].split()[-1] == "1" else 0
        unseen += [int(child) for child in children]
    return 0


@contextmanager
def _mount_namespace(doing: str) -> Iterator[str]:
    """Hold a new mount namespace that sees the host's mounts and keeps its own; processes in it make it last."""
    command = [found("unshare", doing=doing), "--mount", "--propagation", "slave", "cat"]
    ours = _namespace("self")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as holder:
        while _namespace(str(holder.pid)) == ours:
            time.sleep(0.002)
        if not _namespace(str(holder.pid)):
            raise StargateError(f"Failed to {doing}: no mount namespace can be made here.", code="StartFailed")
        yield f"/proc/{holder.pid}/ns/mnt"


def _namespace(pid: str) -> int:
    """Return the number of a process's mount namespace, 0 when it has ended."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    except OSError:
        return 0


def _examine_inotify(doing: str) -> None:
    """Refuse to start a machine whose init would hang for want of inotify instances."""
    limit, used = int(_INOTIFY.read_text(encoding="ascii")), 0
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if entry.stat().st_uid == 0:
                used += sum(str(link.readlink()) == "anon_inode:inotify" for link in (entry / "fd").iterdir())
    if limit - used < INOTIFY_NEED:
        raise Invalid(
            f"Failed to {doing}: root has {used} of {limit} inotify instances in use and a machine needs up to "
            f"{INOTIFY_NEED}. Raise the host's limit: sysctl -w fs.inotify.max_user_instances=1024.",
            code="InotifyExhausted",
        )
