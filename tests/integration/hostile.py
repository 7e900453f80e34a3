# SPDX-License-Identifier: Apache-2.0
"""Custom resources as somebody malicious or very careless would write them: a pure function of a seed.

What has to become of them is said in test_hostile.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.integration.daemon import operation, profile, server

Object = dict[str, Any]

ACT = "show"
"""The operation that hostile Servers and Profiles are put before: it renders every variable that it is given."""
SERVER_FIELDS = ("ipv4", "routerIP", "routerPort", "sshPort", "nodeName", "provisioningProfile", "mac", "podCIDR")
SERVER_TEXTS = ("provider", "sshHostKeys", "bmc", "inventory", "maintenance", "os", "unheard-of")
PROFILE_FIELDS = ("adminUsername", "kubernetesVersion", "sshCredentialsSecretRef", "cloudInitSecretRef")
PROFILE_TEXTS = ("cloudInit", "customBootstrapScript", "osImage", "osVersion", "strategy", "unheard-of")
CONTROL_PLANE = ("endpoint", "sshHost", "sshUser", "kindContainer", "mode")
NUMBERS = ("activeDeadlineSeconds", "retryLimit", "ttlSecondsAfterFinished", "cancel")
STATUS = ("phase", "attempts", "failures", "conditions", "startTime", "acceptedSpec", "retryAfter", "formerNode")
SERVER_STATUS = ("ipv4", "sshHostKeys", "activeOperation", "conditions", "state", "nodeName", "currentOS")


@dataclass
class Case:
    """A hostile object, what else there has to be, and the Operation in whose status the end is looked for."""

    objects: list[Object]
    operation: str
    what: str
    statuses: dict[str, Any] = field(default_factory=dict)
    """Statuses to be written by kind before the Operation is there."""


def texts(canary: str) -> tuple[str, ...]:
    """Return texts that do harm wherever somebody pastes them into something."""
    touch = f"touch {canary}"
    return (
        f"{{{{ lookup('pipe', '{touch}') }}}}",
        f"{{% set x = lookup('ansible.builtin.pipe', '{touch}') %}}{{{{ x }}}}",
        f"{{{{ ''.__class__.__mro__[1].__subclasses__() }}}} {{# {touch} #}}",
        f"-oProxyCommand={touch}",
        f"127.0.0.1 -oProxyCommand={touch}",
        f"127.0.0.1; {touch}",
        f"$({touch})",
        f"`{touch}`",
        f"127.0.0.1\nansible_connection: local\nProxyCommand {touch}",
        f"x' -o 'ProxyCommand={touch}",
        "../../../../etc/passwd",
        "@/etc/passwd",
        "a\0b",
        "\x1b[2J\x1b]0;owned\x07",
        "\u202egnitirw-sdrawkcab",
        "🦄" * 40,
        "x" * 1_000_000,
        "a." * 400,
        " ",
        "%s%n{0}{0.__class__}",
        "!!python/object/apply:os.system ['true']",
    )


def odd_values() -> tuple[Any, ...]:
    """Return values of types that nobody expects."""
    deep: Any = "deep"
    for _ in range(200):
        deep = [deep]
    return (
        None,
        True,
        0,
        -1,
        2**53,
        2**63 - 1,
        1.5,
        [],
        {},
        [None],
        {"name": ["x"]},
        {"name": None},
        [{"type": ["x"]}],
        deep,
    )


class Maker:
    """Makes cases, one after the other."""

    def __init__(self, seed: int, canary: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._texts, self._odd = texts(canary), odd_values()
        self._kinds: tuple[tuple[Callable[[str], Case], int], ...] = (
            (self._server, 35),
            (self._server_text, 10),
            (self._profile, 18),
            (self._profile_text, 2),
            (self._operation, 20),
            (self._status, 8),
            (self._whole, 5),
            (self._many, 2),
        )

    def cases(self, count: int) -> Iterator[Case]:
        """Yield so many cases."""
        makers, weights = zip(*self._kinds, strict=True)
        for number in range(count):
            (make,) = self._random.choices(makers, weights)
            yield make(f"h{number:04}")

    def _value(self) -> Any:
        return self._random.choice(self._texts if self._random.random() < 0.7 else self._odd)

    def _with_server(self, name: str, what: str, **spec: Any) -> Case:
        return Case([server(name, **spec), operation(name, name, ACT)], name, f"Server {what}")

    def _server(self, name: str) -> Case:
        chosen = self._random.choice(SERVER_FIELDS)
        return self._with_server(name, chosen, **{chosen: self._value()})

    def _server_text(self, name: str) -> Case:
        chosen = self._random.choice(SERVER_TEXTS)
        return self._with_server(name, chosen, **{chosen: self._value()})

    def _with_profile(self, name: str, what: str, **spec: Any) -> Case:
        by = operation(name, name, ACT, provisioningProfileRef={"name": name})
        return Case([profile(name, **spec), server(name), by], name, f"ProvisioningProfile {what}")

    def _profile(self, name: str) -> Case:
        chosen = self._random.choice((*PROFILE_FIELDS, *CONTROL_PLANE))
        value = self._random.choice(self._texts)
        if chosen in CONTROL_PLANE:
            return self._with_profile(name, f"controlPlane.{chosen}", controlPlane={chosen: value})
        return self._with_profile(name, chosen, **{chosen: value})

    def _profile_text(self, name: str) -> Case:
        chosen = self._random.choice(PROFILE_TEXTS)
        return self._with_profile(name, chosen, **{chosen: self._value()})

    def _operation(self, name: str) -> Case:
        chosen = self._random.choice(("serverRef", "provisioningProfileRef", "operation", *NUMBERS))
        made = operation(name, name, ACT)
        value = self._value()
        is_name = chosen.endswith("Ref") and self._random.random() < 0.7
        made["spec"][chosen] = {"name": value} if is_name else value
        if self._random.random() < 0.1:
            del made["spec"][self._random.choice(("serverRef", "operation"))]
        return Case([server(name), made], name, f"Operation {chosen}")

    def _status(self, name: str) -> Case:
        on_server = self._random.random() < 0.5
        chosen = self._random.choice(SERVER_STATUS if on_server else STATUS)
        case = self._with_server(name, f"status.{chosen}")
        case.statuses = {"Server" if on_server else "Operation": {chosen: self._value()}}
        return case

    def _whole(self, name: str) -> Case:
        victim = self._random.choice(("Server", "Operation", "ProvisioningProfile"))
        case = self._with_profile(name, "x")
        for item in case.objects:
            if item["kind"] == victim:
                item["spec"] = self._random.choice((None, [], "text", {}, 7, [{}]))
        case.what = f"{victim} spec"
        return case

    def _many(self, name: str) -> Case:
        case = self._with_server(name, "labels")
        labels = {f"label-{number}": "x" * 20 for number in range(10_000)}
        notes = {"stargate.io/datacenter": self._random.choice(self._texts[:16])}
        case.objects[self._random.randrange(2)]["metadata"]["labels"] = labels
        case.objects[0]["metadata"]["annotations"] = notes
        return case
