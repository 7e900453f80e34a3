# SPDX-License-Identifier: Apache-2.0
"""What an nspawn machine is made of: names, files, command lines.

That machines made so boot is shown by tests/integration/test_nspawn.py.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places
from ansible_collections.stargate.core.plugins.module_utils._nspawn import (
    LOOP,
    MASKED,
    REBOOTED,
    SHADOWED,
    Layout,
    files,
    forwarding,
    layout,
    links,
    looped,
    mounts,
    nspawn,
    overlay,
    scoped,
    site_commands,
    slirp,
    worker_commands,
)

PLACES = Places(Path("/machines"))
ROUTER = Definition(
    "gw", "ns", "gw", "nspawn", "router", address="192.168.100.2", mac="52:54:00:00:00:01", wan_mac="52:54:00:00:00:02"
)
WORKER = Definition(
    "w1",
    "ns",
    "gw",
    "nspawn",
    "worker",
    address="192.168.100.11",
    mac="52:54:00:00:00:03",
    gateway="192.168.100.2",
    dns=["10.0.2.3", "9.9.9.9"],
)
PARTS = layout(PLACES, "ns", "w1")


def test_labels() -> None:
    """A label differs by directory, namespace and name, and is a legal name of a machine and a namespace."""
    labels = {
        layout(Places(Path(directory)), namespace, name).label
        for directory in ("/a", "/b")
        for namespace in ("ns", "other")
        for name in ("w1", "w2", "w" * 23 + "-" + "x" * 39)
    }
    assert len(labels) == 12
    assert all(len(label) <= 36 and label.startswith("sg-w") and "--" not in label for label in labels)


def test_places_of_parts() -> None:
    """Everything is in the machine's directory; a fresh disk begins without what was written."""
    assert PARTS.directory == Path("/machines/ns/w1")
    paths = {PARTS.upper, PARTS.work, PARTS.root, PARTS.lower, PARTS.pid, PARTS.slirp, PARTS.console}
    assert len(paths) == 7
    assert {path.parent for path in paths} == {PARTS.directory}
    assert [path.name for path in PARTS.discarded] == ["upper", "work", "containerd", "kubelet"]


def test_files_of_a_fresh_disk() -> None:
    """The seed without its network, which is set up from outside; resolvers; the host's values for the kubelet."""
    seed = {"meta-data": "m", "user-data": "u", "network-config": "n"}
    told = files(WORKER, seed, sysctls={"kernel/panic": "0\n"})
    assert told["var/lib/cloud/seed/nocloud-net/user-data"] == "u"
    assert not any(name.endswith("network-config") for name in told)
    assert told["etc/resolv.conf"] == "nameserver 10.0.2.3\nnameserver 9.9.9.9\n"
    assert "config: disabled" in told["etc/cloud/cloud.cfg.d/95-stargate-machine.cfg"]
    assert told["usr/local/lib/stargate/sysctl/kernel/panic"] == "0\n"
    linked = links()
    assert {name for name, target in linked.items() if target == "/dev/null"} == {
        f"etc/systemd/system/{unit}" for unit in MASKED
    }


def test_what_a_kubelet_needs() -> None:
    """A service that is wanted by the boot makes control groups writable and shadows the host's settings."""
    service, script = mounts(["cpu", "memory"]).items()
    assert service[0].endswith("/stargate-machine.service")
    assert service[1].endswith(f"ExecStart=/bin/sh -e /{script[0]}\n")
    assert "remount,bind,rw /sys/fs/cgroup/memory\n" in script[1]
    assert len(script[1].splitlines()) == 2 + len(SHADOWED)
    assert script[1].count(" /proc/sys/") == len(SHADOWED)
    ((wanted, target),) = [item for item in links().items() if item[1] != "/dev/null"]
    assert (wanted.partition(".wants/")[2], target) == ("stargate-machine.service", "../stargate-machine.service")
    assert "remount" not in mounts([])[script[0]]


def test_the_root_of_a_machine() -> None:
    """The image stays as it is; what is written goes to the machine's directory."""
    command = overlay(PARTS, "/image")
    assert command[:3] == ["mount", "-n", "-t"]
    assert "lowerdir=/image,upperdir=/machines/ns/w1/upper,workdir=/machines/ns/w1/work" in command
    assert command[-1] == "/machines/ns/w1/root"


