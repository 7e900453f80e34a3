# SPDX-License-Identifier: Apache-2.0
"""What people and other programs do to objects while Operations run: cancel, edit, delete, put back. And bad objects.

Everything goes straight to the API server.
"""

from __future__ import annotations

from collections.abc import Callable

from soak import script
from soak.cluster import Cluster, Object
from soak.history import EDITED, History, Life
from soak.script import Fault, Order
from soak.trouble import Trouble
from soak.world import PROFILES, custom

CANARY = "/run/soak-canary"
"""A file that hostile objects try to have made."""


class Meddling:
    """The faults of objects, by kind."""

    def __init__(self, trouble: Trouble, history: History) -> None:
        self._trouble = trouble
        self._world = trouble.world
        self._cluster: Cluster = trouble.world.cluster
        self._history = history
        self._agenda = trouble.agenda
        self._away: set[str] = set()

    def kinds(self) -> dict[str, Callable[[Fault], bool]]:
        """Return what can be done."""
        return {
            "delete-operation": self._delete,
            "edit-operation": self._edit,
            "cancel-operation": self._cancel,
            "recreate-operation": self._recreate,
            "touch-server": self._touch_server,
            "hide-server": lambda f: self._hide(f, "servers"),
            "hide-profile": lambda f: self._hide(f, "provisioningprofiles"),
            "hide-secret": lambda f: self._hide(f, "secrets"),
        }

    def _pick(self, fault: Fault) -> Life | None:
        """Return an Operation that is not over, one that runs rather than one that waits."""
        lives = self._history.unfinished()
        chosen = [life for life in lives if life.phase == "Running"] or lives
        return chosen[fault.pick % len(chosen)] if chosen else None

    def _delete(self, fault: Fault) -> bool:
        life = self._pick(fault)
        return life is not None and self._cluster.delete("operations", life.name)

    def _edit(self, fault: Fault) -> bool:
        """Ask for something else in an Operation that was accepted: it must not be heard."""
        life = self._pick(fault)
        return life is not None and self._cluster.merge("operations", life.name, {"spec": {"operation": EDITED}})

    def _cancel(self, fault: Fault) -> bool:
        life = self._pick(fault)
        return life is not None and self._cluster.merge("operations", life.name, {"spec": {"cancel": True}})

    def _recreate(self, fault: Fault) -> bool:
        """Delete an Operation and create another one of the same name at once."""
        life = self._pick(fault)
        item = self._cluster.find("operations", life.name) if life else None
        if item is None or not self._cluster.delete("operations", item["metadata"]["name"]):
            return False
        self._cluster.create("operations", custom("Operation", item["metadata"]["name"], item["spec"]))
        return True

    def _touch_server(self, fault: Fault) -> bool:
        host = self._world.hosts[fault.pick % len(self._world.hosts)]
        return self._cluster.merge("servers", host.name, {"metadata": {"labels": {"soak": str(fault.pick)}}})

    def _hide(self, fault: Fault, kind: str) -> bool:
        """Delete an object and put it back after a while, as what it was but with another uid."""
        host = self._world.hosts[fault.pick % len(self._world.hosts)]
        profile = PROFILES[fault.pick % len(PROFILES)]
        name = {"servers": host.name, "provisioningprofiles": profile, "secrets": "ssh"}[kind]
        if kind == "servers" and self._trouble.is_busy(host.number):  # its pinned key goes with it
            return False
        if f"{kind}/{name}" in self._away or not self._cluster.delete(kind, name):
            return False
        again = {
            "servers": lambda: self._world.server(host),
            "provisioningprofiles": lambda: self._world.profile(profile),
            "secrets": self._world.secret,
        }[kind]
        self._away.add(f"{kind}/{name}")

        def back() -> None:
            self._cluster.create(kind, again())
            self._away.discard(f"{kind}/{name}")

        self._agenda.add(fault.seconds, back)
        return True


def objects(order: Order, hosts: int) -> list[Object]:
    """Return what has to be created for an order: an Operation, and for a hostile one what it needs."""
    server = f"host-{order.host % hosts:03d}"
    before: list[Object] = []
    if order.kind == "nowhere":
        server = "host-nowhere"
    elif order.kind in script.HOSTILE:
        server = order.name
        before = _hostile(order)
    seconds = {"late": 4, "nowhere": 3}.get(order.kind, 5 if order.kind in script.HOSTILE else 120)
    spec = {
        "serverRef": {"name": server},
        "operation": order.act,
        "activeDeadlineSeconds": seconds,
        "retryLimit": 0 if order.kind == "late" else order.retries,
        "ttlSecondsAfterFinished": 5 + order.number % 20,
    }
    return [*before, custom("Operation", order.name, spec)]


def _hostile(order: Order) -> list[Object]:
    """Return a Server that wants something executed, or that names what is not there."""
    jinja = "{{ lookup('pipe', 'touch " + CANARY + "') }}"
    specs: dict[str, Object] = {
        "option": {"ipv4": f"-oProxyCommand=touch {CANARY}", "provider": "ssh"},
        "template": {"ipv4": "10.77.250.250", "provider": "ssh", "inventory": {"sku": jinja, "location": jinja}},
        "path": {"ipv4": "10.77.250.250", "provider": "ssh", "provisioningProfile": "../../../run/x"},
        "shell": {"ipv4": f"127.0.0.1;touch {CANARY}", "provider": "ssh"},
    }
    return [custom("Server", order.name, specs[order.kind])]


def plural(item: Object) -> str:
    """Return the plural of an object's kind, as paths have it."""
    return f"{item['kind'].lower()}s"
