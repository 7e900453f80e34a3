# SPDX-License-Identifier: Apache-2.0
"""A site of three nspawn machines that really boot, made by Ansible: a router and two workers behind it. Needs root.

What can be shown without booting is in tests/unit/plugins/module_utils/test__nspawn_host.py.
"""

from __future__ import annotations

import http.server
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.integration.prep import machine_image
from tests.integration.sshd import make_key

BIN = Path(sys.executable).parent
BOOT = 120
NAMES = ("gw", "w1", "w2")
# What a profile says of all its machines alike; what is each machine's own must hold against it.
PROFILE = """\
#cloud-config
hostname: sim-worker-001
fqdn: sim-worker-001.example.com
users:
  - name: guest
  - name: ops
    lock_passwd: false
ssh_pwauth: true
ssh_keys:
  rsa_private: nonsense
runcmd:
  - [touch, /etc/profile-was-here]
"""
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="machines of systemd-nspawn need root"),
]


class Site:
    """The machines of one directory, made by Ansible and reached by ssh."""

    def __init__(self, directory: Path, image: Path) -> None:
        self.directory = directory
        make_key(directory / "key")
        self.public_key = (directory / "key.pub").read_text(encoding="utf-8").strip()
        self.image = image
        self.machines: dict[str, dict[str, Any]] = {}

    def task(self, name: str, **options: Any) -> dict[str, Any]:
        """Run one task of nspawn_machine and return its result, failed or not."""
        arguments = {"name": name, "namespace": "dc", "machines_dir": str(self.directory / "vms"), **options}
        command = [str(BIN / "ansible"), "-i", "localhost,", "-c", "local", "localhost"]
        command += ["-m", "stargate.core.nspawn_machine", "-a", json.dumps(arguments)]
        command += ["-e", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * BOOT)
        status, _, result = done.stdout.partition(" => ")
        assert result, done.stderr
        return {**json.loads(result), "failed": "FAILED" in status}

    def must(self, name: str, **options: Any) -> dict[str, Any]:
        """Run one task, which has to succeed."""
        result = self.task(name, **options)
        assert not result["failed"], result
        self.machines[name] = result["machine"]
        return result

    def up(self, name: str, **options: Any) -> dict[str, Any]:
        """Make a machine run and answer."""
        own = {"role": "router"} if name == "gw" else {"role": "worker", "site": "gw", "user_data": PROFILE}
        common = {"image": str(self.image), "public_key": self.public_key, "admin_user": "ops", "memory": 1024}
        return self.must(name, **common, **own, wait=BOOT, **options)

    def ssh(self, name: str, *command: str, check: bool = True) -> str:
        """Run a command on a machine, whose host key must be the one that was returned."""
        router = self.machines["gw"]
        hosts = f"Host gw\nHostName 127.0.0.1\nPort {router['port']}\nHostKeyAlias gw\n"
        for other in ("w1", "w2"):
            hosts += f"Host {other}\nHostName {self.machines[other]['address']}\nHostKeyAlias {other}\nProxyJump gw\n"
        keys = "".join(f"{host} {machine['host_keys'][0]}\n" for host, machine in self.machines.items())
        (self.directory / "known_hosts").write_text(keys, encoding="utf-8")
        options = f"User ops\nIdentityFile {self.directory}/key\nUserKnownHostsFile {self.directory}/known_hosts\n"
        options += "StrictHostKeyChecking yes\nBatchMode yes\nConnectTimeout 60\n"
        options += "GlobalKnownHostsFile /dev/null\n"
        (self.directory / "ssh_config").write_text(f"{hosts}Host *\n{options}", encoding="utf-8")
        words = ["ssh", "-F", str(self.directory / "ssh_config"), name, *command]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def all_at_once(self, act: str, **options: Any) -> list[dict[str, Any]]:
        """Run a task for each machine, three at the same time."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda name: getattr(self, act)(name, **options), NAMES))


def traces(directory: Path, labels: list[str]) -> list[str]:
    """Return what there is of machines: namespaces, control groups, processes, mounts."""
    roots = ("/run/netns", "/sys/fs/cgroup", "/run/systemd/nspawn/propagate")
    walked = (here for root in roots for here in os.walk(root))  # groups of other tests may go meanwhile
    found = [f"{place}/{name}" for place, *names in walked for name in chain(*names) if name in labels]
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "mountinfo"):
            try:
                text = (process / name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            found += [f"{process.name} {name}"] * (str(directory / "dc") in text)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a site whose machines were started at the same time and answer."""
    place = Site(tmp_path_factory.mktemp("site"), machine_image())
    interfaces = host_interfaces()
    try:
        place.all_at_once("up")
        assert host_interfaces() == interfaces
        yield place
    finally:
        place.all_at_once("task", state="absent")


