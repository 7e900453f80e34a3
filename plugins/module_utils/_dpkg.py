# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debian's package tools write and say, read: the status file, indexes of repositories, names of package files.

PRIVATE to the collection. Pure: from text to facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError, clipped
from ansible_collections.stargate.core.plugins.module_utils._version import Version, found

STATUS_FILE = "/var/lib/dpkg/status"


@dataclass(frozen=True)
class Package:
    """A package in some version, and where it stands: `is_held` only says something of an installed one."""

    name: str
    version: str
    architecture: str = ""
    is_held: bool = False
    file: str = ""

    @property
    def upstream(self) -> Version | None:
        """The version without what Debian adds before and after it."""
        return found(self.version.rpartition(":")[2].rpartition("-")[0].replace("~", "-"))

    @property
    def revision(self) -> list[int]:
        """A key to sort packages of the same upstream version by."""
        return [int(digits) for digits in re.findall(r"\d+", self.version.rpartition("-")[2])]


def installed(status: str, names: Iterable[str]) -> dict[str, Package]:
    """Return those of the named packages that are installed."""
    packages = {}
    for name in names:
        match = re.search(rf"^Package: {re.escape(name)}\n(?:[^\n]+\n)*", status, re.MULTILINE)
        fields = _fields(match[0]) if match else {}
        want, __, state = (fields.get("Status", "") + "  ").split(" ", 2)
        if state.strip() == "installed":
            packages[name] = Package(name, fields["Version"], fields.get("Architecture", ""), is_held=want == "hold")
    return packages


def index(text: str) -> list[Package]:
    """Return the packages of a repository's index."""
    stanzas = (_fields(stanza) for stanza in text.split("\n\n"))
    return [
        Package(fields["Package"], fields["Version"], fields.get("Architecture", ""), file=fields.get("Filename", ""))
        for fields in stanzas
        if "Package" in fields and "Version" in fields
    ]


def of_file_name(name: str) -> Package | None:
    """Return the package that is in a file of this name, None when the name is not that of a package."""
    match = re.fullmatch(r"([a-z0-9][a-z0-9+.-]+)_([^_/]+)_([a-z0-9-]+)\.deb", name)
    return Package(match[1], unquote(match[2]), match[3], file=name) if match else None


def best(packages: Iterable[Package], name: str, version: Version) -> Package | None:
    """Return the newest revision of a package in an upstream version, None when there is none."""
    fitting = [package for package in packages if package.name == name and package.upstream == version]
    return max(fitting, key=lambda package: package.revision, default=None)


_CAUSES = (  # pattern in what apt or dpkg says, code, may it go away by itself?
    (r"No space left on device|You don't have enough free space", "DiskFull", False),
    (r"Could not get lock|is another process using it|lock.*is held by", "PackageLocked", True),
    (r"NO_PUBKEY|EXPKEYSIG|BADSIG|is not signed|public key is not available", "SignatureInvalid", False),
    (r"Hash Sum mismatch|File has unexpected size", "ChecksumMismatch", True),
    (
        r"Failed to fetch|Could not resolve|Could not connect|Connection (failed|refused|timed out)|Cannot initiate",
        "MirrorUnavailable",
        True,
    ),
    (r"does not have a Release file|Some index files failed to download", "MirrorUnavailable", True),
)


def failure(doing: str, words: str) -> StargateError:
    """Return what went wrong, from what apt or dpkg said."""
    lines = [line.strip() for line in words.splitlines() if re.match(r"\s*([EW]:|dpkg|Err:)", line)]
    for pattern, code, retryable in _CAUSES:
        line = next((line for line in lines if re.search(pattern, line)), "")
        if line:
            return StargateError(f"Failed to {doing}: {clipped(line)}", code=code, details=line, retryable=retryable)
    line = next((line for line in lines if line.startswith("E:")), lines[-1] if lines else "no word why")
    needs = [part.strip() for part in words.splitlines() if re.search(r" (Pre)?Depends: | depends on ", part)]
    details = "; ".join(needs) or line
    return StargateError(f"Failed to {doing}: {clipped(line)}", code="PackageInstallFailed", details=details)


def _fields(stanza: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in stanza.splitlines() if line[:1].strip() and ":" in line)
    return {name: value.strip() for name, value in pairs}
