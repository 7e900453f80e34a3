# SPDX-License-Identifier: Apache-2.0
"""What makes a machine a router, on a directory that stands for its file system and with programs that are scripts.

The rules on a real router: tests/integration/test_prep_nspawn.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _router_nat as nat
from ansible_collections.stargate.core.plugins.module_utils import _worker_host
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host

LAN = "192.168.100.0/24"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a machine whose nft keeps its table in a file and whose systemctl writes down what it is told."""
    programs, root = tmp_path / "bin", tmp_path / "root"
    for path in nat.SYSCTLS:
        (root / "proc/sys" / path).parent.mkdir(parents=True)
        (root / "proc/sys" / path).write_text("0\n")
    programs.mkdir()
    scripts = {
        "nft": f"test -e {root}/table || exit 1\ncat {root}/table\n",
        "systemctl": (
            f'echo "$*" >>{root}/calls\n[ "$1" = enable ] || exit 0\n'
            f"mkdir -p {root}{Path(nat.WANTED_BY).parent}\nln -sf /x {root}{nat.WANTED_BY}\n"
        ),
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(_worker_host, "SYSTEM_PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return Host(root)


def loaded(host: Host, comments: list[str]) -> None:
    """Have nft show a table with rules that have these comments."""
    entries = [{"metainfo": {}}, *({"rule": {"comment": comment}} for comment in comments)]
    host.path("/table").write_text(json.dumps({"nftables": entries}))


def converge(host: Host) -> list[str]:
    """Do what the module does; returns what differed."""
    before = nat.found(host)
    after = nat.wanted([LAN], "lan", before.sysctls)
    what = nat.changes(before, after)
    nat.apply(host, after, what)
    loaded(host, list(after.marks))
    return what


def test_a_machine_becomes_a_router_once(host: Host) -> None:
    """Everything is written and loaded at first; then nothing differs and no program is told anything."""
    files = [nat.SYSCTL_FILE, nat.RULES_FILE, nat.UNIT_FILE]
    assert converge(host) == [*files, "forwarding", "rules", "boot"]
    assert host.text("/proc/sys/net/ipv4/ip_forward") == "1"
    calls = host.text("/calls") or ""
    assert calls.splitlines() == ["daemon-reload", f"enable {nat.UNIT}", f"restart {nat.UNIT}"]
    assert converge(host) == []
    assert host.text("/calls") == calls


@pytest.mark.parametrize("comments", [[], [""], ["stargate 0", "stargate 0"]])
def test_rules_that_went_missing_come_back(host: Host, comments: list[str]) -> None:
    """A table that somebody has emptied or filled is loaded anew; nothing is doubled."""
    converge(host)
    loaded(host, comments)
    host.path("/proc/sys/net/ipv4/ip_forward").write_text("0\n")
    assert converge(host) == ["forwarding", "rules"]
    assert (host.text("/calls") or "").splitlines()[3:] == [f"restart {nat.UNIT}"]


def test_without_ipv6(host: Host) -> None:
    """A kernel without IPv6 is not asked to forward it."""
    host.path("/proc/sys/net/ipv6/conf/all/forwarding").unlink()
    converge(host)
    assert host.text(nat.SYSCTL_FILE) == "net.ipv4.ip_forward = 1\n"


def test_a_diff_leaves_out_what_is_not_there(host: Host) -> None:
    """What a diff shows of a machine has the files that there are."""
    assert nat.found(host).shown()["files"] == {}
    converge(host)
    assert sorted(nat.found(host).shown()["files"]) == sorted([nat.SYSCTL_FILE, nat.RULES_FILE, nat.UNIT_FILE])


def test_without_nft(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program has its own code, so that the role can install it."""
    monkeypatch.setattr(_worker_host, "SYSTEM_PATH", "/nowhere")
    with pytest.raises(Invalid) as refused:
        nat.found(host)
    assert refused.value.code == "ProgramMissing"


@pytest.mark.parametrize("source", ["x", "10.0.0.1/24", "fd00::/64", '0.0.0.0/0" accept'])
def test_networks_that_are_none(source: str) -> None:
    """Only an IPv4 network gets into the rules."""
    with pytest.raises(Invalid) as refused:
        nat.wanted([source], "lan", {})
    assert refused.value.code == "CidrInvalid"


@pytest.mark.skipif(not shutil.which("nft", path="/usr/sbin:/sbin") or os.geteuid() != 0, reason="needs nft and root")
def test_nft_takes_the_rules(tmp_path: Path) -> None:
    """The real nft reads the file twice in a namespace, and has one rule per network after."""
    after = nat.wanted([LAN, "10.9.0.0/16"], "lan", {})
    path = tmp_path / "nat.nft"
    path.write_text(after.files[nat.RULES_FILE] or "")
    script = f"/usr/sbin/nft -f {path} && /usr/sbin/nft -f {path} && /usr/sbin/nft -j list table ip {nat.TABLE}"
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, check=True)
    rules = [entry["rule"] for entry in json.loads(done.stdout)["nftables"] if "rule" in entry]
    assert [rule["comment"] for rule in rules] == list(after.marks)
