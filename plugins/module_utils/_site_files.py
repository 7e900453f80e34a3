# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a site: its record, its key pair, known hosts, SSH configuration and outputs.

PRIVATE to the collection. Reads and writes below the site's directory and the outputs directory, nothing else; what
is in the files is _site_view.py's question.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._machine import Places, make_directory, write
from ansible_collections.stargate.core.plugins.module_utils._program import run
from ansible_collections.stargate.core.plugins.module_utils._site import Facts, Known

USUAL_KEYS = ("id_rsa", "id_ed25519")
OWN_KEY = "id_ed25519"
RECORD = "site.json"
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")


@dataclass(frozen=True)
class KeyPair:
    """How machines let their administrator in. `is_new` when it was made just now, or would be."""

    public_key: str
    public_path: str
    private_path: str
    is_new: bool = False


def facts(places: Places, namespace: str, environ: Mapping[str, str]) -> Facts:
    """Return what the host has that a plan must know."""
    known = {m.name: Known(m.site, m.provider, m.role) for m in places.machines() if m.namespace == namespace}
    return Facts(
        is_root=os.geteuid() == 0,
        deploy_num=environ.get("DEPLOY_NUM", ""),
        cache_dir=environ.get("STARGATE_CACHE_DIR") or str(home(environ, of_sudo=False) / ".cache" / "stargate"),
        known=known,
        kind_of=kind_of,
    )


def kind_of(path: str) -> str:
    """Return "file" or "directory", "" when there is neither."""
    place = Path(path).expanduser()
    return "directory" if place.is_dir() else "file" if place.exists() else ""


def home(environ: Mapping[str, str], *, of_sudo: bool = True) -> Path:
    """Return the home directory, under sudo that of the user who called it."""
    caller = environ.get("SUDO_USER", "")
    if of_sudo and os.geteuid() == 0 and caller:
        try:
            return Path(pwd.getpwnam(caller).pw_dir)
        except KeyError:
            pass
    return Path(environ.get("HOME") or Path.home())


def record(directory: Path) -> dict[str, Any]:
    """Return what is recorded of a site, {} when there is no such site."""
    path = directory / RECORD
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Invalid(f"Failed to read {path}: {error}.", code="RecordBroken") from error
    return content if isinstance(content, dict) else {}


def key_pair(inputs: Mapping[str, Any], directory: Path, user_home: Path, *, check_mode: bool) -> KeyPair:
    """Return the pair that is asked for, else the site's, else the user's usual one, else one made for the site."""
    known = record(directory)
    usual = [str(user_home / ".ssh" / f"{name}.pub") for name in USUAL_KEYS]
    candidates = [known.get("ssh_public_key") or "", str(directory / f"{OWN_KEY}.pub"), *usual]
    public = inputs["ssh_public_key"] or next((path for path in candidates if path and Path(path).exists()), "")
    if not public:
        return _made(directory, check_mode=check_mode)
    public_path = Path(public).expanduser().absolute()
    text = _public_key(public_path)
    private = inputs["ssh_private_key"] or (known.get("ssh_private_key") if not inputs["ssh_public_key"] else "")
    private_path = Path(private or str(public_path).removesuffix(".pub")).expanduser().absolute()
    if not private_path.is_file() or private_path == public_path:
        raise Invalid(
            f"Failed to find the private key of {public_path}: {private_path} is not it. Name it by ssh_private_key.",
            code="KeyInvalid",
        )
    return KeyPair(text, str(public_path), str(private_path))


def kubeconfig(option: str, environ: Mapping[str, str]) -> str:
    """Return the kubeconfig: the option, KUBECONFIG, or the user's own; "" when there is none. May be several files."""
    named = (option or environ.get("KUBECONFIG", "")).split(os.pathsep)
    usual = home(environ) / ".kube" / "config"
    paths = [Path(path).expanduser().absolute() for path in named if path] or [usual] * usual.is_file()
    return os.pathsep.join(str(path) for path in paths)


def differences(files: Mapping[Path, str]) -> list[dict[str, str]]:
    """Return a diff for each file that does not have its text yet."""
    before = {path: path.read_text(encoding="utf-8") if path.is_file() else "" for path in files}
    return [
        {"before_header": str(path), "after_header": str(path), "before": before[path], "after": text}
        for path, text in files.items()
        if before[path] != text
    ]


def write_all(files: Mapping[Path, str]) -> None:
    """Write the files; each is whole or as it was."""
    for path, text in files.items():
        write(path, text)


def leftovers(directory: Path) -> list[str]:
    """Return the paths that belong to a site: its directory and its outputs elsewhere."""
    outputs = [path for path in record(directory).get("outputs", ()) if Path(path).is_file()]
    inside = [path for path in outputs if Path(path).parent == directory]
    return [*([str(directory)] if directory.exists() else []), *(path for path in outputs if path not in inside)]


def remove(directory: Path) -> None:
    """Remove a site's files, its lock included; a namespace's directory that is empty then goes too."""
    for path in map(Path, leftovers(directory)):
        if path != directory:
            path.unlink(missing_ok=True)
    if directory.exists():
        shutil.rmtree(directory)
    directory.with_name(f".{directory.name}.lock").unlink(missing_ok=True)
    parent = directory.parent
    if parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()


def _public_key(path: Path) -> str:
    if not path.is_file():
        raise Invalid(f"Failed to read the public key {path}: no such file. Check ssh_public_key.", code="KeyInvalid")
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if "PRIVATE KEY" in text:
        raise Invalid(
            f"Failed to read the public key {path}: it is a private key. Give the file that ends in .pub.",
            code="KeyInvalid",
        )
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1 or not lines[0].startswith(_KEY_TYPES) or len(lines[0].split()) < 2:
        raise Invalid(
            f"Failed to read the public key {path}: it does not have one public key of OpenSSH and nothing else.",
            code="KeyInvalid",
        )
    return lines[0]


def _made(directory: Path, *, check_mode: bool) -> KeyPair:
    """Make a key pair for this site alone; in check mode, one that is thrown away."""
    target = directory / OWN_KEY
    make_directory(Path(tempfile.gettempdir()) if check_mode else directory)
    with tempfile.TemporaryDirectory(dir=None if check_mode else directory, prefix=".key-") as scratch:
        draft = Path(scratch) / OWN_KEY
        comment = directory.name.removesuffix(".site")
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(draft)], doing=f"make {target}")
        public = draft.with_name(f"{OWN_KEY}.pub")
        text = public.read_text(encoding="utf-8").strip()
        if not check_mode:
            draft.replace(target)
            public.replace(target.with_name(f"{OWN_KEY}.pub"))
    return KeyPair(text, f"{target}.pub", str(target), is_new=True)
