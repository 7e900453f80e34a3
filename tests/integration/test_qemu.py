# SPDX-License-Identifier: Apache-2.0
"""A site of two QEMU machines that really boot, by Ansible, in user mode: a router, and a worker behind it.

Minutes without virtualization by the hardware. What can be shown without a guest is in
tests/unit/plugins/modules/test_qemu_vm.py.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.prep import machine_image
from tests.integration.sshd import make_key

BIN = Path(sys.executable).parent
BOOT = 900
pytestmark = pytest.mark.timeout(2400)


class Site:
    """The machines of one directory, made by Ansible and reached by ssh."""

    def __init__(self, directory: Path, image: Path) -> None:
        self.directory = directory
        make_key(directory / "key")
        self._common = {
            "namespace": "dc",
            "machines_dir": str(directory / "vms"),
            "image": str(image / "disk.qcow2"),
            "kernel": str(image / "vmlinuz"),
            "initrd": str(image / "initrd"),
            "public_key": (directory / "key.pub").read_text(encoding="utf-8").strip(),
            "admin_user": "ops",
            "memory": 768,
            "cpus": 1,
            "disk": 10,
            "disk_cache": "unsafe",
        }
        self.port = 0

    def task(self, name: str, **options: Any) -> dict[str, Any]:
        """Run one task of qemu_vm and return its result, which is no failure."""
        arguments = json.dumps({"name": name, **self._common, **options})
        command = [str(BIN / "ansible"), "-i", "localhost,", "-c", "local", "localhost", "-m", "stargate.core.qemu_vm"]
        command += ["-a", arguments, "-e", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BOOT + 60)
        status, _, result = done.stdout.partition(" => ")
        assert "FAILED" not in status, done.stdout
        assert result, done.stderr
        return dict(json.loads(result))

    def router(self, **options: Any) -> dict[str, Any]:
        """Run a task for the router."""
        return self.task("r1", role="router", **options)

    def worker(self, **options: Any) -> dict[str, Any]:
        """Run a task for the worker."""
        return self.task("w1", role="worker", site="r1", **options)

    def trust(self, *machines: dict[str, Any]) -> None:
        """Write down how machines are reached, and which host keys they must show."""
        self.port = machines[0]["port"]
        lines = [f"{machine['name']} {machine['host_keys'][0]}\n" for machine in machines]
        (self.directory / "known_hosts").write_text("".join(lines), encoding="utf-8")
        common = f"User ops\nIdentityFile {self.directory}/key\nUserKnownHostsFile {self.directory}/known_hosts\n"
        common += "StrictHostKeyChecking yes\nBatchMode yes\nConnectTimeout 60\nGlobalKnownHostsFile /dev/null\n"
        hosts = f"Host r1\nHostName 127.0.0.1\nPort {self.port}\nHostKeyAlias r1\n"
        hosts += f"Host w1\nHostName {machines[1]['address']}\nProxyJump r1\nHostKeyAlias w1\n"
        (self.directory / "ssh_config").write_text(f"{hosts}Host *\n{common}", encoding="utf-8")

    def ssh(self, host: str, *command: str) -> str:
        """Run a command on a machine; tried again until its SSH server is up."""
        until = time.monotonic() + BOOT
        words = ["ssh", "-F", str(self.directory / "ssh_config"), host, *command]
        while True:
            done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
            if done.returncode != 255 or time.monotonic() > until:
                assert done.returncode == 0, done.stderr
                return done.stdout.strip()
            time.sleep(2)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a site whose two machines have been started; they boot at the same time."""
    place = Site(tmp_path_factory.mktemp("site"), machine_image())
    try:
        router, worker = place.router()["machine"], place.worker()["machine"]
        place.trust(router, worker)
        place.router(wait=BOOT)
        yield place
    finally:
        for name in ("w1", "r1"):
            place.task(name, state="absent")


def test_the_router_answers(site: Site) -> None:
    """The router shows the host key that was made for it, and has its name, its addresses and its user."""
    assert site.ssh("r1", "hostname") == "r1"
    addresses = site.ssh("r1", "ip", "-brief", "-4", "address")
    assert "192.168.100.2/24" in addresses
    assert "10.0.2.15/24" in addresses
    assert site.ssh("r1", "sudo", "id", "-un") == "root"


def test_again_changes_nothing(site: Site) -> None:
    """A second run finds the machines as they are, processes included."""
    for run in (site.router, site.worker):
        before = run()
        assert (before["changed"], before["machine"]["state"], run()["machine"]) == (
            False,
            "running",
            before["machine"],
        )


def test_the_worker_is_behind_the_router(site: Site) -> None:
    """The worker is reached through the router only, and shows its own host key."""
    assert site.ssh("w1", "hostname") == "w1"
    assert site.ssh("w1", "ip", "route", "show", "default").split()[2] == "192.168.100.2"


def test_the_hosts_loopback_is_reached(site: Site) -> None:
    """What listens on the host's loopback is 10.0.2.2 for the router."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = site.ssh(
        "r1", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://10.0.2.2:{server.server_port}/"
    )
    server.shutdown()
    server.server_close()
    assert code == "501"


def test_a_guest_switches_itself_off(site: Site) -> None:
    """A machine that is to be stopped is asked, and its guest comes to a clean end within a minute."""
    began = time.monotonic()
    stopped = site.worker(state="stopped")
    assert (stopped["changed"], stopped["machine"]["pid"]) == (True, 0)
    assert time.monotonic() - began < 60
    console = Path(stopped["machine"]["console"]).read_text(encoding="utf-8", errors="replace")
    assert "reboot: Power down" in console


def test_absent_leaves_nothing(site: Site) -> None:
    """After the last machine there is no process, no lease and no file of the site."""
    for name in ("w1", "r1"):
        assert site.task(name, state="absent")["changed"] is True
    vms = site.directory / "vms"
    assert json.loads((vms / "leases.json").read_text(encoding="utf-8")) == {}
    assert not (vms / "dc").exists()
    everyone = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(vms) not in everyone
    assert "stargate-dc-r1" not in everyone
