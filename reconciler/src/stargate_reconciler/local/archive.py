# SPDX-License-Identifier: Apache-2.0
"""The machine's own package archive, asked with private state: nothing is installed, nothing of the system changes.

Addresses, keys and proxies are those of the machine's apt; source packages are added to them. No root is needed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.progress import Progress

_DISTRIBUTIONS = ("Debian", "Ubuntu")


@dataclass(frozen=True)
class Target:
    """One index that apt knows: the file and the entry in it (stanza or line, counted from 1), and whose it is."""

    file: str
    entry: int
    origin: str


def targets(text: str) -> list[Target]:
    """Return the package indexes in what `apt-get indextargets` prints."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        file, _, entry = fields.get("Sourcesentry", "").rpartition(":")
        if fields.get("Created-By") == "Packages" and entry.isdigit():
            found.append(Target(file, int(entry), fields.get("Origin", "")))
    return found


@dataclass(frozen=True)
class Index:
    """A package index of Debian's own archive: where it is, and what it calls itself (Debian, Debian-Security)."""

    uri: str
    label: str


_INDEX = "$(CREATED_BY)|$(ORIGIN)|$(REPO_URI)|$(LABEL)"


def of_debian(text: str) -> list[Index]:
    """Return Debian's own indexes in what `apt-get indextargets --format` prints for this module."""
    rows = [line.split("|", 3) for line in text.splitlines() if line.count("|") >= _INDEX.count("|")]
    found = [Index(uri, label) for kind, origin, uri, label in rows if (kind, origin) == ("Packages", "Debian")]
    return list(dict.fromkeys(found))


def chosen(known: Iterable[Target]) -> list[tuple[str, int]]:
    """Return file and entry of the distribution's own archive, of everything when none calls itself so."""
    known = list(known)
    own = [target for target in known if target.origin in _DISTRIBUTIONS]
    return list(dict.fromkeys((target.file, target.entry) for target in own or known))


def with_sources(content: str, entry: int, *, is_deb822: bool) -> str:
    """Return one entry of an apt sources file, for packages and source packages; "" when it is not there."""
    if not is_deb822:
        lines = content.splitlines()
        line = lines[entry - 1].strip() if entry <= len(lines) else ""
        return f"{line}\n{line.replace('deb', 'deb-src', 1)}\n" if re.match(r"deb\s", line) else ""
    stanzas = [block for block in re.split(r"\n\s*\n", content) if re.search(r"^[A-Za-z-]+:", block, re.MULTILINE)]
    if entry > len(stanzas):
        return ""
    return re.sub(r"(?im)^Types:.*$", "Types: deb deb-src", stanzas[entry - 1].strip()) + "\n"


class Archive:
    """apt with lists, caches and downloads below `directory`, and its output in `directory/apt.log`."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(program) is None:
                raise WorldError(f"there is no {program} here, so this is not Debian or Ubuntu")
        self._directory = directory
        self.progress = progress
        self._parts = directory / "sources.list.d"

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": self._parts,
            "Dir::State::Lists": self._directory / "lists",
            "Dir::Cache": self._directory / "cache",
            "APT::Sandbox::User": "root",  # else root's apt drops to a user who may not write here
            "Acquire::Languages": "none",
            "Acquire::Retries": 0,
            "Acquire::http::Timeout": 10,
            "Acquire::https::Timeout": 10,
        }
        return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Take over the machine's sources, with source packages, and read the archive's lists."""
        for name in ("lists/partial", "cache/archives/partial", "sources.list.d"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        for old in self._parts.iterdir():
            old.unlink()
        entries = self._system_entries()
        if not entries:
            raise WorldError("apt has no package sources here")
        for number, (file, entry) in enumerate(entries):
            is_deb822 = file.endswith(".sources")
            text = with_sources(Path(file).read_text(encoding="utf-8"), entry, is_deb822=is_deb822)
            suffix = "sources" if is_deb822 else "list"
            (self._parts / f"{number:02}.{suffix}").write_text(text, encoding="utf-8")
        with self.progress.step("reading the package archive's lists"):
            self.run(["apt-get", *self._options(), "-q", "update"])

    def _system_entries(self) -> list[tuple[str, int]]:
        # Without lists on the disk (a fresh container) apt shows its indexes only when their owners do not matter.
        for flags in ([], ["--no-release-info"]):
            text = self.run(["apt-get", "indextargets", *flags])
            if entries := chosen(targets(text)):
                return entries
        return []

    def indexes_of_debian(self) -> list[Index]:
        """Return where this machine has Debian's own packages from, [] when it is no Debian."""
        command = ["apt-get", "indextargets", "--format", _INDEX]
        if found := of_debian(self.run(command)):
            return found
        # Without lists on the disk (a fresh container) apt does not know whose the indexes are.
        self.update()
        return of_debian(self.run([command[0], *self._options(), *command[1:]]))

    def versions_of_source(self, package: str) -> list[str]:
        """Return the versions in which the archive has a source package, [] when it has none."""
        text = self.run(["apt-cache", *self._options(), "showsrc", "--only-source", package], check=False)
        return re.findall(r"^Version: (\S+)$", text, re.MULTILINE)

    def dependencies(self, package: str) -> list[str]:
        """Return what a package depends on, [] when the archive does not have it."""
        text = self.run(["apt-cache", *self._options(), "depends", package], check=False)
        return re.findall(r"^\s+Depends: ([a-z0-9.+-]+)$", text, re.MULTILINE)

    def unpack(self, packages: Sequence[str], into: Path) -> None:
        """Download packages and unpack their files below a directory, running nothing of them."""
        downloads = self._directory / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        with self.progress.step(f"downloading {', '.join(packages)}"):
            self.run(["apt-get", *self._options(), "-q", "download", *packages], cwd=downloads)
        with self.progress.step(f"unpacking {', '.join(packages)}"):
            for package in packages:
                for file in downloads.glob(f"{package}_*.deb"):
                    self.run(["dpkg-deb", "-x", str(file), str(into)])
                    file.unlink()

    def source(self, package: str, *, version: str, into: Path) -> Path:
        """Download a source package, checked by apt against the signed lists; returns its upstream tar file."""
        into.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", *self._options(), "-q", "source", "--download-only", f"{package}={version}"]
        with self.progress.step(f"downloading the source package {package} {version}"):
            self.run(command, cwd=into)
        found = sorted(into.glob(f"{package}_*.orig.tar.*"))
        if not found:
            raise WorldError(f"the source package {package} {version} has no upstream tar file")
        return found[-1]

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Run a command, its errors appended to the log; returns its output, WorldError with its last words."""
        self._directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command, cwd=cwd, env=env, check=False, text=True, stdin=subprocess.DEVNULL, capture_output=True
        )
        log = self._directory / "apt.log"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        if check and done.returncode != 0:
            words = (done.stderr or done.stdout).strip()[-256:]
            raise WorldError(f"{command[0]} ended with code {done.returncode}: {words} (all of it in {log})")
        return done.stdout
