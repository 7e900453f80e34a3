# SPDX-License-Identifier: Apache-2.0
"""The plays that the benchmark runs besides the built-in ones, and inventories for Ansible without Stargate.

Playbooks and inventories are JSON, which is YAML; nothing is run here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _server
from bench.objects import Object


def _play(name: str, tasks: list[Object]) -> list[Object]:
    done = {"stargate": {"message": f"{name} is done", "final": True}}
    report = {
        "name": "Report the result",
        "ansible.builtin.set_stats": {"data": done, "per_host": True, "aggregate": False},
    }
    head = {"name": name, "hosts": "all", "gather_facts": False, "strategy": "ansible.builtin.free"}
    return [{**head, "tasks": [*tasks, report]}]


def nothing() -> list[Object]:
    """Return the shortest play that says that it is done."""
    return _play("Nothing", [])


def look_around() -> list[Object]:
    """Return a play of five tasks over SSH, each a module in a fresh Python on the host, which changes nothing."""
    release = "/etc/os-release"
    return _play(
        "Look around",
        [
            {"name": "Answer", "ansible.builtin.ping": {}},
            {"name": "Find the release", "ansible.builtin.stat": {"path": release}},
            {"name": "Read the release", "ansible.builtin.slurp": {"src": release}},
            {"name": "Ask the kernel", "ansible.builtin.command": {"argv": ["uname", "-r"]}, "changed_when": False},
            {"name": "Gather facts", "ansible.builtin.setup": {"gather_subset": ["!all", "!min", "platform"]}},
        ],
    )


def write_playbooks(directory: Path) -> Path:
    """Write the plays as operations `nothing` and `look-around`; returns the directory."""
    directory.mkdir(parents=True)
    for name, play in (("nothing", nothing()), ("look-around", look_around())):
        (directory / f"{name}.yml").write_text(json.dumps(play), encoding="utf-8")
    return directory


def write_inventory(path: Path, servers: Sequence[Object], *, variables: Mapping[str, Any], profile: Object) -> Path:
    """Write a static inventory of Servers, with the variables that the built-in plays use; returns its path."""
    hosts = {}
    for server in servers:
        found = _server.hostvars(server, profile, datacenters=variables.get("datacenters"))
        wanted = {key: found[key] for key in ("stargate_name", "stargate_server", "stargate_profile", "stargate_dc")}
        address = {"ansible_host": server["spec"]["ipv4"], "ansible_port": server["spec"].get("sshPort", 22)}
        hosts[_server.hostname(server)] = {**wanted, **address}
    shared = {key: value for key, value in variables.items() if key != "datacenters"}
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}), encoding="utf-8")
    return path
