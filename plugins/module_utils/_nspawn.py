# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an nspawn machine is made of: names, paths, files of its first boot, command lines of its parts; pure.

PRIVATE to the collection. Nothing here touches the host; _nspawn_host.py and _nspawn_net.py do what is said here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._lease import digest
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places

SLIRP_ADDRESS = "10.0.2.100"
REBOOTED = 133  # how systemd-nspawn --keep-unit ends when the machine wants to be started again
# Runs a machine, and runs it again when it reboots. $0 holds the files through which a process enters the machine's
# control groups, the arguments are systemd-nspawn's. A shell, as it needs a twentieth of Python's memory.
LOOP = f'while (for file in $0; do echo 0 > "$file"; done; exec "$@"); [ $? -eq {REBOOTED} ]; do :; done'

# The kernel's settings that a kubelet wants to write. It gets files in their place: they are the host's own.
SHADOWED = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# The network is set up from outside, devices and the kernel's own file systems are the host's, and nobody sits at
# the console.
MASKED = (
    "console-getty.service",
    "dev-hugepages.mount",
    "modprobe@.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
    "systemd-resolved.service",
    "systemd-udevd.service",
)
_SEED = "var/lib/cloud/seed/nocloud-net"
_SHADOWS = "usr/local/lib/stargate/sysctl"
_MOUNTS = "usr/local/lib/stargate/machine-mounts"
_UNIT = "stargate-machine.service"
_BOUND = ("containerd", "kubelet")  # directories below /var/lib that must not be on an overlay


@dataclass(frozen=True)
class Layout:
    """Where the parts of one machine are."""

    directory: Path
    label: str  # unique on the host: network namespace, control group, nspawn's machine name

    @property
    def upper(self) -> Path:
        """What differs from the image."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        """What overlayfs keeps beside it."""
        return self.directory / "work"

    @property
    def root(self) -> Path:
        """Where both are mounted, in the machine's own mount namespace only."""
        return self.directory / "root"

    @property
    def lower(self) -> Path:
        """The file that says which image the upper layer was made for."""
        return self.directory / "lower"

    @property
    def pid(self) -> Path:
        """The process that everything of the machine descends from."""
        return self.directory / "pid.json"

    @property
    def slirp(self) -> Path:
        """A router's connection with the host."""
        return self.directory / "slirp.json"

    @property
    def console(self) -> Path:
        """What the machine has said since its disk was made."""
        return self.directory / "console.log"

    @property
    def discarded(self) -> tuple[Path, ...]:
        """What a fresh disk begins without."""
        return (self.upper, self.work, *(self.directory / name for name in _BOUND))


def layout(places: Places, namespace: str, name: str) -> Layout:
    """Return where the parts of a machine are."""
    key = digest(str(places.machines_dir), namespace, name)[:8]
    return Layout(places.directory(namespace, name), f"sg-{name[:24].rstrip('-')}-{key}")


def files(definition: Definition, seed: Mapping[str, str], *, sysctls: Mapping[str, str]) -> dict[str, str]:
    """Return the files that a fresh upper layer has, by path. `sysctls` has the host's values of SHADOWED."""
    resolvers = "".join(f"nameserver {server}\n" for server in definition.dns)
    return {
        **{f"{_SEED}/{name}": text for name, text in seed.items() if name != "network-config"},
        **{f"{_SHADOWS}/{name}": text for name, text in sysctls.items()},
        "etc/cloud/cloud.cfg.d/95-stargate-machine.cfg": "network: {config: disabled}\ngrub_dpkg: {enabled: false}\n",
        "etc/fstab": "",
        "etc/resolv.conf": resolvers,
        # Found as it would write it itself, cloud-init does not restart a server that has just started.
        "etc/ssh/sshd_config.d/50-cloud-init.conf": "PasswordAuthentication no\n",
    }


def links() -> dict[str, str]:
    """Return the symbolic links that a fresh upper layer has, by path."""
    masks = {f"etc/systemd/system/{unit}": "/dev/null" for unit in MASKED}
    return {**masks, f"etc/systemd/system/sysinit.target.wants/{_UNIT}": f"../{_UNIT}"}


def mounts(read_only_groups: Iterable[str]) -> dict[str, str]:
    """Return the service that makes a machine fit for a kubelet before anything else starts in it, by path.

    `read_only_groups` are the control group hierarchies that systemd-nspawn leaves read-only; they show the
    machine's own part only.
    """
    remounts = [f"mount -n -o remount,bind,rw /sys/fs/cgroup/{group}" for group in read_only_groups]
    binds = [f"mount -n --bind /{_SHADOWS}/{name} /proc/sys/{name}" for name in SHADOWED]
    lines = [
        "[Unit]",
        "Description=What a kubelet needs in a machine of systemd-nspawn",
        "DefaultDependencies=no",
        "Before=sysinit.target systemd-sysctl.service",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        f"ExecStart=/bin/sh -e /{_MOUNTS}",
    ]
    return {
        f"etc/systemd/system/{_UNIT}": "\n".join(lines) + "\n",
        _MOUNTS: "\n".join([*remounts, *binds]) + "\n",
    }


