# SPDX-License-Identifier: Apache-2.0
"""The inventory plugin as Ansible loads it, on snapshot files: hosts, groups, filters, templates, errors.

What needs an API server is in tests/integration/test_inventory.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar

Object = dict[str, Any]


def server(name: str, namespace: str = "dc-west", *, state: str = "ready", **spec: Any) -> Object:
    """Return a Server with an address."""
    metadata = {"name": name, "namespace": namespace, "labels": {"rack": "r1"}}
    return {"metadata": metadata, "spec": {"ipv4": "10.0.1.5", **spec}, "status": {"state": state}}


class Source:
    """An inventory file in a directory, with a snapshot beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warnings: list[str] = []
        self.details: list[str] = []

    def parse(self, content: Any, *, name: str = "x.stargate.yml", **options: Any) -> InventoryData:
        """Write both files and return what the plugin makes of them."""
        text = content if isinstance(content, str) else json.dumps(content)
        (self.directory / "snapshot.json").write_text(text, encoding="utf-8")
        path = self.directory / name
        source = {"plugin": "stargate.core.servers", "snapshot": "snapshot.json", **options}
        path.write_text(yaml.safe_dump(source), encoding="utf-8")
        plugin = inventory_loader.get("stargate.core.servers")
        plugin.display.warning = self.warnings.append
        plugin.display.v = self.details.append
        inventory = InventoryData()
        assert plugin.verify_file(str(path))
        plugin.parse(inventory, DataLoader(), str(path))
        inventory.reconcile_inventory()
        return inventory


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Return an inventory file that is not written yet; what is displayed is kept in it."""
    display = inventory_loader.get("stargate.core.servers").display
    monkeypatch.setattr(display, "warning", display.warning)
    monkeypatch.setattr(display, "v", display.v)
    return Source(tmp_path)


def names(inventory: InventoryData) -> list[str]:
    """Return the names of the hosts."""
    return sorted(inventory.hosts)


def test_hosts_groups_and_variables(source: Source) -> None:
    """Each Server is a host with its groups and variables; its profile is found in its own namespace only."""
    profiles = [{"metadata": {"name": "p", "namespace": "dc-west"}, "spec": {"adminUsername": "admin"}}]
    servers = [server("a", provisioningProfile="p"), server("a", "dc-east", provisioningProfile="p", provider="qemu")]
    inventory = source.parse({"servers": servers, "profiles": profiles})
    west, east = inventory.hosts["a.dc-west"].vars, inventory.hosts["a.dc-east"].vars
    assert (west["ansible_user"], west["stargate_profile"]) == ("admin", profiles[0])
    assert (east["ansible_user"], east["stargate_profile"], east["stargate_strategy"]) == ("ubuntu", {}, "recreate")
    assert [host.name for host in inventory.groups["namespace_dc_east"].hosts] == ["a.dc-east"]
    assert {group.name for group in inventory.hosts["a.dc-east"].groups} == {
        "all",
        "namespace_dc_east",
        "provider_qemu",
        "state_ready",
        "profile_p",
    }
    assert source.warnings == []


def test_snapshot_of_a_run(source: Source) -> None:
    """What the reconciler adds for a run reaches the hosts, and its SSH configuration alone says how."""
    run = {
        "servers": [server("a", provider="dc-api")],
        "profiles": [{"metadata": {"name": "p", "namespace": "dc-west"}}],
        "profile_of": {"dc-west/a": "p"},
        "operations": {"dc-west/a": {"uid": "u", "attempt": 1}},
        "datacenters": {"*": {"url": "http://127.0.0.1:1"}},
        "ssh": {"dc-west/a": {"user": "root"}},
    }
    variables = source.parse(run).hosts["a.dc-west"].vars
    assert (variables["ansible_host"], variables["ansible_user"]) == ("10.0.1.5", "root")
    assert variables["stargate_operation"] == {"uid": "u", "attempt": 1}
    assert (variables["stargate_dc"]["url"], variables["stargate_strategy"]) == ("http://127.0.0.1:1", "dcApi")
    assert variables["stargate_profile"]["metadata"]["name"] == "p"
    variables = source.parse({**run, "ssh_config": "/run/ssh"}).hosts["a.dc-west"].vars
    assert (variables["ansible_host"], variables["ansible_ssh_common_args"]) == ("a.dc-west", "-F /run/ssh")
    assert "ansible_user" not in variables


def test_plays_know_the_cluster(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster that a run's snapshot names is known to every play, as text that is never a template."""
    run = {"servers": [server("a")], "profiles": [], "cluster": {"kubeconfig": "/k/{{ x }}", "context": "c"}}
    monkeypatch.setenv("KUBECONFIG", "/other")
    known = source.parse(run).groups["all"].vars
    assert (known["stargate_kubeconfig"], known["stargate_kube_context"]) == ("/k/{{ x }}", "c")
    rendered = Templar(DataLoader(), variables={"x": "rendered", **known}).template(dict(known))
    assert rendered["stargate_kubeconfig"] == "/k/{{ x }}"
    assert source.parse({"servers": [server("a")], "profiles": []}).groups["all"].vars == {}


