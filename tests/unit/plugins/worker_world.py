# SPDX-License-Identifier: Apache-2.0
"""A worker in a directory: files of a Debian machine, programs that are texts, and a record of what was run.

Only for tests. A program's text is what it says of itself; other commands answer what a test tells them to.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils.testing import patch_module_args

from ansible_collections.stargate.core.plugins.module_utils._runtime_binaries import ARCHITECTURES
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done, Host

Answer = Callable[[Sequence[str], str], Done]

ARCHITECTURE = ARCHITECTURES[platform.machine()]
FILES = {
    "/etc/os-release": 'PRETTY_NAME="Debian 12"\nID=debian\nVERSION_CODENAME=bookworm\n',
    "/etc/fstab": "UUID=1 / ext4 defaults 0 1\n",
    "/proc/filesystems": "nodev\toverlay\n\text4\n",
    "/proc/swaps": "Filename Type Size Used Priority\n",
    "/proc/sys/net/ipv4/ip_forward": "1\n",
    "/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables": "1\n",
    "/usr/bin/containerd": "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20\n",
    "/usr/sbin/conntrack": "",
    "/usr/sbin/iptables": "",
    "/var/lib/dpkg/status": "",
}


class Machine(Host):
    """A host below a directory. `ran` holds every command, `answers` what commands with these first words say."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.ran: list[list[str]] = []
        self.answers: dict[tuple[str, ...], Done | Answer] = {}
        self.written: list[str] = []
        for name, text in FILES.items():
            self.have(name, text)

    def have(self, name: str, text: str = "") -> Path:
        """Put a file there, behind the back of what is tested."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def lack(self, name: str) -> None:
        """Take a file away."""
        self.path(name).unlink()

    def write(self, name: str, content: str, mode: int = 0o644) -> None:
        """Write as a host does, and remember that it was done."""
        self.written.append(name)
        super().write(name, content, mode)

    def program(self, name: str) -> str:
        """Find a program in this directory only."""
        places = [f"/usr/{folder}/{name}" for folder in ("bin", "sbin")]
        return next((place for place in places if self.path(place).exists()), "")

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, stdin: str = "") -> Done:
        """Answer as told, else as the program's text says."""
        del timeout
        self.ran.append(list(argv))
        for length in range(len(argv), 0, -1):
            answer = self.answers.get(tuple(argv[:length]))
            if answer is not None:
                return answer if isinstance(answer, Done) else answer(argv, stdin)
        text = self.text(argv[0].replace(str(self.root), "")) if argv[0].startswith("/") else ""
        return Done(0, text or "")

    def commands(self) -> list[str]:
        """Return what was run, a line each, without questions for a version."""
        asks = (["--version"], ["version", "-o", "short"])
        return [" ".join(argv).replace(str(self.root), "") for argv in self.ran if argv[1:] not in asks]

    @contextlib.contextmanager
    def listening(self, name: str = "/run/containerd/containerd.sock") -> Iterator[None]:
        """Have somebody listen on a socket."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            yield
        path.unlink()


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """Give a machine; its directory has a short name, as the names of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="w") as directory:
        yield Machine(Path(directory))


def in_turn(*answers: Done) -> Answer:
    """Return what answers one after the other, the last one for ever."""
    left = list(answers)

    def answer(argv: Sequence[str], stdin: str) -> Done:
        del argv, stdin
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def tree(directory: Path, *versions: str) -> str:
    """Make a tree of programs with the layout of dl.k8s.io; returns its URL."""
    for version in versions:
        folder = directory / version / "bin/linux" / ARCHITECTURE
        folder.mkdir(parents=True)
        for program, text in {"kubelet": f"Kubernetes {version}\n", "kubeadm": f"{version}\n"}.items():
            (folder / program).write_text(text)
            (folder / f"{program}.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())
    return f"file://{directory}"


def task(module: ModuleType, host: Host, options: Mapping[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run a module's main() on a host; returns its result."""
    said = io.StringIO()
    given = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    before = module.Host
    module.Host = lambda: host  # type: ignore[attr-defined]  # the module's own name for it
    try:
        with patch_module_args(given), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            module.main()
    finally:
        module.Host = before  # type: ignore[attr-defined]  # as above
    result: dict[str, Any] = json.loads(said.getvalue())
    return result
