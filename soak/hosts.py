# SPDX-License-Identifier: Apache-2.0
"""Machines to work on: each a real sshd in namespaces of its own, on a bridge, with a disk that outlives its power.

What is done to them is `trouble.py`'s.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from soak.enclosure import run

BRIDGE = "soak0"
GATEWAY = "10.77.0.1"
START_SECONDS = 20.0
_BOOT = "/proc/sys/kernel/random/boot_id"
_APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
_INSIDE = f"""
mount --make-rprivate / && mount --bind "$1/lib" /var/lib/stargate && mount --bind "$1/mnt" /mnt || exit 1
mount --bind "$1/boot" {_BOOT} && mount -t tmpfs -o mode=700 tmpfs ~root || exit 1
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up && ip addr add "$2/16" dev eth0 && ip link set eth0 up || exit 1
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""


def make_bridge() -> None:
    """Make the bridge that all hosts are on."""
    run("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    run("ip", "addr", "add", f"{GATEWAY}/16", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def make_key(target: Path) -> None:
    """Make an ed25519 key pair."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(target))


@dataclass
class Host:
    """One machine. `directory` is its disk; `power` is the process whose end is a power cut."""

    number: int
    directory: Path
    public_key: str
    power: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name of its Server."""
        return f"host-{self.number:03d}"

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return f"10.77.{1 + self.number // 250}.{1 + self.number % 250}"

    @property
    def link(self) -> str:
        """The bridge's end of its cable."""
        return f"v{self.number}"

    @property
    def mnt(self) -> Path:
        """What the host sees as /mnt: the witness and the traps."""
        return self.directory / "mnt"

    def make(self) -> None:
        """Make its disk."""
        for part in ("lib", "mnt"):
            (self.directory / part).mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("witness.sh"), self.mnt)
        make_key(self.directory / "host_key")
        (self.directory / "authorized_keys").write_text(self.public_key, encoding="utf-8")
        (self.directory / "sshd_config").write_text(self._config(), encoding="utf-8")

    def _config(self) -> str:
        return "\n".join(
            [
                "Port 22",
                f"ListenAddress {self.address}",
                f"HostKey {self.directory}/host_key",
                "PidFile none",
                f"AuthorizedKeysFile {self.directory}/authorized_keys",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "StrictModes no",
                "UsePAM no",
                "MaxStartups 500",
                "",
            ]
        )

    def start(self) -> None:
        """Switch it on, with a boot id of its own; `wait` tells when it can be reached."""
        (self.directory / "boot").write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        with (self.directory / "log").open("ab") as log:
            self.power = subprocess.Popen(
                [*_APART, "/bin/sh", "-c", _INSIDE, "sh", str(self.directory), self.address],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )  # fmt: skip
        self._plug_in(self._init(self.power))

    def _init(self, power: subprocess.Popen[bytes]) -> int:
        """Return the pid of its first process, as we see it."""
        children = Path(f"/proc/{power.pid}/task/{power.pid}/children")
        ours = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = children.read_text(encoding="ascii").split()
            if found and Path(f"/proc/{found[0]}/ns/net").readlink() != ours:
                return int(found[0])
            time.sleep(0.005)
        raise TimeoutError(f"{self.name} does not start: {(self.directory / 'log').read_text(encoding='utf-8')}")

    def _plug_in(self, pid: int) -> None:
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "link", "set", self.link, "master", BRIDGE, "up")

    def root(self) -> int:
        """Return the pid of its first process, 0 when it is off."""
        if self.power is None or self.power.poll() is not None:
            return 0
        try:
            children = Path(f"/proc/{self.power.pid}/task/{self.power.pid}/children").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(children.split()[0]) if children.split() else 0

    def is_on(self) -> bool:
        """Whether it has power."""
        return self.root() != 0

    def cut_power(self) -> None:
        """Kill everything on it at once."""
        if self.power is not None:
            pid = self.root()
            if pid:
                os.kill(pid, signal.SIGKILL)
            self.power.kill()
            self.power.wait(10)
            self.power = None
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False, timeout=10)

    def change_key(self) -> None:
        """Be another machine at the same address, until `restore_key`; the witness says what is done to it."""
        shutil.move(self.directory / "host_key", self.directory / "own_key")
        make_key(self.directory / "host_key")
        (self.mnt / "impostor").touch()

    def restore_key(self) -> None:
        """Be the machine again that it was."""
        shutil.move(self.directory / "own_key", self.directory / "host_key")
        (self.mnt / "impostor").unlink()

    def witnessed(self) -> list[list[str]]:
        """Return what the work on it has written: [word, uid, attempt, step, pid, uptime], in order."""
        try:
            text = (self.mnt / "witness").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [line.split() for line in text.splitlines() if line.count(" ") == 5]