def overlay(parts: Layout, lower: str) -> list[str]:
    """Return the command that mounts a machine's root."""
    for path in (lower, str(parts.directory)):
        if any(char in path for char in ':,\\" \n'):
            raise Invalid(
                f"Failed to mount the root of machine {parts.label}: overlayfs takes no colon, comma, backslash, quote "
                f"or space in {path}. Choose another directory.",
                code="PathInvalid",
            )
    options = f"lowerdir={lower},upperdir={parts.upper},workdir={parts.work}"
    return ["mount", "-n", "-t", "overlay", "overlay", "-o", options, str(parts.root)]


def nspawn(definition: Definition, parts: Layout, *, netns: Path, modules: str = "") -> list[str]:
    """Return the command that boots a machine. `modules` is the host's directory of kernel modules, "" for none."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--boot",
        f"--directory={parts.root}",
        f"--machine={parts.label}",
        f"--hostname={definition.name}",
        f"--network-namespace-path={netns / parts.label}",
        "--console=read-only",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--capability=all",
        "--system-call-filter=@keyring bpf @raw-io",
        "--bind=/dev/kmsg",
        *(f"--bind={parts.directory / name}:/var/lib/{name}" for name in _BOUND),
        *([f"--bind-ro={modules}:/lib/modules"] if modules else []),
    ]


def scoped(definition: Definition, command: list[str], parts: Layout) -> list[str]:
    """Return a machine's command for a host with systemd: a scope for it, and one that nspawn makes for its inside."""
    limits = [
        f"--property=MemoryMax={definition.memory}M",
        f"--property=CPUQuota={definition.cpus * 100}%",
        "--property=DevicePolicy=auto",
    ]
    return [*scope(f"{parts.label}-run"), *command, *limits, "systemd.show_status=yes"]


def scope(name: str) -> list[str]:
    """Return what goes before a command so that systemd does not end it with the session that started it."""
    return ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={name}", "--"]


def looped(command: list[str], entries: Iterable[Path]) -> list[str]:
    """Return a machine's command for a host without systemd: in the control groups of the entries, again on reboot."""
    files_to_enter = " ".join(str(path) for path in entries)
    return ["/bin/sh", "-c", LOOP, files_to_enter, *command, "--keep-unit", "systemd.show_status=yes"]


def site_commands(definition: Definition, router: str) -> list[list[str]]:
    """Return the commands for a site's bridge in the router's network namespace, each fit to be run again."""
    is_router = definition.role == "router"
    address = definition.address if is_router else definition.gateway
    return [
        ["ip", "-n", router, "link", "set", "lo", "up"],
        *([["ip", "-n", router, "link", "set", "lan", "address", definition.mac]] if is_router else []),
        ["ip", "-n", router, "address", "replace", f"{address}/{ip_network(definition.cidr).prefixlen}", "dev", "lan"],
        ["ip", "-n", router, "link", "set", "lan", "up"],
    ]


def port_of(worker: str) -> str:
    """Return the name of the bridge's port for a worker."""
    return f"p{digest(worker)[:12]}"


def worker_commands(definition: Definition, router: str, worker: str) -> list[list[str]]:
    """Return the commands that make a worker's network namespace and plug it into its site's bridge."""
    port, address = port_of(worker), f"{definition.address}/{ip_network(definition.cidr).prefixlen}"
    return [
        ["ip", "netns", "add", worker],
        ["ip", "-n", worker, "link", "set", "lo", "up"],
        ["ip", "-n", router, "link", "add", port, "type", "veth", "peer", "name", "lan", "netns", worker],
        ["ip", "-n", worker, "link", "set", "lan", "address", definition.mac],
        ["ip", "-n", worker, "address", "add", address, "dev", "lan"],
        ["ip", "-n", worker, "link", "set", "lan", "up"],
        ["ip", "-n", router, "link", "set", port, "master", "lan", "up"],
        ["ip", "-n", worker, "route", "add", "default", "via", definition.gateway],
    ]


def slirp(definition: Definition, netns: Path, *, ready: int) -> list[str]:
    """Return the command that connects a router with the host, and says so to the descriptor `ready`."""
    return [
        "slirp4netns",
        "--configure",
        "--mtu=65520",
        f"--macaddress={definition.wan_mac}",
        "--netns-type=path",
        "--api-socket=slirp.sock",
        f"--ready-fd={ready}",
        str(netns),
        "wan",
    ]


def forwarding(port: int) -> dict[str, object]:
    """Return the request to slirp4netns that leads a port of 127.0.0.1 to the router's SSH server."""
    arguments = {
        "proto": "tcp",
        "host_addr": "127.0.0.1",
        "host_port": port,
        "guest_addr": SLIRP_ADDRESS,
        "guest_port": 22,
    }
    return {"execute": "add_hostfwd", "arguments": arguments}
