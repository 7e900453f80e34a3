# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of a Debian machine: sources with their own key, and versions installed, held, changed up or down.

PRIVATE to the collection. Nothing here asks a person, ever: input is empty and questions have their answers.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ansible_collections.stargate.core.plugins.module_utils import _dpkg as dpkg
from ansible_collections.stargate.core.plugins.module_utils import _runtime_download as download
from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound, Timeout
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done, Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

LOCK_WAIT = 120.0  # seconds to wait for another apt to end

_QUIET = (
    "-y",
    "-q",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    f"DPkg::Lock::Timeout={LOCK_WAIT:.0f}",
    "-o",
    "Acquire::Retries=2",
    "-o",
    "Acquire::http::Timeout=30",
    "-o",
    "Acquire::https::Timeout=30",
)


@dataclass(frozen=True)
class Source:
    """A repository of packages; a `suite` that ends in a slash has no component."""

    name: str
    uri: str
    suite: str
    key: str
    component: str = "stable"

    @property
    def file(self) -> str:
        """The file that tells apt of it."""
        return f"/etc/apt/sources.list.d/{self.name}.sources"

    @property
    def keyring(self) -> str:
        """The file with the key that it must be signed with."""
        return f"/etc/apt/keyrings/{self.name}.asc"

    @property
    def content(self) -> str:
        """What stands in its file."""
        return files.apt_source(self.uri, self.suite, self.component, self.keyring)

    def packages(self) -> list[dpkg.Package]:
        """Return what a flat repository has, read from it directly; apt checks what it installs later."""
        folder = f"{self.uri}{self.suite.lstrip('/')}"
        try:
            return dpkg.index(gzip.decompress(download.content(f"{folder}Packages.gz")).decode(errors="replace"))
        except NotFound:
            return dpkg.index(download.text(f"{folder}Packages"))


def ensure_source(ledger: Ledger, source: Source) -> None:
    """Have apt know a repository and its key."""
    if ledger.host.text(source.file) == source.content and ledger.host.text(source.keyring):
        return
    if not ledger.check_mode:
        ledger.file(source.keyring, _key(source.key))
    _disable_twins(ledger, source)
    ledger.file(source.file, source.content)


def refresh(host: Host, source: Source | None, timeout: float) -> None:
    """Have apt read the index of one repository, or of all when there is none in particular."""
    only = ["-o", f"Dir::Etc::sourcelist={source.file}", "-o", "Dir::Etc::sourceparts=-"] if source else []
    only += ["-o", "APT::Get::List-Cleanup=0"] if source else []
    argv = ["apt-get", "update", *_QUIET, "-o", "APT::Update::Error-Mode=any", *only]
    doing = f"read the packages of {source.uri}" if source else "read the packages of the distribution"
    done = _patient(host, argv, timeout)
    if source and not done.ok and dpkg.failure(doing, done.err + done.out).code == "SignatureInvalid":
        host.write(source.keyring, _key(source.key))  # the key may have been renewed
        done = _patient(host, argv, timeout)
    _require(done, doing, timeout)


def install(host: Host, packages: Sequence[str], *, timeout: float) -> None:
    """Install packages, each as `name` or `name=version`, up or down, though they are held."""
    _repair(host, timeout)
    argv = [
        "apt-get",
        "install",
        *_QUIET,
        "--no-install-recommends",
        "--allow-downgrades",
        "--allow-change-held-packages",
    ]
    doing = "install " + " ".join(packages)
    done = _patient(host, [*argv, *packages], timeout)
    if not done.ok and _lists_are_missing(done):
        refresh(host, None, timeout)
        done = _patient(host, [*argv, *packages], timeout)
    _require(done, doing, timeout)


def install_files(host: Host, paths: Sequence[str], *, timeout: float) -> None:
    """Install packages from files, up or down."""
    _repair(host, timeout)
    doing = "install " + " ".join(path.rpartition("/")[2] for path in paths)
    argv = ["dpkg", "--install", "--force-confold", "--force-confdef", "--force-downgrade", "--force-hold", *paths]
    _require(_patient(host, argv, timeout), doing, timeout)


def hold(host: Host, names: Sequence[str]) -> None:
    """Keep packages from being changed by anybody else."""
    host.must(["apt-mark", "hold", *names], "hold " + " ".join(names), timeout=LOCK_WAIT)


def installed(host: Host, *names: str) -> dict[str, dpkg.Package]:
    """Return those of the named packages that are installed."""
    return dpkg.installed(host.text(dpkg.STATUS_FILE) or "", names)


def _key(url: str) -> str:
    key = download.text(url)
    if "-----BEGIN PGP PUBLIC KEY BLOCK-----" not in key:
        raise Invalid(f"Failed to read the signing key {url}: it is not an ASCII armoured key.")
    return key


def _disable_twins(ledger: Ledger, source: Source) -> None:
    """Take away files that tell apt of the same repository with another key: apt would refuse to work at all."""
    folder = ledger.host.path("/etc/apt/sources.list.d")
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        name = f"/etc/apt/sources.list.d/{path.name}"
        text = ledger.host.text(name) or ""
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        entries = [line for line in lines if line.startswith(("deb", "URIs:"))]
        twins = entries and all(source.uri.rstrip("/") in line for line in entries)
        if name != source.file and path.suffix in (".list", ".sources") and twins:
            ledger.do(f"{name} disabled", partial(path.rename, f"{path}.disabled-by-stargate"))


def _repair(host: Host, timeout: float) -> None:
    """Finish what an earlier run of dpkg has left half done; without this nothing can be installed."""
    updates = host.path("/var/lib/dpkg/updates")
    if updates.is_dir() and any(updates.iterdir()):
        argv = ["dpkg", "--configure", "-a", "--force-confold", "--force-confdef"]
        _require(_patient(host, argv, timeout), "finish an interrupted installation", timeout)


def _patient(host: Host, argv: Sequence[str], timeout: float) -> Done:
    """Run apt or dpkg, again and again while another one holds a lock that it does not wait for by itself."""
    until = time.monotonic() + LOCK_WAIT
    done = host.run(argv, timeout=timeout)
    while done.code and dpkg.failure("", done.err).code == "PackageLocked" and time.monotonic() < until:
        time.sleep(2)
        done = host.run(argv, timeout=timeout)
    return done


def _require(done: Done, doing: str, timeout: float) -> None:
    if done.code is None:
        raise Timeout(f"Failed to {doing}: it did not end within {timeout:.0f} seconds.", code="CommandTimeout")
    if not done.ok:
        raise dpkg.failure(doing, done.err + done.out)


def _lists_are_missing(done: Done) -> bool:
    """Whether apt does not know a package that its distribution has: its index was never read, or is old."""
    signs = ("Unable to locate package", "has no installation candidate", "is not installable", "404  Not Found")
    return any(sign in done.err + done.out for sign in signs)