def host_interfaces() -> set[str]:
    """Return the interfaces of the host's own network."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_machines_answer(site: Site) -> None:
    """Each shows the host key that was made for it, has its own name, and lets its user become root."""
    for name in NAMES:
        assert site.ssh(name, "hostname; sudo id -un").split() == [name, "root"]
        assert len(site.machines[name]["host_keys"]) == 1
    addresses = {machine["address"] for machine in site.machines.values()}
    assert addresses == {"192.168.100.2", "192.168.100.11", "192.168.100.12"}


def test_one_profile_for_two_machines(site: Site) -> None:
    """Weakness W49: machines of one profile keep their own names and keys; all else of the profile holds."""
    for name in ("w1", "w2"):
        site.ssh(name, "cloud-init status --wait")
        assert site.ssh(name, "hostname -f; cat /etc/hostname").split() == [name, name]
        assert site.ssh(name, "ls /etc/ssh/ssh_host_*_key /etc/profile-was-here").split() == [
            "/etc/profile-was-here",
            "/etc/ssh/ssh_host_ed25519_key",
        ]
        assert site.ssh(name, "id -un guest") == "guest"
        assert site.ssh(name, "sudo passwd --status ops").split()[1] == "L"
        assert "passwordauthentication no" in site.ssh(name, "sudo sshd -T")


def test_again_changes_nothing(site: Site) -> None:
    """A second run finds the machines as they are, processes included."""
    before = {name: dict(site.machines[name]) for name in NAMES}
    for name, result in zip(NAMES, site.all_at_once("up"), strict=True):
        assert (result["changed"], result["drift"], result["machine"]) == (False, [], before[name])


def test_the_hosts_loopback_is_reached(site: Site) -> None:
    """A router can be told to forward and to translate; then 10.0.2.2 is the host's loopback for workers too."""
    site.ssh("gw", "sudo sysctl -w net.ipv4.ip_forward=1")
    translation = "add chain ip t c { type nat hook postrouting priority 100; }"
    site.ssh("gw", f"sudo nft 'add table ip t; {translation}; add rule ip t c oifname wan masquerade'")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://10.0.2.2:{server.server_port}/"
    code = site.ssh("w1", f"curl -s -o /dev/null -w '%{{http_code}}' {url}")
    server.shutdown()
    server.server_close()
    assert code == "501"


def test_the_hosts_settings_are_its_own(site: Site) -> None:
    """What a kubelet writes stays in the machine; what is not for it cannot be written; its groups are its own."""
    before = Path("/proc/sys/vm/overcommit_memory").read_text()
    site.ssh("w1", "sudo sysctl -w vm.overcommit_memory=2 kernel.panic=77")
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == before
    assert site.ssh("w1", "cat /proc/sys/kernel/panic") == "77"
    assert site.ssh("w1", "sudo sysctl -w vm.swappiness=1 2>/dev/null || echo refused") == "refused"
    assert site.ssh("w1", "systemctl is-active containerd") == "active"
    assert site.ssh("w1", "findmnt -no FSTYPE -T /var/lib/kubelet") != "overlay"
    group = "/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").exists() else "/sys/fs/cgroup"
    site.ssh("w1", f"sudo mkdir {group}/kubepods && sudo rmdir {group}/kubepods")


