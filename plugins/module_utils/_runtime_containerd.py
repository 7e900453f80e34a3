# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd with the configuration that its version understands, running with it, and with the images given.

PRIVATE to the collection. Where the package comes from is decided in _runtime_packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

PROGRAM = "/usr/bin/containerd"
SOCKET = "/run/containerd/containerd.sock"
ENABLED = "/etc/systemd/system/multi-user.target.wants/containerd.service"


def ensure_running(ledger: Ledger, content: str) -> None:
    """Have this configuration in place, and a containerd that runs with it, now and after a boot."""
    host = ledger.host
    if host.text(files.CONTAINERD_FILE) != content:
        _require_valid(ledger, content)
    ledger.file(files.CONTAINERD_FILE, content, owes=["containerd"])
    if not host.path(ENABLED).is_symlink():
        ledger.do("containerd enabled", lambda: host.must(["systemctl", "enable", "containerd"], "enable containerd"))
    answers = is_answering(host)
    if answers and "containerd" not in ledger.memory.owed:
        return
    if not answers:
        ledger.changes.append("containerd started")
    ledger.restart("containerd")


def is_answering(host: Host) -> bool:
    """Whether somebody listens on containerd's socket."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, suppress(OSError):
        client.settimeout(5)
        client.connect(str(host.path(SOCKET)))
        return True
    return False


def ensure_images(ledger: Ledger, folder: str) -> None:
    """Have the images of the archives in a directory; an archive whose names are all known is not read again."""
    host = ledger.host
    archives = sorted(host.path(folder).glob("*.tar"))
    if not archives:
        raise Invalid(f"Failed to find image archives: {folder} has no *.tar.", code="Invalid")
    known = set() if not is_answering(host) else set(_images(host))
    for archive in archives:
        names = image_names(archive)
        if not names or not set(names) <= known:
            text = f"images {', '.join(names) or archive.name}"
            ledger.do(text, partial(_import, host, archive))


def image_names(archive: Path) -> list[str]:
    """Return the names that an archive gives to its images, as containerd writes them."""
    import tarfile

    try:
        with tarfile.open(archive) as tar:
            members = {member.name.removeprefix("./"): member for member in tar}
            manifest, index = (_document(tar, members.get(name)) for name in ("manifest.json", "index.json"))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise Invalid(f"Failed to read the image archive {archive}: {error}.", code="Invalid") from error
    tags = [tag for entry in manifest or [] for tag in entry.get("RepoTags") or []]
    annotations = [entry.get("annotations") or {} for entry in (index or {}).get("manifests", [])]
    names = [note.get("io.containerd.image.name", "") for note in annotations]
    return sorted({full_name(name) for name in [*tags, *names] if name})


def full_name(name: str) -> str:
    """Return an image's name with its registry and tag, which `docker save` leaves out when they are the usual ones."""
    registry, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not any(mark in registry for mark in ".:") and registry != "localhost":
        name = f"docker.io/{registry}/{rest}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _document(tar: Any, member: Any) -> Any:
    file = tar.extractfile(member) if member is not None else None
    return json.load(file) if file else None


def _images(host: Host) -> Iterable[str]:
    return host.must(["ctr", "-n", "k8s.io", "images", "ls", "-q"], "list containerd's images").split()


def _import(host: Host, archive: Path) -> None:
    argv = ["ctr", "-n", "k8s.io", "images", "import", str(archive)]
    host.must(argv, f"import the images of {archive.name}", timeout=600)


def _require_valid(ledger: Ledger, content: str) -> None:
    """Have containerd itself read the configuration before it gets it."""
    if ledger.check_mode:
        return
    name = "/run/stargate/containerd.toml"
    ledger.host.write(name, content, 0o600)
    path = ledger.host.path(name)
    try:
        done = ledger.host.run([PROGRAM, "--config", str(path), "config", "dump"], timeout=60)
    finally:
        path.unlink()
    if not done.ok:
        raise StargateError(
            f"Failed to configure containerd: it does not read what was made for it: {done.last_words}.",
            code="CommandFailed",
            details=done.last_words,
        )
