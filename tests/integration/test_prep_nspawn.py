# SPDX-License-Identifier: Apache-2.0
"""prep-dc-inventory with real nspawn machines and a real API server: a site is made, kept, mended and taken down.

What is wrong with the input is in test_prep_bad_input.py.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.integration.prep import Prep, Run, machine_image

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="nspawn machines need root"),
    pytest.mark.timeout(1800),
]
SITE = ("router_name=prep-a", "vm=prep-a1,prep-a2")
OTHER = ("router_name=prep-b", "vm=prep-b1", "qemu_subnet_cidr=10.77.0.0/24")


@dataclass
class Datacenter:
    """A site that stands, the run that made it, and the cluster that knows its Servers."""

    prep: Prep
    first: Run
    cluster: Any

    def servers(self) -> dict[str, Any]:
        """Return the namespace's Servers by name."""
        text = self.cluster.run("get", "servers", "-n", self.prep.namespace, "-o", "json")
        return {item["metadata"]["name"]: item for item in json.loads(text)["items"]}

    def patch(self, server: str, **patch: Any) -> None:
        """Edit a Server as a person does."""
        patched = ("patch", "server", server, "-n", self.prep.namespace, "--type=merge", "-p", json.dumps(patch))
        self.cluster.run(*patched)


@pytest.fixture(scope="module")
def dc(crds: Any) -> Iterator[Datacenter]:
    """Return a site of a router and two workers in a namespace that was not there before."""
    namespace, image = f"prep-{secrets.token_hex(4)}", machine_image() / "root"
    with Prep(crds.kubeconfig, namespace, image=str(image)) as prep:
        yield Datacenter(prep, prep.must(*SITE), crds)


def test_workers_are_reached_through_the_router(dc: Datacenter) -> None:
    """Each worker answers by its name behind the router, with host keys checked, and reaches the host's loopback."""
    print(f"router and two workers: {dc.first.seconds:.1f} s")
    assert re.search(r"reached prep-a.* after", dc.first.output)
    for number, name in enumerate(("prep-a1", "prep-a2"), 11):
        assert dc.prep.ssh("prep-a", name, "hostname") == name
        assert f"192.168.100.{number}/24" in dc.prep.ssh("prep-a", name, "ip", "-4", "-o", "addr", "show", "lan")
    port = dc.cluster.port
    answer = dc.prep.ssh(
        "prep-a", "prep-a1", f"curl -sk -o /dev/null -w '%{{http_code}}' https://10.0.2.2:{port}/healthz"
    )
    assert answer == "200"


def test_servers_say_where_the_machines_are(dc: Datacenter) -> None:
    """There is a Server for each worker and none for the router, marked with the site."""
    servers = dc.servers()
    assert sorted(servers) == ["prep-a1", "prep-a2"]
    server, outputs = servers["prep-a1"], dc.prep.outputs("prep-a")
    assert server["metadata"]["annotations"] == {"stargate.io/site": "prep-a"}
    spec = server["spec"]
    assert (spec["provider"], spec["ipv4"], spec["routerIP"]) == ("nspawn", "192.168.100.11", "127.0.0.1")
    assert spec["routerPort"] == outputs["router"]["port"]
    assert spec["sshHostKeys"][0].split()[0] == f"prep-a1.{dc.prep.namespace}"
    assert len({server["spec"]["podCIDR"] for server in servers.values()}) == 2


def test_outputs_say_what_later_steps_need(dc: Datacenter) -> None:
    """The JSON file and the shell's file name the same things, and the key is the site's own."""
    outputs = dc.prep.outputs("prep-a")
    path = f"{dc.prep.machines}/{dc.prep.namespace}/prep-a.site/prep-a.env"
    script = f'. {path} && echo "$STARGATE_SERVERS $STARGATE_ROUTER_PORT $KUBECONFIG"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["prep-a1", "prep-a2", str(outputs["router"]["port"]), dc.cluster.kubeconfig]
    assert outputs["ssh_private_key"].endswith("prep-a.site/id_ed25519")


