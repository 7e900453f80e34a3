# SPDX-License-Identifier: Apache-2.0
"""The steps of the story in their order, each with what it has to leave behind. A step that does not raises WorldError.

How the parts are started is in world.py, how long they took in times.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e import times
from e2e.checks import condition, expect
from e2e.illness import Illness
from e2e.world import NAMESPACE, ROOT, World, say
from stargate_reconciler.demo import objects
from stargate_reconciler.demo.cluster import Cluster
from stargate_reconciler.demo.objects import Object
from stargate_reconciler.errors import WorldError
from stargate_reconciler.model import Phase

LABEL = {"example.com/story": "e2e"}
OPERATION_SECONDS = 600.0


@dataclass
class Story:
    """The story in one world. `stages` gathers the tables of all its Operations."""

    world: World
    stages: list[str] = field(default_factory=list)
    version: str = ""
    newer: str = ""

    def steps(self) -> Sequence[tuple[str, Callable[[], None]]]:
        """Return the titles and acts of all steps."""
        first, second = self.world.workers[0], self.world.workers[-1]
        return [
            *self.join_steps(),
            ("a pod runs on each Node", self.run_pods),
            (f"repave {first} inPlace", lambda: self.repave(first, "in-place")),
            (f"repave {second} by recreate", lambda: self.repave(second, "recreate")),
            (f"reboot {first}", lambda: self.reboot(first)),
            (f"upgrade {second}", lambda: self.upgrade(second)),
            *self.illness_steps(second),
            ("what kubectl get nodes shows", self.show),
            (f"decommission {first}", lambda: self.decommission(first)),
            ("the datacenter is taken down", self.take_down),
        ]

    def illness_steps(self, name: str) -> Sequence[tuple[str, Callable[[], None]]]:
        """Return the steps of a Node that falls ill. Emulated machines are too slow for it: it is told without them."""
        return Illness(self.world, name, "recreate").steps() if self.world.provider == "nspawn" else ()

    def join_steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Return the steps up to Ready Nodes."""
        count = len(self.world.workers)
        return [
            ("machine image", self.build_image),
            ("control plane", self.world.start_control_plane),
            ("CRDs", self.install_definitions),
            (f"router and {count} worker{'s' if count > 1 else ''}", self.prepare),
            ("the same again changes nothing", self.prepare_again),
            ("profiles and the daemon", self.declare),
            ("join", self.join),
        ]

    def build_image(self) -> None:
        """Build the image and see which versions it has; a second patch version is needed for the upgrade."""
        self.world.build_image()
        versions = self.world.versions()
        self.version, self.newer = versions[0], versions[-1]
        say(f"Kubernetes {' and '.join(versions)} in {self.world.image.name}")

    def install_definitions(self) -> None:
        """Install the CRDs and wait until they are served."""
        Cluster(str(ROOT / "scripts/kubectl"), self.world.kubeconfig).install_definitions()

    def prepare(self) -> None:
        """Make the machines and their Servers."""
        self.world.prep()
        for name in self.world.workers:
            spec = self.world.get("server", name, "-n", NAMESPACE).get("spec", {})
            expect(f"provider of Server {name}", spec.get("provider"), self.world.provider)

    def prepare_again(self) -> None:
        """See that the play changes nothing when there is nothing to change."""
        recap = [line for line in self.world.prep().splitlines() if "changed=" in line]
        if not recap or any("changed=0 " not in line or "failed=0" not in line for line in recap):
            raise WorldError(f"the second run changed something: {recap}")

    def declare(self) -> None:
        """Apply the Secret and a profile per strategy, and start the daemon."""
        key = Path(self.world.outputs()["ssh_private_key"]).read_bytes()
        profiles = [
            self.profile("in-place", "inPlace", self.version),
            self.profile("recreate", "recreate", self.version),
            self.profile("newer", "inPlace", self.newer),
        ]
        self.world.apply(objects.ssh_secret(NAMESPACE, key), *profiles)
        self.world.start_daemon()

    def profile(self, name: str, strategy: str, version: str) -> Object:
        """Return a ProvisioningProfile."""
        spec = {
            "kubernetesVersion": version,
            "repave": {"strategy": strategy},
            "drain": {"timeoutSeconds": 300},
            "nodeLabels": LABEL,
            "timeouts": {"joinSeconds": 240},
        }
        return objects.profile(NAMESPACE, name, spec)

    def operate(self, operation: str, profile: str, *servers: str) -> None:
        """Apply one Operation per Server and watch them to their end; all have to succeed."""
        number = len(self.stages)
        names = {server: f"{operation}-{server}-{number}" for server in servers}
        spec = {"operation": operation, "profile": profile, "retryLimit": 0}
        self.world.apply(
            *(objects.operation(NAMESPACE, name, spec | {"server": server}) for server, name in names.items())
        )
        wanted = {(NAMESPACE, name) for name in names.values()}
        ended, table = times.follow(self.world.kubeconfig, wanted, seconds=OPERATION_SECONDS, out=sys.stdout)
        self.stages += table
        for one in ended:
            if one.phase is not Phase.SUCCEEDED:
                raise WorldError(f"{one.name} failed: {one.status.get('message')}")

    def ready_node(self, name: str, version: str) -> Object:
        """Return a Node after checking that it is Ready, may be used, and has version and labels as asked."""
        node = self.world.get("node", name)
        expect(f"Node {name} Ready", condition(node, "Ready").get("status"), "True")
        expect(f"Node {name} version", node["status"]["nodeInfo"]["kubeletVersion"], f"v{version}")
        expect(f"Node {name} cordoned", node["spec"].get("unschedulable", False), False)
        labels = node["metadata"]["labels"]
        expect(f"Node {name} label", {key: labels.get(key) for key in LABEL}, LABEL)
        server = self.world.get("server", name, "-n", NAMESPACE)["status"]
        expect(f"Server {name} state", (server["state"], server.get("nodeName")), ("ready", name))
        return node

    def join(self) -> None:
        """Make Nodes of the fresh machines."""
        self.operate("repave", "in-place", *self.world.workers)
        for name in self.world.workers:
            self.ready_node(name, self.version)

    def run_pods(self) -> None:
        """Run as many pods as there are Nodes, protected by a PodDisruptionBudget."""
        count = len(self.world.workers)
        labels = {"app": "story"}
        image = {"name": "pause", "image": "localhost/stargate/pause:1", "imagePullPolicy": "Never"}
        spread = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
        template = {
            "metadata": {"labels": labels},
            "spec": {
                "containers": [image],
                "terminationGracePeriodSeconds": 1,
                "topologySpreadConstraints": [spread | {"labelSelector": {"matchLabels": labels}}],
            },
        }
        deployment = {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
        budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
        self.world.apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "story"}, "spec": deployment},
            {
                "apiVersion": "policy/v1beta1" if self.version.startswith("1.20.") else "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": "story"},
                "spec": budget,
            },
        )
        self.world.kubectl("rollout", "status", "deployment/story", "--timeout=110s")

    def repave(self, name: str, profile: str) -> None:
        """Repave a Server that has a Node: another Node of the same name comes, the pods find a place."""
        before = self.ready_node(name, self.version)
        self.operate("repave", profile, name)
        after = self.ready_node(name, self.version)
        if after["metadata"]["uid"] == before["metadata"]["uid"]:
            raise WorldError(f"Node {name} is still the old one")
        self.world.kubectl("rollout", "status", "deployment/story", "--timeout=110s")

    def reboot(self, name: str) -> None:
        """Reboot a Server: the same Node with another boot."""
        before = self.ready_node(name, self.version)
        self.operate("reboot", "in-place", name)
        after = self.ready_node(name, self.version)
        expect(f"uid of Node {name}", after["metadata"]["uid"], before["metadata"]["uid"])
        if after["status"]["nodeInfo"]["bootID"] == before["status"]["nodeInfo"]["bootID"]:
            raise WorldError(f"Node {name} has not booted again")

    def upgrade(self, name: str) -> None:
        """Give a Server another kubelet: the same Node with another version."""
        before = self.ready_node(name, self.version)
        self.operate("upgrade", "newer", name)
        after = self.ready_node(name, self.newer)
        expect(f"uid of Node {name}", after["metadata"]["uid"], before["metadata"]["uid"])

    def show(self) -> None:
        """Print what a user sees."""
        for words in (
            ["nodes", "-o", "wide"],
            ["servers,operations", "-n", NAMESPACE, "-o", "wide"],
            ["pods", "-o", "wide"],
        ):
            print(self.world.kubectl("get", *words), flush=True)

    def decommission(self, name: str) -> None:
        """Take a Server out of the cluster: no Node of its name is left."""
        self.operate("decommission", "in-place", name)
        expect(f"Node {name}", self.world.get("node", name), {})
        expect(f"Server {name}", self.world.get("server", name, "-n", NAMESPACE)["status"].get("state"), "pending")

    def take_down(self) -> None:
        """Take the datacenter down: no Server and no machine is left."""
        self.world.daemon.stop(seconds=20)
        self.world.prep("state=absent", "confirm=true")
        expect("Servers", self.world.get("servers", "-n", NAMESPACE).get("items", []), [])
        left = [path.name for path in (self.world.directory / "machines" / NAMESPACE).glob("*")]
        expect("machines left", left, [])