def test_datacenters_of_the_file(source: Source) -> None:
    """Without a reconciler, the inventory file says where the datacenter APIs are."""
    inventory = source.parse({"servers": [server("a")]}, datacenters={"dc-west": {"url": "http://w"}})
    assert inventory.hosts["a.dc-west"].vars["stargate_dc"]["url"] == "http://w"


SERVERS = [server("a", provider="azure"), server("b", provider="qemu"), server("c", provider="qemu", state="error")]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([], ["a", "b", "c"]),
        (["stargate_provider == 'qemu'"], ["b", "c"]),
        (["stargate_provider == 'qemu'", "stargate_state == 'ready'"], ["b"]),
        ([{"exclude": "stargate_state == 'error'"}], ["a", "b"]),
        ([{"include": "inventory_hostname == 'a.dc-west'"}, {"exclude": True}], ["a"]),
        ([{"include": "stargate_name == 'c'"}, "stargate_provider == 'azure'"], ["a", "c"]),
        ([False], []),
    ],
)
def test_filters(source: Source, filters: list[Any], wanted: list[str]) -> None:
    """Conditions are tried in order, include and exclude decide at once, and what nothing decides on is kept."""
    assert names(source.parse({"servers": SERVERS}, filters=filters)) == [f"{name}.dc-west" for name in wanted]


@pytest.mark.parametrize("entry", [{"include": "a", "exclude": "b"}, {"only": "a"}, {"include": 5}, 5, {}])
def test_malformed_filters(source: Source, entry: Any) -> None:
    """A filter of another form is named by its place."""
    with pytest.raises(AnsibleError, match="Failed to read item 2 of filters"):
        source.parse({"servers": SERVERS}, filters=[True, entry])


def test_filter_that_cannot_be_evaluated(source: Source) -> None:
    """A filter that fails stops everything, also when strict is off: nobody knows whether the host was meant."""
    with pytest.raises(AnsibleError, match=r"Failed to apply the filter 'nosuch == 1' to the Server a\.dc-west"):
        source.parse({"servers": SERVERS}, filters=["nosuch == 1"], strict=False)


def test_constructed_features(source: Source) -> None:
    """Composed variables can be used by groups and keyed groups."""
    inventory = source.parse(
        {"servers": SERVERS},
        strict=True,
        compose={"rack": "stargate_server.metadata.labels.rack"},
        groups={"broken": "stargate_state == 'error'"},
        keyed_groups=[{"key": "rack", "prefix": "rack"}],
    )
    assert inventory.hosts["a.dc-west"].vars["rack"] == "r1"
    assert [host.name for host in inventory.groups["broken"].hosts] == ["c.dc-west"]
    assert len(inventory.groups["rack_r1"].hosts) == 3


def test_strict_is_the_users_choice(source: Source) -> None:
    """An expression that fails is skipped, or fatal when strict is on."""
    assert len(names(source.parse({"servers": SERVERS}, compose={"x": "nosuch"}, strict=False))) == 3
    with pytest.raises(AnsibleError, match="Could not set x"):
        source.parse({"servers": SERVERS}, compose={"x": "nosuch"}, strict=True)


