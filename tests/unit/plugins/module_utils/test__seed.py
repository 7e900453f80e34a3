# SPDX-License-Identifier: Apache-2.0
"""NoCloud seeds: what a machine is told, that ours holds over a profile's cloud-init, and the disk that carries it.

That cloud-init reads them so is shown by tests/integration/test_nspawn.py.
"""

from __future__ import annotations

import email
import json
import shutil
import stat
import subprocess
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition
from ansible_collections.stargate.core.plugins.module_utils._seed import files, host_key, network_config, write_iso

WORKER = Definition(
    "w1",
    "ns",
    "gw",
    "qemu",
    "worker",
    address="192.168.100.11",
    mac="52:54:00:00:00:01",
    gateway="192.168.100.2",
    dns=["10.0.2.3"],
    user="ann",
    public_key="ssh-ed25519 AAAA ann@home",
)
PRIVATE, PUBLIC = "-----BEGIN KEY-----\nabc\n-----END KEY-----\n", "ssh-ed25519 BBBB"


def seed(definition: Definition) -> dict[str, str]:
    """Return a machine's seed."""
    return files(definition, instance_id="i-1", host_key_private=PRIVATE, host_key_public=PUBLIC)


def config(text: str) -> dict[str, Any]:
    """Return what a cloud-config says."""
    head, _, body = text.partition("\n")
    assert head == "#cloud-config"
    content: dict[str, Any] = json.loads(body)
    return content


def parts(definition: Definition) -> list[Message]:
    """Return the parts of user data in which cloud-init looks, in its order."""
    message = email.message_from_string(seed(definition)["user-data"])
    return [part for part in message.walk() if not part.is_multipart()]


def test_the_least_that_makes_a_host_reachable() -> None:
    """A host name, one user with one key who can become root, the host key made before, and nothing else."""
    told = seed(WORKER)
    assert json.loads(told["meta-data"]) == {"instance-id": "i-1", "local-hostname": "w1"}
    assert config(told["user-data"]) == {
        "users": [
            {
                "name": "ann",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "ssh_authorized_keys": ["ssh-ed25519 AAAA ann@home"],
            }
        ],
        "hostname": "w1",
        "preserve_hostname": False,
        "manage_etc_hosts": "localhost",
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": PRIVATE, "ed25519_public": PUBLIC},
    }


def test_networks() -> None:
    """Interfaces are found by hardware address; a worker has its router as gateway, a router its other interface."""
    worker = network_config(WORKER)["ethernets"]
    assert worker == {
        "lan": {
            "match": {"macaddress": "52:54:00:00:00:01"},
            "set-name": "lan",
            "addresses": ["192.168.100.11/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "192.168.100.2"}],
            "nameservers": {"addresses": ["10.0.2.3"]},
        }
    }
    router = network_config(replace(WORKER, gateway="", wan_mac="52:54:00:00:00:02"))
    assert router["version"] == 2
    assert router["ethernets"]["wan"] == {
        "match": {"macaddress": "52:54:00:00:00:02"},
        "set-name": "wan",
        "dhcp4": True,
    }
    assert "routes" not in router["ethernets"]["lan"]
    assert json.loads(seed(WORKER)["network-config"])["ethernets"] == worker


@pytest.mark.parametrize("extra", ["#cloud-config\nhostname: sim-worker-001\n", "#!/bin/sh\necho käse\n"])
def test_a_profiles_cloud_init_comes_first(extra: str) -> None:
    """The profile's part comes as it is, for cloud-init to tell its kind; ours come later and replace."""
    foreign, users, rest = parts(replace(WORKER, user_data=extra))
    payload = foreign.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert (foreign.get_content_type(), payload.decode()) == ("text/plain", extra)
    assert [part["Merge-Type"] for part in (users, rest)] == [
        "dict(no_replace,recurse_list)+list(prepend)+str()",
        "dict(replace)+list()+str()",
    ]
    assert set(config(str(users.get_payload()))) == {"users"}
    ours = config(str(rest.get_payload()))
    assert (ours["hostname"], ours["fqdn"], ours["prefer_fqdn_over_hostname"]) == ("w1", "w1", False)
    assert "users" not in ours


def test_a_profile_of_several_parts() -> None:
    """A profile that is a message of many parts already keeps them."""
    head = 'Content-Type: multipart/mixed; boundary="x"\nMIME-Version: 1.0\n\n'
    nested = head + "--x\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--x--\n"
    kinds = [part.get_content_type() for part in parts(replace(WORKER, user_data=nested))]
    assert kinds == ["text/x-shellscript", "text/cloud-config", "text/cloud-config"]


def test_seeds_do_not_vary() -> None:
    """The same definition gives the same seed."""
    definition = replace(WORKER, user_data="#cloud-config\n{}\n")
    assert seed(definition) == seed(definition)


def test_a_host_key_is_made_once(tmp_path: Path) -> None:
    """The key stays the same and its private part private; half a key is no key."""
    private, public = host_key(tmp_path / "m")
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert (public.split()[0], len(public.split())) == ("ssh-ed25519", 2)
    assert host_key(tmp_path / "m") == (private, public)
    assert stat.S_IMODE((tmp_path / "m/hostkey").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["hostkey", "hostkey.pub"]
    (tmp_path / "m/hostkey.pub").unlink()
    assert host_key(tmp_path / "m")[1] != public


@pytest.mark.skipif(not shutil.which("xorriso"), reason="xorriso is not installed")
def test_a_disk_with_a_seed(tmp_path: Path) -> None:
    """The disk has cloud-init's label and the files, can be read by its owner only, and leaves no scratch."""
    path = tmp_path / "seeds" / "seed.iso"
    write_iso(seed(WORKER), path)
    listing = subprocess.run(
        ["xorriso", "-indev", str(path), "-find", "/", "-type", "f"], check=True, capture_output=True, text=True
    )
    names = {line.strip("'/") for line in listing.stdout.splitlines() if line.startswith("'/")}
    assert names == {"meta-data", "user-data", "network-config"}
    assert "CIDATA" in listing.stderr
    assert (path.stat().st_mode & 0o777, [p.name for p in path.parent.iterdir()]) == (0o600, ["seed.iso"])


def test_no_program_for_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any of the programs that make such disks, the first one's package is named."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(Invalid, match="apt-get install xorriso") as caught:
        write_iso({}, tmp_path / "seed.iso")
    assert caught.value.code == "ProgramMissing"
