# SPDX-License-Identifier: Apache-2.0
"""Real sshd hosts on loopback: one process per host, each with a host key of its own, ended with the test.

They run as the user of the test and let only that user in, by one key.
"""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> str:
    """Make an ed25519 key pair at `path`; returns the private key's text."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.read_text(encoding="utf-8")


@dataclass
class SshHost:
    """One sshd on 127.0.0.1."""

    directory: Path
    port: int
    public_key: str
    process: subprocess.Popen[bytes] | None = None
    address: str = "127.0.0.1"

    @property
    def user(self) -> str:
        """The only user who may log in."""
        return getpass.getuser()

    def start(self) -> SshHost:
        """Start sshd and wait until it listens."""
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if program is None:
            raise RuntimeError("sshd is missing: apt-get install openssh-server")
        Path("/run/sshd").mkdir(exist_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "host_key").exists():
            make_key(self.directory / "host_key")
        (self.directory / "authorized_keys").write_text(self.public_key, encoding="utf-8")
        (self.directory / "authorized_keys").chmod(0o600)
        config = self.directory / "sshd_config"
        config.write_text(self._config(), encoding="utf-8")
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(self.command(program, config), stderr=log, stdout=log)
        self._wait()
        return self

    def command(self, program: str, config: Path) -> list[str]:
        """Return what starts sshd."""
        return [program, "-D", "-e", "-f", str(config)]

    def _config(self) -> str:
        return "\n".join(
            [
                f"Port {self.port}",
                f"ListenAddress {self.address}",
                f"HostKey {self.directory}/host_key",
                f"PidFile {self.directory}/pid",
                f"AuthorizedKeysFile {self.directory}/authorized_keys",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "StrictModes no",
                "UsePAM no",
                "MaxStartups 100:30:200",
                "",
            ]
        )

    def _wait(self) -> None:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"sshd did not listen on {self.port}: {(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        """End sshd."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(5)
            self.process = None

    def new_host_key(self) -> None:
        """Come back as another machine at the same address."""
        self.stop()
        for name in ("host_key", "host_key.pub"):
            (self.directory / name).unlink()
        self.start()
