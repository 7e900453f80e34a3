# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site with its machines looks like from outside: Servers, SSH configuration, outputs; pure.

PRIVATE to the collection. How a Server is reached is _server.py's mapping, used here for the site's own files.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._server import (
    DEFAULT_PORT,
    hostname,
    pinned_keys,
    router_key_alias,
)
from ansible_collections.stargate.core.plugins.module_utils._ssh_config import ssh_config

Object = Mapping[str, Any]
LOOPBACK = "127.0.0.1"


def servers(site: Object, machines: Sequence[Object]) -> list[dict[str, Any]]:
    """Return a Server per worker, with what is known of it and nothing else. `machines` are results of the modules."""
    router = next((machine for machine in machines if machine["name"] == site["router"]), None)
    if router is None:
        raise Invalid(f"Failed to describe site {site['name']}: its router is not among the machines.")
    return [_server(site, router, machine) for machine in machines if machine["role"] == "worker"]


def known_hosts(found: Sequence[Object], extra: Sequence[str] = ()) -> str:
    """Return the known_hosts file of some Servers, their router included, and of `extra` lines."""
    lines = dict.fromkeys(line for server in found for line in pinned_keys(server))
    return "".join(f"{line}\n" for line in dict.fromkeys([*lines, *extra]))


def ssh_files(site: Object, machines: Sequence[Object], paths: Mapping[str, str]) -> tuple[str, str]:
    """Return the SSH configuration and known_hosts. `paths` has private_key and known_hosts.

    Each machine has its own name beside "<name>.<namespace>", for people who use `ssh -F`.
    """
    found = servers(site, machines)
    # The router is no Server, but stands like one: its block is that of a host without a router.
    router = next(machine for machine in machines if machine["name"] == site["router"])
    key = _router_server(site, router)
    hosts = [
        {
            "server": server,
            "user": site["admin_username"],
            "private_key_file": paths["private_key"],
            "known_hosts": paths["known_hosts"],
        }
        for server in (key, *found)
    ]
    try:
        text = ssh_config(hosts)
    except ValueError as error:
        raise Invalid(str(error)) from error
    for server in (key, *found):
        text = text.replace(f"Host {hostname(server)}\n", f"Host {hostname(server)} {server['metadata']['name']}\n")
    return text, known_hosts((key, *found))


def outputs(site: Object, machines: Sequence[Object], paths: Mapping[str, str]) -> dict[str, Any]:
    """Return what later steps need to know, for the JSON file."""
    found = servers(site, machines)
    router = next(machine for machine in machines if machine["name"] == site["router"])
    return {
        "site": site["name"],
        "namespace": site["namespace"],
        "provider": site["provider"],
        "network": site["network"],
        "cidr": site["cidr"],
        "router": {
            "name": site["router"],
            "address": _router_address(router)[0],
            "port": _router_address(router)[1],
            "lan_address": router["address"],
        },
        "servers": [_told(server) for server in found],
        "admin_username": site["admin_username"],
        "ssh_config": paths["ssh_config"],
        "known_hosts": paths["known_hosts"],
        "ssh_private_key": paths["private_key"],
        "ssh_public_key": paths["public_key"],
        "machines_dir": paths["machines_dir"],
        "kubeconfig": paths["kubeconfig"],
    }


def json_text(content: Object) -> str:
    """Return the JSON file of the outputs."""
    return json.dumps(content, indent=2) + "\n"


def env_text(content: Object) -> str:
    """Return the outputs as assignments that a POSIX shell can source."""
    values = {
        "STARGATE_SITE": content["site"],
        "STARGATE_NAMESPACE": content["namespace"],
        "STARGATE_PROVIDER": content["provider"],
        "STARGATE_CIDR": content["cidr"],
        "STARGATE_ROUTER": content["router"]["name"],
        "STARGATE_ROUTER_IP": content["router"]["address"],
        "STARGATE_ROUTER_PORT": str(content["router"]["port"]),
        "STARGATE_SERVERS": " ".join(server["name"] for server in content["servers"]),
        "STARGATE_ADMIN_USERNAME": content["admin_username"],
        "STARGATE_SSH_CONFIG": content["ssh_config"],
        "STARGATE_SSH_PRIVATE_KEY": content["ssh_private_key"],
        "STARGATE_MACHINES_DIR": content["machines_dir"],
        **({"KUBECONFIG": content["kubeconfig"]} if content["kubeconfig"] else {}),
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _server(site: Object, router: Object, machine: Object) -> dict[str, Any]:
    address, port = _router_address(router)
    spec = {
        "mac": machine["mac"],
        "ipv4": machine["address"],
        "provider": site["provider"],
        "routerIP": address,
        "routerPort": port,
        **({"podCIDR": machine["pod_cidr"]} if machine.get("pod_cidr") else {}),
    }
    server = {"metadata": {"name": machine["name"], "namespace": site["namespace"]}, "spec": spec}
    own = [f"{hostname(server)} {key}" for key in machine["host_keys"]]
    routers = [f"{router_key_alias(server)} {key}" for key in router["host_keys"]]
    return {**server, "spec": {**spec, "sshHostKeys": [*own, *routers]}}


def _router_server(site: Object, router: Object) -> dict[str, Any]:
    address, port = _router_address(router)
    server = {
        "metadata": {"name": router["name"], "namespace": site["namespace"]},
        "spec": {"ipv4": address, "sshPort": port},
    }
    keys = [f"{hostname(server)} {key}" for key in router["host_keys"]]
    return {**server, "spec": {**server["spec"], "sshHostKeys": keys}}


def _router_address(router: Object) -> tuple[str, int]:
    """Return where the router's SSH server is for this host: a forwarded port, else the machine itself."""
    return (LOOPBACK, int(router["port"])) if router.get("port") else (str(router["address"]), DEFAULT_PORT)


def _told(server: Object) -> dict[str, Any]:
    spec = server["spec"]
    return {
        "name": server["metadata"]["name"],
        "address": spec["ipv4"],
        "mac": spec["mac"],
        "podCIDR": spec.get("podCIDR", ""),
    }
