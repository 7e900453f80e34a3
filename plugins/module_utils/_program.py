# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that machines need on their host: run one, or say which package brings it.

PRIVATE to the collection. Argument lists only; no shell, no secret among the arguments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout

PACKAGES = {  # program -> Debian's package
    "genisoimage": "genisoimage",
    "ip": "iproute2",
    "mkisofs": "genisoimage",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "slirp4netns": "slirp4netns",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "umount": "mount",
    "unshare": "util-linux",
    "vde_switch": "vde2",
    "xorrisofs": "xorriso",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def available(name: str) -> str:
    """Return the path of a program, "" when it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_PATH) or ""


def found(*names: str, doing: str) -> str:
    """Return the path of the first of some programs that is there."""
    for name in names:
        path = available(name)
        if path:
            return path
    package = PACKAGES.get(names[0], names[0])
    raise Invalid(
        f"Failed to {doing}: the program {names[0]} is not installed. On Debian: apt-get install {package}.",
        code="ProgramMissing",
    )


def run(argv: Sequence[str], *, doing: str, timeout: float = 60.0) -> str:
    """Return what a program wrote to its standard output. The first argument is looked up."""
    command = [found(argv[0], doing=doing), *argv[1:]]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise Timeout(f"Failed to {doing}: {argv[0]} did not end in {timeout:.0f} seconds.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        full = "No space left on device" in said
        last = said.splitlines()[-1].rstrip(".") if said else "it said nothing"
        raise StargateError(
            f"Failed to {doing}: {argv[0]} ended with {done.returncode}: {last}.",
            code="DiskFull" if full else "ProgramFailed",
            details=said,
            retryable=full,
        )
    return done.stdout.decode(errors="replace")
