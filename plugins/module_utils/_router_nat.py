# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a machine a router: forwarding, and NAT in an nft table of its own, now and at each boot.

PRIVATE to the collection. Touches no other table, and no rule of anybody else's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host, disk_errors

TABLE = "stargate_nat"
UNIT = "stargate-nat.service"
SYSCTLS = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
SYSCTL_FILE = "/etc/sysctl.d/90-stargate-router.conf"
RULES_FILE = "/etc/stargate/nat.nft"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
WANTED_BY = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"

# Debian's nftables.service empties the whole rule set when it starts, reloads or stops, hence After, PartOf and so on.
_UNIT_TEXT = f"""\
[Unit]
Description=NAT for the machines behind this router
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {RULES_FILE}
ExecReload=/usr/sbin/nft -f {RULES_FILE}
ExecStop=-/usr/sbin/nft delete table ip {TABLE}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class State:
    """What was found, or is wanted: files by name, sysctls by path, rules of our table, whether it starts at boot."""

    files: Mapping[str, str | None]
    sysctls: Mapping[str, str] = field(default_factory=dict)
    marks: Sequence[str] = ()
    enabled: bool = True

    def shown(self) -> dict[str, object]:
        """Return it for a diff."""
        return {
            "files": {name: text for name, text in self.files.items() if text is not None},
            "sysctls": dict(self.sysctls),
            "rules": list(self.marks),
            "enabled": self.enabled,
        }


def wanted(sources: Sequence[str], interface: str, known: Mapping[str, str]) -> State:
    """Return the state of a router that hides `sources` behind its own addresses on all but the inner interface.

    `known` has the sysctls that the kernel knows.
    """
    for source in sources:
        try:
            IPv4Network(source)
        except (AddressValueError, NetmaskValueError, ValueError) as error:
            raise Invalid(
                f"Failed to set up NAT: {source} is not an IPv4 network such as 192.168.100.0/24.", code="CidrInvalid"
            ) from error
    text = "".join(
        f'\t\tip saddr {source} ip daddr != {source} oifname != "{interface}" masquerade comment "%s"\n'
        for source in sources
    )
    mark = f"stargate {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    table = f"""\
table ip {TABLE} {{
\tchain postrouting {{
\t\ttype nat hook postrouting priority 100; policy accept;
{text.replace("%s", mark)}\t}}
}}
"""
    # Naming the table before deleting it makes the deletion right when there is none yet.
    rules = (
        f"# Written by Ansible: NAT for the machines behind this router.\ntable ip {TABLE}\ndelete table ip {TABLE}\n"
    )
    sysctls = {path: value for path, value in SYSCTLS.items() if path in known}
    lines = "".join(f"{path.replace('/', '.')} = {value}\n" for path, value in sysctls.items())
    files = {SYSCTL_FILE: lines, RULES_FILE: rules + table, UNIT_FILE: _UNIT_TEXT}
    return State(files, sysctls, [mark] * len(sources))


def found(host: Host) -> State:
    """Return what the machine has."""
    if not host.program("nft"):
        raise Invalid(
            "Failed to set up NAT: the program nft is not installed. Install the package nftables.",
            code="ProgramMissing",
        )
    values = {path: host.text(f"/proc/sys/{path}") for path in SYSCTLS}
    return State(
        files={name: host.text(name) for name in (SYSCTL_FILE, RULES_FILE, UNIT_FILE)},
        sysctls={path: value.strip() for path, value in values.items() if value is not None},
        marks=_marks(host),
        enabled=host.path(WANTED_BY).is_symlink(),
    )


def changes(before: State, after: State) -> list[str]:
    """Return what differs: file names, "forwarding", "rules", "boot"."""
    told = [name for name, text in after.files.items() if before.files.get(name) != text]
    told += ["forwarding"] * (before.sysctls != after.sysctls)
    told += ["rules"] * (list(before.marks) != list(after.marks))
    return told + ["boot"] * (not before.enabled)


def apply(host: Host, after: State, what: Sequence[str]) -> None:
    """Make the changes."""
    for name, text in after.files.items():
        if name in what:
            host.write(name, text or "")
    if "forwarding" in what:
        for path, value in after.sysctls.items():
            with disk_errors(f"set {path}"):
                host.path(f"/proc/sys/{path}").write_text(value, encoding="ascii")
    if UNIT_FILE in what or "boot" in what:
        host.must(["systemctl", "daemon-reload"], "read the units anew")
        host.must(["systemctl", "enable", UNIT], f"enable {UNIT}")
    if {RULES_FILE, UNIT_FILE, "rules", "boot"}.intersection(what):
        host.must(["systemctl", "restart", UNIT], "load the rules for NAT")


def _marks(host: Host) -> list[str]:
    """Return the comment of each rule in our table, "" for rules without; [] when there is no such table."""
    done = host.run(["nft", "-j", "list", "table", "ip", TABLE])
    if not done.ok:
        return []
    entries = json.loads(done.out).get("nftables", [])
    return [entry["rule"].get("comment", "") for entry in entries if "rule" in entry]
