# SPDX-License-Identifier: Apache-2.0
"""A Node falls ill for good, and nobody asks for anything: it is repaved by itself, and once more only after a pause.

Ill is a machine whose kubelet is stopped and masked. What makes machines and Nodes is in story.py.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from e2e.checks import condition, expect, until
from e2e.world import NAMESPACE, World, say
from stargate_reconciler.demo.objects import Object
from stargate_reconciler.errors import WorldError

PATIENCE = 5
"""Seconds for which the Node has to be not Ready; Kubernetes itself takes 40 to say that it is not."""
UNIT = "/etc/systemd/system/kubelet.service"
KEPT = "/var/tmp/kubelet.service"  # noqa: S108 - on a machine of this story
END_KUBELET = (
    f"sudo cp {UNIT} {KEPT} && sudo ln -sf /dev/null {UNIT} "
    "&& sudo systemctl daemon-reload && sudo systemctl stop kubelet"
)
MEND_KUBELET = f"sudo mv {KEPT} {UNIT} && sudo systemctl daemon-reload && sudo systemctl start kubelet"
CAUSE = "stargate.io/cause=not-ready"


@dataclass(frozen=True)
class Illness:
    """A Server that is in service, and the profile with which it may be repaved without being asked for."""

    world: World
    name: str
    profile: str

    def steps(self) -> Sequence[tuple[str, Callable[[], None]]]:
        """Return the titles and acts of all steps."""
        return [
            (f"{self.name} falls ill and is repaved unasked", self.healed),
            (f"{self.name} falls ill again and is held back", self.held_back),
        ]

    def healed(self) -> None:
        """See that the Server says that its Node is ill, and that another Node of another boot comes by itself."""
        care = {"autoRepave": "onNotReady", "notReadySeconds": PATIENCE}
        patch = json.dumps({"spec": {"maintenance": care, "provisioningProfile": self.profile}})
        self.world.kubectl("patch", "server", self.name, "-n", NAMESPACE, "--type=merge", "-p", patch)
        before = self.world.get("node", self.name)
        self.fall_ill()
        operation = self._started()
        name = operation["metadata"]["name"]
        until(f"Operation {name} ended", lambda: self._phase() in ("Succeeded", "Failed"), seconds=300)
        expect(f"phase of Operation {name}", self._phase(), "Succeeded")
        until(f"Node {self.name} is Ready", lambda: self._node_ready() == "True", seconds=30)
        after = self.world.get("node", self.name)
        if after["metadata"]["uid"] == before["metadata"]["uid"]:
            raise WorldError(f"Node {self.name} is still the old one")
        if after["status"]["nodeInfo"]["bootID"] == before["status"]["nodeInfo"]["bootID"]:
            raise WorldError(f"the machine of Node {self.name} is still the old one")
        until("the Server says that its Node is Ready", lambda: self._said("NodeReady") == ("True", "Ready"))

    def held_back(self) -> None:
        """See that an illness which comes back is told, that the pause is waited for, and that a person can help."""
        self.fall_ill()
        until("the pause is told", lambda: self._said("AutoRepave") == ("True", "BackOff"))
        say(condition(self._server(), "AutoRepave")["message"])
        time.sleep(2 * PATIENCE)  # longer than it would take without the pause
        expect("automatic repaves", len(self._operations()), 1)
        expect("AutoRepave", self._said("AutoRepave"), ("True", "BackOff"))
        self._ask(MEND_KUBELET)
        until("the Server says that its Node is Ready", lambda: self._said("NodeReady") == ("True", "Ready"))
        expect("automatic repaves", len(self._operations()), 1)

    def fall_ill(self) -> None:
        """Stop the kubelet for good and wait until the cluster and the Server have noticed."""
        self._ask(END_KUBELET)
        ill = ("Unknown", "NodeStatusUnknown")
        until("the Server says that nothing is heard of its Node", lambda: self._said("NodeReady") == ill)

    def _ask(self, command: str) -> None:
        """Run a command on the machine."""
        words = ["ssh", "-F", self.world.outputs()["ssh_config"], self.name, command]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise WorldError(f"{command!r} on {self.name}: {done.stderr.strip()[:256]}")

    def _started(self) -> Object:
        """Return the Operation that nobody has asked for, after checking that it says so, and that it is told."""
        until("an Operation starts by itself", lambda: bool(self._operations()), seconds=60)
        (operation,) = self._operations()
        say(f"{operation['metadata']['name']}: {operation['metadata']['annotations']['stargate.io/cause']}")
        asked = (operation["spec"]["operation"], operation["spec"]["provisioningProfileRef"]["name"])
        expect("what it does", asked, ("repave", self.profile))
        told = {"NodeStatusUnknown", "AutoRepaveStarted"}
        until(f"Events {sorted(told)}", lambda: told <= self._events())
        return operation

    def _server(self) -> Object:
        return self.world.get("server", self.name, "-n", NAMESPACE)

    def _said(self, kind: str) -> tuple[str, str]:
        found = condition(self._server(), kind)
        return found.get("status", ""), found.get("reason", "")

    def _node_ready(self) -> str:
        return str(condition(self.world.get("node", self.name), "Ready").get("status", ""))

    def _operations(self) -> list[Object]:
        return list(self.world.get("operations", "-n", NAMESPACE, "-l", CAUSE).get("items", []))

    def _phase(self) -> str:
        return str(self._operations()[0].get("status", {}).get("phase", ""))

    def _events(self) -> set[str]:
        found = self.world.get("events", "-n", NAMESPACE, "--field-selector", f"involvedObject.name={self.name}")
        return {str(event["reason"]) for event in found.get("items", [])}
