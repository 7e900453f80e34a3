# SPDX-License-Identifier: Apache-2.0
"""Debian packages and signed repositories, made for tests and served by a mirror on loopback.

The packages have the shape of the official ones: a conffile, units, and a postinst that enables the kubelet.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.plugins.mirror import Mirror

UNIT = "[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n[Install]\nWantedBy=multi-user.target\n"
POSTINST = "#!/bin/sh\nsystemctl daemon-reload; systemctl enable kubelet; systemctl restart --no-block kubelet\n"


@dataclass(frozen=True)
class Deb:
    """A package: what is in it by absolute name (texts, or files to copy), and further fields of its description."""

    name: str
    version: str
    files: Mapping[str, str | Path] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    postinst: str = ""

    @property
    def control(self) -> str:
        """The package's description."""
        fields = {"Package": self.name, "Version": self.version, "Architecture": "amd64", "Maintainer": "Tests <t@t>"}
        return "".join(f"{key}: {value}\n" for key, value in {**fields, **self.fields, "Description": "test"}.items())

    def build(self, directory: Path) -> Path:
        """Make the package's file."""
        root = directory / f"{self.name}-{self.version}"
        for name, content in self.files.items():
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
            path.chmod(0o755 if "/bin/" in name or "/sbin/" in name else 0o644)
        control = root / "DEBIAN"
        control.mkdir(parents=True)
        (control / "control").write_text(self.control)
        (control / "conffiles").write_text("".join(f"{name}\n" for name in self.files if name.startswith("/etc/")))
        if self.postinst:
            (control / "postinst").write_text(self.postinst)
            (control / "postinst").chmod(0o755)
        file = directory / f"{self.name}_{self.version}_amd64.deb"
        command = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(root), str(file)]
        subprocess.run(command, check=True, capture_output=True)
        return file


def kubernetes(version: str) -> list[Deb]:
    """Return a kubelet and a kubeadm that state a version and do nothing else."""
    script = '#!/bin/sh\n[ "$1" = {} ] && echo {} && exit\nexec sleep infinity\n'
    dropin = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
    kubelet = {
        "/usr/bin/kubelet": script.format("--version", f"Kubernetes v{version}"),
        "/usr/lib/systemd/system/kubelet.service": UNIT,
        "/etc/default/kubelet": f"# of {version}\nKUBELET_EXTRA_ARGS=\n",
    }
    kubeadm = {"/usr/bin/kubeadm": script.format("version", f"v{version}"), dropin: "[Service]\n"}
    needs = {"Depends": "kubernetes-cni"}
    return [
        Deb("kubelet", f"{version}-1.1", kubelet, needs, POSTINST),
        Deb("kubeadm", f"{version}-1.1", kubeadm, {"Depends": "kubelet"}),
    ]


@dataclass
class Signer:
    """A key that signs repositories."""

    home: Path
    name: str

    def gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run gpg."""
        command = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", "--local-user", self.name]
        return subprocess.run([*command, *arguments], input=stdin, check=True, capture_output=True).stdout

    @property
    def public(self) -> bytes:
        """The public key, ASCII armoured."""
        return self.gpg("--armor", "--export", self.name)


@contextmanager
def signer(directory: Path, name: str) -> Iterator[Signer]:
    """Give a new key; gpg's agent is ended afterwards."""
    home = directory / name
    home.mkdir(mode=0o700)
    made = Signer(home, name)
    made.gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
    yield made
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def serve(server: Mirror, folder: str, debs: Mapping[Path, Deb], key: Signer, *, suite: str = "") -> None:
    """Have a mirror serve a signed repository: flat below `folder`, or with a suite of one component `stable`."""
    stanzas, place = [], f"dists/{suite}/stable/binary-amd64/" if suite else ""
    for file, deb in debs.items():
        body = file.read_bytes()
        server.files[f"{folder}amd64/{file.name}"] = body
        digest = hashlib.sha256(body).hexdigest()
        stanzas.append(f"{deb.control}Filename: amd64/{file.name}\nSize: {len(body)}\nSHA256: {digest}\n")
    index = "\n".join(stanzas).encode()
    top = f"{folder}dists/{suite}/" if suite else folder
    inside = place.removeprefix(f"dists/{suite}/")
    both = {f"{inside}Packages": index, f"{inside}Packages.gz": gzip.compress(index)}
    sums = "".join(f" {hashlib.sha256(body).hexdigest()} {len(body)} {name}\n" for name, body in both.items())
    words = "Origin: tests\nDate: Sat, 21 Nov 2026 12:00:00 UTC\nArchitectures: amd64\nComponents: stable\n"
    release = f"{words}Suite: {suite}\nSHA256:\n{sums}" if suite else f"{words}SHA256:\n{sums}"
    server.files |= {f"{top}{name}": body for name, body in both.items()}
    server.files[f"{top}Release"] = release.encode()
    server.files[f"{top}InRelease"] = key.gpg("--clearsign", stdin=release.encode())
    server.files[f"{folder}Release.key"] = server.files[f"{folder}gpg"] = key.public