def test_a_second_run_changes_nothing(dc: Datacenter) -> None:
    """Run again, and in check mode, the playbook finds everything as it should be."""
    before = dc.servers()
    assert dc.prep.must(*SITE).changed == 0
    checked = dc.prep.run(*SITE, check=True)
    assert (checked.code, checked.changed) == (0, 0), checked.output
    assert dc.servers() == before


def test_edits_of_a_person_survive(dc: Datacenter) -> None:
    """What a person has added stays; where the machine is, the playbook knows better."""
    dc.patch("prep-a1", spec={"inventory": {"sku": "mine"}, "provisioningProfile": "p", "ipv4": "10.9.9.9"})
    dc.patch("prep-a1", metadata={"labels": {"rack": "r1"}})
    assert dc.prep.must(*SITE).changed == 1
    server = dc.servers()["prep-a1"]
    assert (server["spec"]["ipv4"], server["spec"]["inventory"]) == ("192.168.100.11", {"sku": "mine"})
    assert (server["spec"]["provisioningProfile"], server["metadata"]["labels"]) == ("p", {"rack": "r1"})
    assert dc.prep.must(*SITE).changed == 0


def test_the_routers_rules_come_back_once(dc: Datacenter) -> None:
    """Rules that are gone, or that somebody has doubled, are one rule again; other tables are left alone."""
    dc.prep.ssh("prep-a", "prep-a", "sudo nft add table ip mine; sudo nft delete table ip stargate_nat")
    assert dc.prep.must(*SITE).changed == 1
    rule = "ip saddr 192.168.100.0/24 masquerade"
    dc.prep.ssh("prep-a", "prep-a", f"sudo nft add rule ip stargate_nat postrouting {rule}")
    assert dc.prep.must(*SITE).changed == 1
    rules = dc.prep.ssh("prep-a", "prep-a", "sudo nft list ruleset")
    assert (rules.count("masquerade"), rules.count("table ip mine")) == (1, 1)


def test_a_name_that_another_machine_has(dc: Datacenter) -> None:
    """A Server of another kind of machine stops the run before any machine is made."""
    server = {
        "apiVersion": "stargate.io/v1alpha1",
        "kind": "Server",
        "metadata": {"name": "prep-real", "namespace": dc.prep.namespace},
        "spec": {"ipv4": "10.1.1.1", "provider": "azure"},
    }
    dc.cluster.run("apply", "-f", "-", stdin=json.dumps(server))
    run = dc.prep.run("router_name=prep-c", "vm=prep-real")
    assert run.code != 0
    assert '"code": "NameTaken"' in run.output
    assert not (dc.prep.machines / dc.prep.namespace / "prep-c").exists()


def test_taking_down_leaves_the_other_site(dc: Datacenter) -> None:
    """Only with a yes, and only what the site has made: its neighbour and a person's Server stay."""
    dc.prep.must(*OTHER)
    refused = dc.prep.run(*SITE, "state=absent")
    assert refused.code != 0
    assert "machine prep-a1" in refused.output
    assert "confirm=true" in refused.output
    assert dc.prep.ssh("prep-a", "prep-a1", "hostname") == "prep-a1"
    gone = dc.prep.must(*SITE, "state=absent", "confirm=true")
    assert gone.changed == 3
    assert sorted(dc.servers()) == ["prep-b1", "prep-real"]
    assert dc.prep.ssh("prep-b", "prep-b1", "hostname") == "prep-b1"
    leases = json.loads((dc.prep.machines / "leases.json").read_text())
    assert sorted(name.rpartition("/")[2] for name in leases) == ["prep-b", "prep-b1"]
    assert not list((dc.prep.machines / dc.prep.namespace).glob("prep-a*"))
    assert dc.prep.must(*SITE, "state=absent", "confirm=true").changed == 0