def hostile(obj: Any, text: str) -> Any:
    """Return the object with the text in place of every text, as a key too."""
    if isinstance(obj, dict):
        return {**{key: hostile(value, text) for key, value in obj.items()}, text: text}
    return [hostile(item, text) for item in obj] if isinstance(obj, list) else text


def test_nothing_is_a_template(source: Source, tmp_path: Path) -> None:
    """A template in every field of a Server and its profile is a text, also after compose and keyed_groups."""
    canary = tmp_path / "canary"
    text = f"{{{{ lookup('pipe', 'touch {canary}') }}}}"
    item = hostile(server("x", provider="p", provisioningProfile="p", nodeName="n"), text)
    item["metadata"] |= {"name": "x", "namespace": "n"}
    inventory = source.parse(
        {"servers": [item], "profiles": [hostile(item, text)], "operations": {"n/x": {"uid": text}}},
        compose={"joined": "stargate_state ~ stargate_server.metadata.labels.rack", "copy": "stargate_server"},
        keyed_groups=[{"key": "stargate_state", "prefix": "s"}, {"key": "stargate_server.metadata.labels"}],
        groups={"g": "stargate_state != ''"},
        filters=["stargate_state != ''"],
        strict=True,
    )
    variables = inventory.hosts["x.n"].get_vars()
    assert variables["joined"] == text * 2
    rendered = Templar(DataLoader(), variables=variables).template(dict(variables))
    assert rendered["copy"]["status"]["state"] == text
    assert rendered["stargate_operation"] == {"uid": text}
    assert "g" in inventory.groups
    assert not canary.exists()


def test_malformed_values_are_named_once(source: Source) -> None:
    """One warning names the first malformed value, the others are details; hosts without a fit name are left out."""
    servers = [server("a", ipv4="100.x.x.x"), server("b", routerIP="-x"), server("127.0.0", "1"), server("c")]
    inventory = source.parse({"servers": [*servers, {}, 5], "profiles": [None]})
    assert names(inventory) == ["a.dc-west", "b.dc-west", "c.dc-west"]
    assert inventory.hosts["a.dc-west"].vars["ansible_host"] == "a.dc-west.invalid"
    (warning,) = source.warnings
    assert "Server a: spec.ipv4 is '100.x.x.x'" in warning
    assert "3 more values" in warning
    assert len([line for line in source.details if line.startswith("Server ")]) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_unreadable_snapshots(source: Source, content: str) -> None:
    """A snapshot that is no object is refused with its path."""
    with pytest.raises(AnsibleError, match=r"Failed to read the snapshot .*snapshot\.json"):
        source.parse(content)


def test_missing_snapshot(source: Source) -> None:
    """So is one that is not there."""
    with pytest.raises(AnsibleError, match=r"Failed to read the snapshot .*other\.json"):
        source.parse({}, snapshot="other.json")


@pytest.mark.parametrize("content", [{}, {"servers": {}, "profiles": 5, "ssh": [], "operations": "x"}])
def test_odd_snapshots(source: Source, content: Object) -> None:
    """Parts that are missing or of another type count as empty."""
    assert names(source.parse(content)) == []


@pytest.mark.parametrize(
    ("name", "text", "is_ours"),
    [
        ("a.stargate.yml", "", True),
        ("a.stargate.yaml", "x", True),
        ("hosts.yml", "# x\nplugin: stargate.core.servers\n", True),
        ("hosts.yaml", '{"plugin": "stargate.core.servers"}', True),
        ("hosts.yml", "plugin: other.core.servers\n", False),
        ("hosts.yml", "x: stargate.core.servers\n", False),
        ("a.stargate.json", "plugin: stargate.core.servers\n", False),
    ],
)
def test_files_that_are_ours(tmp_path: Path, name: str, text: str, is_ours: bool) -> None:
    """A file is taken by its name, or by the plugin that it names."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    plugin = inventory_loader.get("stargate.core.servers")
    assert plugin.verify_file(str(tmp_path / name)) is is_ours
    assert not plugin.verify_file(str(tmp_path / "none.stargate.yml"))
