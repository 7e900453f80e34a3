# SPDX-License-Identifier: Apache-2.0
"""Tasks about a site, on a directory of machines that only their definitions make; check mode first.

Real machines: tests/integration/test_prep_nspawn.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _site_module as module
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, save
from ansible_collections.stargate.core.plugins.module_utils._site_module import INPUTS

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"


class Site:
    """A site called r of the workers w1 and w2, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.places = Places(directory / "machines")
        self.environ = {"HOME": str(directory / "home")}
        self.directory = self.places.site("dc", "r")

    def run(self, state: str, *, check_mode: bool = False, machines: Any = None, **given: Any) -> dict[str, Any]:
        """Return the result of a task."""
        defaults = {name: option.get("default") for name, option in INPUTS.items()}
        ours = {"provider": "qemu", "network": "user", "namespace": "dc", "router_name": "r", "vm": "w1,w2"}
        inputs = {**defaults, **ours, "qemu_work_dir": str(self.places.machines_dir), "skip_server_cr": True, **given}
        params = {"state": state, "inputs": inputs, "machines": machines}
        return module.perform(params, self.environ, check_mode=check_mode)

    def make(self) -> list[dict[str, Any]]:
        """Make the definitions of the machines; returns what their module would tell."""
        roles = {"r": "router", "w1": "worker", "w2": "worker"}
        for name, role in roles.items():
            save(self.places, Definition(name, "dc", "r", "qemu", role))
        known = {"mac": "52:54:00:00:00:01", "address": "192.168.100.11", "host_keys": [KEY], "port": 0}
        return [{"name": name, "role": role, **known} for name, role in roles.items()]

    def end(self, *names: str) -> None:
        """Take machines away."""
        for name in names:
            shutil.rmtree(self.places.directory("dc", name))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a site that nobody has made yet."""
    return Site(tmp_path)


def test_plan(site: Site) -> None:
    """A plan makes the key pair at most, once, and not in check mode."""
    assert site.run("planned", check_mode=True)["changed"]
    assert not site.places.machines_dir.exists()
    made = site.run("planned")
    assert (made["changed"], made["site"]["workers"]) == (True, ["w1", "w2"])
    assert [path.name for path in sorted(site.directory.iterdir())] == ["id_ed25519", "id_ed25519.pub"]
    again = site.run("planned")
    assert (again["changed"], again["site"]["public_key"]) == (False, made["site"]["public_key"])


def test_files(site: Site, tmp_path: Path) -> None:
    """The files are written once; outputs go where they are asked to go."""
    site.run("planned")
    machines, elsewhere = site.make(), str(tmp_path / "outputs")
    assert site.run("present", machines=machines, check_mode=True)["changed"]
    assert not (site.directory / "site.json").exists()
    made = site.run("present", machines=machines, outputs_dir=elsewhere)
    assert made["changed"]
    assert [server["metadata"]["name"] for server in made["servers"]] == ["w1", "w2"]
    assert json.loads(Path(elsewhere, "r.json").read_text()) == made["outputs"]
    again = site.run("present", machines=machines, outputs_dir=elsewhere)
    assert (again["changed"], again["diff"]) == (False, [])


def test_what_there_is(site: Site) -> None:
    """A whole site has its router last and its files; some of its workers have neither."""
    site.run("planned")
    site.run("present", machines=site.make())
    whole = site.run("read", vm="")
    assert [machine["name"] for machine in whole["machines"]] == ["w1", "w2", "r"]
    assert (whole["servers"], whole["paths"], whole["site"]["whole"]) == ([""], [str(site.directory)], True)
    assert whole["list"] == ["machine w1", "machine w2", "machine r", str(site.directory)]
    assert site.run("read")["machines"] == whole["machines"]
    some = site.run("read", vm="w2,unknown")
    assert (some["list"], some["servers"], some["site"]["whole"]) == (["machine w2"], ["w2"], False)


def test_removing(site: Site) -> None:
    """The files go after the machines, not before, and once."""
    site.run("planned")
    site.run("present", machines=site.make())
    refused = site.run("absent", vm="")
    assert refused["failed"]
    assert "w1, w2, r still exist" in refused["msg"]
    site.end("w1", "w2", "r")
    assert site.run("absent", vm="", check_mode=True)["changed"]
    assert site.directory.exists()
    assert site.run("absent", vm="")["changed"]
    assert not site.directory.exists()
    assert not site.run("absent", vm="")["changed"]


@pytest.mark.parametrize("kubeconfig", ["/none", "/none:/neither"])
def test_a_kubeconfig_that_is_not_there(site: Site, kubeconfig: str) -> None:
    """A kubeconfig is looked for before anything is made."""
    refused = site.run("planned", kubeconfig=kubeconfig, skip_server_cr=False)
    assert refused["failure"]["code"] == "KubeconfigMissing"
    assert not site.places.machines_dir.exists()


def test_a_site_that_is_not_named(site: Site) -> None:
    """Without provider and router nobody knows which site is meant."""
    refused = site.run("read", provider="", router_name="")
    assert refused["failure"]["code"] == "InvalidInput"