def boot_id(site: Site, name: str) -> str:
    """Return what a machine says of its boot, "" when it does not answer."""
    return site.ssh(name, "cat /proc/sys/kernel/random/boot_id", check=False)


def test_a_reboot(site: Site) -> None:
    """A machine that reboots comes back by itself, with another boot id and the same disk."""
    before = boot_id(site, "w2")
    site.ssh("w2", "sudo touch /etc/kept; sudo systemctl reboot", check=False)
    while boot_id(site, "w2") in ("", before):
        site.must("w2", wait=BOOT)
    assert site.ssh("w2", "ls /etc/kept") == "/etc/kept"


def test_recreation(site: Site) -> None:
    """A fresh disk and a new instance, at the same place with the same host key; the same id again changes nothing."""
    before = site.machines["w1"]
    site.ssh("w1", "sudo touch /etc/gone /var/lib/kubelet/gone")
    assert site.up("w1", state="recreated", instance_id="op-1")["changed"] is True
    after = site.machines["w1"]
    assert {key for key in before if before[key] != after[key]} == {"pid", "instance_id"}
    assert site.ssh("w1", "ls /etc/gone /var/lib/kubelet/gone 2>/dev/null", check=False) == ""
    assert site.ssh("w1", "cloud-init query instance_id") == "op-1"
    assert site.up("w1", state="recreated", instance_id="op-1")["changed"] is False
    assert Path(after["console"]).with_name("console.log.1").stat().st_size > 0


def test_what_was_killed_is_mended(site: Site) -> None:
    """A worker whose init was killed starts again; a router that lost its way to the host gets it back, unbooted."""
    (init,) = [int(pid) for pid in children(site.machines["w1"]["pid"], depth=2)]
    os.kill(init, 9)
    wait_for_end(site.machines["w1"]["pid"])
    assert site.must("w1", wait=BOOT)["changed"] is True
    before = boot_id(site, "gw")
    os.kill(json.loads((Path(site.machines["gw"]["directory"]) / "slirp.json").read_text())["pid"], 9)
    assert site.must("gw", wait=BOOT)["changed"] is True
    assert boot_id(site, "gw") == before
    assert boot_id(site, "w1")


def children(pid: int, *, depth: int) -> list[str]:
    """Return the processes so many generations below one."""
    pids = [str(pid)]
    for _ in range(depth):
        pids = [child for one in pids for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
    return pids


def wait_for_end(pid: int) -> None:
    """Return when a process has ended."""
    handle = os.pidfd_open(pid)
    assert select.select([handle], [], [], 30)[0]
    os.close(handle)


def test_a_port_that_is_taken(site: Site) -> None:
    """When somebody else listens on the port of a stopped router, that is said and nothing started."""
    port = site.machines["gw"]["port"]
    assert site.must("gw", state="stopped")["machine"]["state"] == "stopped"
    with socket.create_server(("127.0.0.1", port)):
        result = site.task("gw", wait=BOOT)
        assert (result["failed"], result["failure"]["code"]) == (True, "PortTaken")
    assert site.must("gw", wait=BOOT)["changed"] is True
    assert site.ssh("w1", "hostname") == "w1"


def test_a_boot_that_takes_too_long(site: Site) -> None:
    """What the machine has said on its console is told, and it is left to be looked at."""
    result = site.task("w2", state="recreated", wait=0.01)
    assert (result["failed"], result["failure"]["code"]) == (True, "BootTimeout")
    assert result["failure"]["retryable"] is True
    assert site.must("w2", wait=BOOT)["changed"] is False


def test_absence_leaves_nothing(site: Site) -> None:
    """No process, mount, namespace, control group or file of the machines is left."""
    vms, labels = site.directory / "vms", [machine["netns"] for machine in site.machines.values()]
    assert len(traces(vms, labels)) > len(labels)
    assert [result["changed"] for result in site.all_at_once("task", state="absent")] == [True] * 3
    assert traces(vms, labels) == []
    assert sorted(path.name for path in vms.iterdir()) == [".lock", "leases.json"]
    assert [result["changed"] for result in site.all_at_once("task", state="absent")] == [False] * 3
