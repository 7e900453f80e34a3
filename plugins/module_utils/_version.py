# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of Kubernetes and containerd: read, compare, and pick one of those that a source has.

PRIVATE to the collection. Pure: nothing here asks anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, NotFound

OLDEST = (1, 15)
SHOWN = 12

_FORM = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?")


@dataclass(frozen=True)
class Version:
    """A version; without `patch` it stands for every patch of its minor version."""

    major: int
    minor: int
    patch: int | None = None
    suffix: str = ""  # of a version before the release, such as "-rc.1"

    def __str__(self) -> str:
        patch = "" if self.patch is None else f".{self.patch}"
        return f"{self.major}.{self.minor}{patch}{self.suffix}"

    @property
    def tag(self) -> str:
        """The version as Kubernetes writes it."""
        return f"v{self}"

    @property
    def line(self) -> tuple[int, int]:
        """Major and minor."""
        return self.major, self.minor

    @property
    def order(self) -> tuple[int, int, int, bool, list[tuple[bool, int, str]]]:
        """A key to sort by: what comes before the release is less than the release."""
        parts = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in self.suffix[1:].split(".")]
        return self.major, self.minor, self.patch or 0, not self.suffix, parts

    def covers(self, other: Version) -> bool:
        """Whether another version is this one, or one of its patches that are released."""
        return other == self or (self.patch is None and self.line == other.line and not other.suffix)


def found(text: str) -> Version | None:
    """Return the first version in a text, such as a program's words about itself; None when there is none."""
    match = re.search(r"(?<![\w.])" + _FORM.pattern, text)
    return _made(match) if match else None


def asked(text: str) -> Version:
    """Return the version of Kubernetes that a person asks for."""
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise Invalid(
            f'Failed to read the Kubernetes version "{text[:40]}": it is neither like 1.34 nor like 1.34.2.',
            code="Invalid",
        )
    version = _made(match)
    if version.line < OLDEST:
        raise Invalid(
            f"Failed to take Kubernetes {version}: versions before {OLDEST[0]}.{OLDEST[1]} are not supported. "
            "In YAML, 1.30 without quotes is the number 1.3.",
            code="Invalid",
        )
    return version


def newest(wanted: Version, available: Iterable[Version], source: str) -> Version:
    """Return the newest of the versions that a source has and `wanted` covers."""
    known = sorted(set(available), key=lambda version: version.order)
    fitting = [version for version in known if wanted.covers(version)]
    if fitting:
        return fitting[-1]
    listed = ", ".join(version.tag for version in known[-SHOWN:]) or "none at all"
    more = "" if len(known) <= SHOWN else f" and {len(known) - SHOWN} older ones"
    raise NotFound(
        f"Failed to find Kubernetes {wanted.tag} at {source}: it has {listed}{more}.",
        code="VersionNotFound",
    )


def _made(match: re.Match[str]) -> Version:
    patch = None if match[3] is None else int(match[3])
    return Version(int(match[1]), int(match[2]), patch, match[4] or "")
