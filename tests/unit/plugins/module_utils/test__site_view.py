# SPDX-License-Identifier: Apache-2.0
"""What a site looks like from outside: Servers, SSH configuration, outputs.

That ssh takes the configuration as it is meant is asked of ssh itself.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._site_view import env_text, outputs, servers, ssh_files

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"
SITE = {
    "name": "r",
    "router": "r",
    "namespace": "dc",
    "provider": "qemu",
    "network": "user",
    "cidr": "192.168.100.0/24",
    "admin_username": "ubuntu",
}


def machine(name: str, role: str = "worker", **facts: Any) -> dict[str, Any]:
    """Return a machine as its module tells of it."""
    known = {"name": name, "role": role, "mac": "52:54:00:00:00:01", "host_keys": [KEY + name], "port": 0}
    return {**known, "address": "192.168.100.11", "pod_cidr": "10.244.1.0/24", **facts}


BEHIND_A_PORT = [machine("r", "router", address="192.168.100.2", port=20022, pod_cidr=""), machine("w")]
ON_A_BRIDGE = [machine("r", "router", address="192.168.100.2", pod_cidr=""), machine("w")]


def test_servers_of_a_user_network() -> None:
    """A worker is reached through the forwarded port, and both host keys are known under their names."""
    (server,) = servers(SITE, BEHIND_A_PORT)
    assert server["metadata"] == {"name": "w", "namespace": "dc"}
    assert server["spec"] == {
        "mac": "52:54:00:00:00:01",
        "ipv4": "192.168.100.11",
        "provider": "qemu",
        "routerIP": "127.0.0.1",
        "routerPort": 20022,
        "podCIDR": "10.244.1.0/24",
        "sshHostKeys": [f"w.dc {KEY}w", f"router:dc:127.0.0.1:20022 {KEY}r"],
    }


def test_servers_of_a_bridge() -> None:
    """On a bridge the router has an address of its own."""
    (server,) = servers(SITE, ON_A_BRIDGE)
    assert (server["spec"]["routerIP"], server["spec"]["routerPort"]) == ("192.168.100.2", 22)
    assert server["spec"]["sshHostKeys"][1] == f"router:dc:192.168.100.2 {KEY}r"


def test_a_site_without_its_router() -> None:
    """Without the router nothing can be said."""
    with pytest.raises(Invalid, match="its router is not among"):
        servers(SITE, [machine("w")])


def test_values_that_ssh_would_misread() -> None:
    """A path that could mean more to ssh than itself is refused with a sentence."""
    with pytest.raises(Invalid, match="private key"):
        ssh_files(SITE, ON_A_BRIDGE, {"private_key": "/a b", "known_hosts": "/k"})


@pytest.mark.parametrize("machines", [BEHIND_A_PORT, ON_A_BRIDGE])
def test_ssh_reads_the_configuration(tmp_path: Path, machines: list[dict[str, Any]]) -> None:
    """For ssh, the worker's short name means the address behind the router, with its key checked."""
    paths = {"private_key": "/keys/site", "known_hosts": str(tmp_path / "known_hosts")}
    config, known = ssh_files(SITE, machines, paths)
    (tmp_path / "config").write_text(config)
    seen = {}
    for host in ("w", "w.dc", "r"):
        done = subprocess.run(
            ["ssh", "-G", "-F", str(tmp_path / "config"), host], capture_output=True, text=True, check=True
        )
        seen[host] = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert seen["w"]["hostname"] == seen["w.dc"]["hostname"] == "192.168.100.11"
    assert seen["w"]["hostkeyalias"] == "w.dc"
    assert seen["w"]["stricthostkeychecking"] == seen["r"]["stricthostkeychecking"] == "true"
    assert seen["w"]["proxyjump"].startswith("router_")
    assert seen["r"]["port"] == str(machines[0]["port"] or 22)
    assert sorted(line.split()[0] for line in known.splitlines())[1:] == ["router:dc:" + known_router(machines), "w.dc"]


def known_router(machines: list[dict[str, Any]]) -> str:
    """Return the end of the router's alias."""
    return "127.0.0.1:20022" if machines[0]["port"] else "192.168.100.2"


def test_outputs() -> None:
    """The outputs have what later steps need, and a shell reads them whatever is in a path."""
    paths = dict.fromkeys(("ssh_config", "known_hosts", "private_key", "public_key", "machines_dir"), "/a b/$x'")
    content = outputs(SITE, BEHIND_A_PORT, {**paths, "kubeconfig": "/k"})
    assert content["router"] == {"name": "r", "address": "127.0.0.1", "port": 20022, "lan_address": "192.168.100.2"}
    assert [server["name"] for server in content["servers"]] == ["w"]
    script = env_text(content) + 'printf "%s|%s|%s" "$STARGATE_SERVERS" "$STARGATE_SSH_CONFIG" "$KUBECONFIG"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "w|/a b/$x'|/k"
    assert "KUBECONFIG" not in env_text({**content, "kubeconfig": ""})
    assert json.loads(json.dumps(content)) == content
