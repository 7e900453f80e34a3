# SPDX-License-Identifier: Apache-2.0
"""The root file system of the machines' image: Debian by mmdebstrap, then what Stargate's machines need besides.

What is in it is said in image_recipe.py. How it becomes a disk is in image_disk.py.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stargate_reconciler.local import commands, docker_archive, image_recipe
from stargate_reconciler.local.archive import Index
from stargate_reconciler.local.image_recipe import Recipe, sha256
from stargate_reconciler.local.progress import Progress

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OWN = "opt/stargate"


def sources(known: Sequence[Index], mirror: str) -> list[str]:
    """Return apt's lines for the image: from the mirror(s) given, else from where this Debian machine has its own.

    A mirror may be two addresses, the second for the security updates. [] leaves the choice to mmdebstrap.
    """
    suite = image_recipe.SUITE
    if mirror:
        main, *security = mirror.split()
        places = {main: [suite, f"{suite}-updates"], **{uri: [f"{suite}-security"] for uri in security[:1]}}
    else:
        places = {i.uri: [suite, f"{suite}-updates"] for i in known if i.label == "Debian"}
        places |= {i.uri: [f"{suite}-security"] for i in known if i.label == "Debian-Security"}
    return [f"deb [signed-by={KEYRING}] {uri} {name} main" for uri, names in places.items() for name in names]


@dataclass(frozen=True)
class Root:
    """A root file system that is being made in `path`."""

    path: Path
    recipe: Recipe
    log: Path
    progress: Progress

    def bootstrap(self, lines: Sequence[str]) -> None:
        """Unpack and configure the packages."""
        skeleton = self.path.with_name("skeleton")
        for name, text in image_recipe.FILES.items():
            (skeleton / name).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            (skeleton / name).write_text(text, encoding="utf-8")
        settings = ['Apt::Install-Recommends "false"', 'Acquire::Languages "none"', 'Acquire::Retries "3"']
        excluded = [f"path-exclude={pattern}" for pattern in image_recipe.LEFT_OUT]
        included = [f"path-include={pattern}" for pattern in image_recipe.KEPT]
        command = [
            *("nice", "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
            *("--components=main", f"--include={','.join(self.recipe.packages)}"),
            *(f"--aptopt={setting}" for setting in settings),
            *(f"--dpkgopt={setting}" for setting in (*excluded, *included)),
            f'--essential-hook=cp -r {shlex.quote(str(skeleton))}/. "$1/"',
            *(image_recipe.SUITE, str(self.path), *lines),
        ]
        with self.progress.step("bootstrapping Debian 12 (one to two minutes, once)") as step:
            commands.run(command, log=self.log, step=step, prefix="I: ")
        shutil.rmtree(skeleton)

    def finish(self) -> None:
        """Take out what only one machine may have, choose the services, put in programs and images."""
        with self.progress.step("putting Kubernetes and the machine's settings into the image"):
            self._forget()
            self._services()
            self._kubernetes()
            self._pause()

    def _forget(self) -> None:
        etc = self.path / "etc"
        keys = (etc / "ssh").glob("ssh_host_*")
        for path in (*keys, etc / "hostname", etc / "resolv.conf", etc / "machine-id"):
            path.unlink(missing_ok=True)
        (etc / "machine-id").touch()  # empty: systemd makes one at each machine's first boot
        (etc / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
        (self.path / "var/lib/dbus/machine-id").unlink(missing_ok=True)

    def _services(self) -> None:
        for unit in image_recipe.MASKED:
            link = self.path / "etc/systemd/system" / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
        commands.run(["chroot", self.path, "systemctl", "--quiet", "enable", *image_recipe.ENABLED], log=self.log)

    def _kubernetes(self) -> None:
        for version, programs in self.recipe.kubernetes.items():
            directory = self.path / _OWN / "kubernetes" / f"v{version}" / "bin" / "linux" / self.recipe.architecture
            directory.mkdir(parents=True)
            for name, file in programs.items():
                shutil.copyfile(file, directory / name)
                (directory / name).chmod(0o755)
                (directory / f"{name}.sha256").write_text(sha256(directory / name), encoding="ascii")

    def _pause(self) -> None:
        images = self.path / _OWN / "images"
        images.mkdir(parents=True)
        files = {
            "tini": (self.path / "usr/bin/tini-static").read_bytes(),
            "busybox": (self.path / "bin/busybox").read_bytes(),
        }
        docker_archive.write(
            images / "pause.tar",
            files,
            tag=image_recipe.PAUSE_TAG,
            entrypoint=["/tini", "--", "/busybox", "sleep", "infinity"],
            architecture=self.recipe.architecture,
        )

    def packages(self) -> dict[str, str]:
        """Return what is installed, and in which version."""
        text = (self.path / "var/lib/dpkg/status").read_text(encoding="utf-8")
        found = {}
        for block in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line[:64])
            with contextlib.suppress(KeyError):
                found[fields["Package"]] = fields["Version"]
        return found


def is_root() -> bool:
    """Return whether files of other owners can be made."""
    return os.geteuid() == 0
