# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is told at its first boot: NoCloud files, the ISO that carries them, and the host key in them.

PRIVATE to the collection. Makes a host reachable and stops there; all else is a role's work. The files are JSON,
which is YAML too, as no YAML library is sure to be at hand.
"""

from __future__ import annotations

import email
import json
import tempfile
from collections.abc import Mapping
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._lease import digest
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, make_directory, write
from ansible_collections.stargate.core.plugins.module_utils._program import found, run

# How cloud-init merges what it reads later into what it has: ours replaces; our user comes before those of others.
_REPLACE = "dict(replace)+list()+str()"
_PREPEND = "dict(no_replace,recurse_list)+list(prepend)+str()"


def files(definition: Definition, *, instance_id: str, host_key_private: str, host_key_public: str) -> dict[str, str]:
    """Return the NoCloud files by name: meta-data, user-data, network-config."""
    users = {"users": [_user(definition)]}
    rest = {
        "hostname": definition.name,
        "preserve_hostname": False,
        "manage_etc_hosts": "localhost",  # sudo looks its host up
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key_private.rstrip("\n") + "\n", "ed25519_public": host_key_public},
    }
    return {
        "meta-data": _text({"instance-id": instance_id, "local-hostname": definition.name}),
        "user-data": _merged(definition, users, rest) if definition.user_data else _cloud_config({**users, **rest}),
        "network-config": _text(network_config(definition)),
    }


def network_config(definition: Definition) -> dict[str, Any]:
    """Return the interfaces, found by their hardware addresses: lan, and wan where the machine has one."""
    lan: dict[str, Any] = {
        "match": {"macaddress": definition.mac},
        "set-name": "lan",
        "addresses": [f"{definition.address}/{ip_network(definition.cidr).prefixlen}"],
    }
    if definition.gateway:
        lan["routes"] = [{"to": "0.0.0.0/0", "via": definition.gateway}]
        lan["nameservers"] = {"addresses": list(definition.dns)}
    interfaces = {"lan": lan}
    if definition.wan_mac:
        interfaces["wan"] = {"match": {"macaddress": definition.wan_mac}, "set-name": "wan", "dhcp4": True}
    return {"version": 2, "ethernets": interfaces}


def write_iso(content: Mapping[str, str], path: Path) -> None:
    """Make the image of a disk that cloud-init finds by its label."""
    doing = f"make seed {path}"
    program = found("xorrisofs", "genisoimage", "mkisofs", doing=doing)
    make_directory(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".seed-") as scratch:
        for name, text in content.items():
            write(Path(scratch) / "files" / name, text)
        draft = Path(scratch) / "seed.iso"
        run(
            [program, "-quiet", "-V", "CIDATA", "-J", "-r", "-o", str(draft), str(draft.with_name("files"))],
            doing=doing,
        )
        draft.chmod(0o600)
        draft.replace(path)


def host_key(directory: Path) -> tuple[str, str]:
    """Return a machine's host key, private and public ("ssh-ed25519 AAAA..."), made when it has none yet."""
    path = directory / "hostkey"
    make_directory(directory)
    if not path.exists() or not path.with_name("hostkey.pub").exists():
        with tempfile.TemporaryDirectory(dir=directory, prefix=".hostkey-") as scratch:
            draft = Path(scratch) / "hostkey"
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(draft)], doing=f"make key {path}")
            draft.with_name("hostkey.pub").replace(path.with_name("hostkey.pub"))
            draft.replace(path)
    public = path.with_name("hostkey.pub").read_text(encoding="utf-8")
    return path.read_text(encoding="utf-8"), " ".join(public.split()[:2])


def _user(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.user,
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
        "ssh_authorized_keys": [definition.public_key],
    }


def _merged(definition: Definition, users: Mapping[str, Any], rest: Mapping[str, Any]) -> str:
    """Return the extra cloud-init and ours in one message; of what both say, ours holds."""
    named = {**rest, "fqdn": definition.name, "prefer_fqdn_over_hostname": False}
    parts = [_foreign(definition.user_data), _part(users, _PREPEND), _part(named, _REPLACE)]
    boundary = f"stargate-{digest(definition.user_data)[:32]}"
    return str(MIMEMultipart("mixed", boundary, parts))


def _foreign(text: str) -> Message:
    """Return extra cloud-init of any kind as one part; cloud-init tells the kind by the first line."""
    if text.lstrip().lower().startswith(("content-type:", "mime-version:")):
        return email.message_from_string(text.lstrip())
    return MIMEText(text, "plain", "utf-8")


def _part(config: Mapping[str, Any], merge: str) -> Message:
    part = MIMEText(_cloud_config(config), "cloud-config", "us-ascii")
    part["Merge-Type"] = merge
    return part


def _cloud_config(config: Mapping[str, Any]) -> str:
    return "#cloud-config\n" + _text(config)


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