@pytest.mark.parametrize("name", ["/a:b", "/a,b", "/a b", '/a"b', "/a\\b"])
def test_names_that_overlayfs_cannot_take(name: str) -> None:
    """An image or directory whose name would be taken for an option is refused."""
    for parts, lower in ((PARTS, name), (Layout(Path(name), "sg-x"), "/image")):
        with pytest.raises(Invalid) as caught:
            overlay(parts, lower)
        assert caught.value.code == "PathInvalid"


def test_the_machines_command() -> None:
    """It boots in the machine's namespace, and has its directories for containers on no overlay."""
    command = nspawn(WORKER, PARTS, netns=Path("/run/netns"), modules="/lib/modules")
    assert command[0] == "systemd-nspawn"
    assert {"--boot", "--hostname=w1", f"--machine={PARTS.label}", "--register=no"} <= set(command)
    assert f"--network-namespace-path=/run/netns/{PARTS.label}" in command
    assert "--bind=/machines/ns/w1/kubelet:/var/lib/kubelet" in command
    assert command[-1] == "--bind-ro=/lib/modules:/lib/modules"
    assert "--keep-unit" not in command
    assert not any("modules" in word for word in nspawn(WORKER, PARTS, netns=Path("/run/netns")))


def test_with_systemd_on_the_host() -> None:
    """The machine is in scopes of its own with its limits, so that it outlives the session that started it."""
    command = scoped(replace(WORKER, cpus=2, memory=1024), ["systemd-nspawn", "--boot"], PARTS)
    assert command[:3] == ["systemd-run", "--scope", "--quiet"]
    assert f"--unit={PARTS.label}-run" in command
    assert command[command.index("--") + 1] == "systemd-nspawn"
    assert {"--property=MemoryMax=1024M", "--property=CPUQuota=200%"} <= set(command)
    assert "--keep-unit" not in command


def test_without_systemd_on_the_host() -> None:
    """The machine stays in the control groups that were made for it, and systemd-nspawn is not to look for others."""
    command = looped(["systemd-nspawn", "--boot"], [Path("/a/cgroup.procs"), Path("/b/cgroup.procs")])
    assert command[:4] == ["/bin/sh", "-c", LOOP, "/a/cgroup.procs /b/cgroup.procs"]
    assert command[4:7] == ["systemd-nspawn", "--boot", "--keep-unit"]


def test_the_loop(tmp_path: Path) -> None:
    """A machine that reboots is started again, one that ends otherwise is not; each start enters the groups."""
    entries = [tmp_path / name for name in ("first", "second")]
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\n"
        f'cd "{tmp_path}"; cat first second >> seen; rm first second\n'
        f'[ -e again ] && exit 3; echo "$1" > again; exit {REBOOTED}\n'
    )
    program.chmod(0o755)
    command = ["/bin/sh", "-c", LOOP, " ".join(map(str, entries)), str(program), "a b"]
    subprocess.run(command, check=True, timeout=10)
    assert (tmp_path / "seen").read_text() == "0\n0\n" * 2
    assert (tmp_path / "again").read_text() == "a b\n"


def test_the_network_of_a_site() -> None:
    """The bridge has the router's address, and its hardware address once the router is there."""
    by_worker, by_router = (site_commands(one, "sg-gw") for one in (WORKER, ROUTER))
    assert "192.168.100.2/24" in by_worker[1]
    assert [command for command in by_router if command not in by_worker] == [
        ["ip", "-n", "sg-gw", "link", "set", "lan", "address", "52:54:00:00:00:01"]
    ]
    commands = [" ".join(command) for command in worker_commands(WORKER, "sg-gw", "sg-w1")]
    assert commands[0] == "ip netns add sg-w1"
    assert commands[-1] == "ip -n sg-w1 route add default via 192.168.100.2"
    assert all(" -n sg-" in command for command in commands[1:])


def test_the_way_out() -> None:
    """slirp4netns gives the router an interface of its own and leads one port to its SSH server."""
    command = slirp(ROUTER, Path("/run/netns/sg-gw"), ready=7)
    assert command[-2:] == ["/run/netns/sg-gw", "wan"]
    assert {"--ready-fd=7", "--macaddress=52:54:00:00:00:02"} <= set(command)
    assert forwarding(20001) == {
        "execute": "add_hostfwd",
        "arguments": {
            "proto": "tcp",
            "host_addr": "127.0.0.1",
            "host_port": 20001,
            "guest_addr": "10.0.2.100",
            "guest_port": 22,
        },
    }
