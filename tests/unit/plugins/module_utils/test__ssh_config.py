# SPDX-License-Identifier: Apache-2.0
"""What OpenSSH itself makes of the configuration for Servers, and what is never written into one.

Addresses, names and pinned keys are test__server.py's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _server, _ssh_config

Object = dict[str, Any]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8Zx9Zx9Zx9Zx9Zx9Zx9Zx9"
HOSTILE = [
    "{{ x }}",
    "$(touch /tmp/x)",
    "-oProxyCommand=id",
    "a b",
    "a\nProxyCommand id",
    "a;id",
    "*",
    "!x",
    'a"b',
    "ü",
]
ODD: list[Any] = [None, [], {}, "", 0, -1, True, 3.5, "text", ["x"], {"x": None}, [None]]


def server(name: str = "server-001", namespace: str = "dc-west", **spec: Any) -> Object:
    """Return a Server with an address and what else is given."""
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ipv4": "10.0.1.5", **spec}}


def profile(**spec: Any) -> Object:
    """Return a profile with the given spec."""
    return {"metadata": {"name": "os-2", "namespace": "dc-west"}, "spec": spec}


def resolved(config: str, alias: str, directory: Path) -> dict[str, str]:
    """Return what ssh itself makes of a configuration, by option."""
    (directory / "config").write_text(config, encoding="utf-8")
    command = ["ssh", "-G", "-F", str(directory / "config"), alias]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in output.splitlines() if " " in line)


def test_ssh_understands_the_configuration(tmp_path: Path) -> None:
    """A host behind a router is reached through it, each with its own alias, and known keys are asked for."""
    item = server(routerIP="100.64.0.1", sshPort=2222, sshHostKeys=[f"server-001.dc-west {KEY}"])
    files = {"private_key_file": "/run/key", "known_hosts": "/run/known", "control_path": "/run/cm-%C"}
    config = _ssh_config.ssh_config([{"server": item, "profile": profile(adminUsername="admin"), **files}])
    host = resolved(config, "server-001.dc-west", tmp_path)
    wanted = {"hostname": "10.0.1.5", "port": "2222", "user": "admin", "identityfile": "/run/key", "batchmode": "yes"}
    wanted |= {"hostkeyalias": "server-001.dc-west", "stricthostkeychecking": "true", "connecttimeout": "10"}
    wanted |= {"serveraliveinterval": "15", "serveralivecountmax": "4", "userknownhostsfile": "/run/known"}
    assert host | wanted == host
    assert (host["controlmaster"], host["identitiesonly"]) == ("false", "yes")
    router = resolved(config, host["proxyjump"], tmp_path)
    wanted = {"hostname": "100.64.0.1", "port": "22", "user": "admin", "controlmaster": "auto"}
    wanted |= {"hostkeyalias": "router:dc-west:100.64.0.1", "stricthostkeychecking": "accept-new"}
    assert router | wanted == router
    assert "proxyjump" not in router
    assert router["controlpath"].startswith("/run/cm-")


def test_a_router_behind_a_forwarded_port(tmp_path: Path) -> None:
    """Two routers behind ports of one address are two blocks, each with its port and a key of its own."""
    hosts = [{"server": server(f"s{port}", routerIP="127.0.0.1", routerPort=port)} for port in (2221, 2222)]
    config = _ssh_config.ssh_config(hosts)
    routers = [
        resolved(config, resolved(config, f"s{port}.dc-west", tmp_path)["proxyjump"], tmp_path) for port in (2221, 2222)
    ]
    assert [(r["hostname"], r["port"], r["hostkeyalias"]) for r in routers] == [
        ("127.0.0.1", "2221", "router:dc-west:127.0.0.1:2221"),
        ("127.0.0.1", "2222", "router:dc-west:127.0.0.1:2222"),
    ]


def test_hosts_share_a_router_block() -> None:
    """There is one block per router, user and key, and a key that one host pins for it counts for all."""
    pinned = f"router:dc-west:100.64.0.1 {KEY}"
    hosts = [{"server": server(f"s{n}", routerIP="100.64.0.1")} for n in range(50)]
    hosts[0]["server"]["status"] = {"sshHostKeys": [pinned]}
    config = _ssh_config.ssh_config([*hosts, {"server": server("x", routerIP="100.64.0.1"), "user": "other"}])
    assert config.count("Host router_") == 2
    assert config.count("HostKeyAlias router:dc-west:100.64.0.1\n  StrictHostKeyChecking yes") == 2
    assert config.count("ProxyJump router_") == 51


def test_a_direct_host_needs_little() -> None:
    """Without router, key and files there is one block; without an address, one that leads nowhere."""
    assert _ssh_config.ssh_config([]) == ""
    config = _ssh_config.ssh_config([{"server": {**server(), "spec": {}}}])
    assert "HostName server-001.dc-west.invalid\n" in config
    assert [word for word in ("IdentityFile", "ProxyJump", "UserKnownHostsFile", "ControlPath") if word in config] == []


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["user", "private_key_file", "known_hosts", "control_path"])
def test_ssh_configuration_refuses_hostile_files(field: str, text: str) -> None:
    """A user or path that ssh could take for more than itself is refused with a sentence."""
    with pytest.raises(ValueError, match=r"^Failed to write the SSH configuration of Server server-001\.dc-west: "):
        _ssh_config.ssh_config([{"server": server(), field: text}])


@pytest.mark.parametrize("odd", [*ODD, *HOSTILE])
def test_ssh_configuration_refuses_odd_servers(odd: Any) -> None:
    """What problems() names never gets into a configuration."""
    item = server(routerIP=odd, ipv4=odd)
    if _server.problems(item):
        with pytest.raises(ValueError, match=r"spec\.ipv4"):
            _ssh_config.ssh_config([{"server": item}])
    with pytest.raises(ValueError, match="without a name"):
        _ssh_config.ssh_config([{"server": odd}])
