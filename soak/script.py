# SPDX-License-Identifier: Apache-2.0
"""What a soak does, as a pure function of its seed: which Operations, which faults, in which order, with which gaps.

What a fault meets when its time has come depends on the moment; the sequence does not.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

KINDS = {
    "one": 60,
    "two": 12,
    "three": 8,
    "four": 3,
    "flaky": 8,
    "mistake": 4,
    "slow": 4,
    "late": 1,
    "unknown": 1,
    "nowhere": 1,
}
"""Operations by kind with their weights; what each is stands in `Order`."""
HOSTILE = ("option", "template", "path", "shell")
"""Operations that try to have something executed that is not theirs to have."""

SCRIPTS = {
    "one": "soak-one",
    "two": "soak-two",
    "three": "soak-three",
    "four": "soak-four",
    "flaky": "soak-one",
    "slow": "soak-one",
    "late": "soak-one",
    "mistake": "soak-mistake",
}
STEPS = {
    "soak-one": ("wipe",),
    "soak-two": ("prepare", "wipe"),
    "soak-three": ("prepare", "wipe", "finish"),
    "soak-four": ("prepare", "check", "wipe", "finish"),
    "soak-mistake": (),
}

LARGE = {
    "kill-ansible": 5,
    "kill-worker": 5,
    "kill-guard": 3,
    "kill-module": 6,
    "kill-ssh": 5,
    "restart-sshd-sessions": 5,
    "hang-host": 3,
    "power-cut": 4,
    "power-cut-in-wipe": 4,
    "link-down": 5,
    "link-down-in-wipe": 5,
    "link-one-way": 4,
    "other-machine": 2,
    "delete-operation": 2,
    "edit-operation": 4,
    "cancel-operation": 4,
    "recreate-operation": 2,
    "hide-server": 2,
    "hide-profile": 1,
    "hide-secret": 1,
    "touch-server": 8,
    "disk-full": 1,
    "end-connections": 4,
}
"""Faults of processes, hosts and objects, with their weights."""

LEADERSHIP = {"kill-reconciler": 4, "freeze-leader": 2, "drain-reconciler": 2, "cut-off-reconciler": 2}
"""Faults after which another reconciler may lead. They are rarer: between two of them something has to get done."""

SMALL = {"touch": 22, "429": 12, "500": 14, "refuse": 10, "lose": 14, "wait": 10, "late": 10, "stale": 8}
"""Faults of single requests, with their weights."""
WATCH = {"close": 8, "lose": 4, "gone": 2, "silent": 2}
"""Faults of watches, with their weights."""


def dice(seed: int, name: str) -> random.Random:
    """Return the dice of one part of a script: parts do not disturb each other."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - the same seed must give the same faults


def some(kinds: dict[str, int], only: Collection[str]) -> dict[str, int]:
    """Return the weights of some kinds only, of all when none is named."""
    return {kind: weight for kind, weight in kinds.items() if kind in (only or kinds)}


@dataclass(frozen=True)
class Order:
    """An Operation to create, `pause` seconds after the one before; `host` is a number to be taken modulo.

    flaky fails a few times and then works, mistake is refused by its play, slow outlasts a Lease at times, late runs
    into its deadline, unknown names no operation, nowhere names a Server that does not exist. The rest succeed.
    """

    number: int
    kind: str
    host: int
    milliseconds: int
    failures: int
    retries: int
    pause: float

    @property
    def name(self) -> str:
        """The name of the Operation, which tells `witness.sh` what to do."""
        tail = f"-{self.failures}" if self.failures else ""
        return f"{self.kind}-{self.number:05d}-{self.milliseconds}{tail}"

    @property
    def act(self) -> str:
        """What the Operation asks for."""
        return "soak-nothing" if self.kind == "unknown" else SCRIPTS.get(self.kind, "soak-two")


def orders(seed: int, only: Collection[str] = ()) -> Iterator[Order]:
    """Yield Operations without end, of all kinds or of some."""
    rolls = dice(seed, "operations")
    kinds = {**KINDS, **dict.fromkeys(HOSTILE, 1)}
    kinds = some(kinds, only)
    burst, number = 0, 0
    while True:
        number += 1
        kind = rolls.choices(list(kinds), list(kinds.values()))[0]
        seconds = rolls.triangular(0, 0.3, 0.05)
        if kind in ("slow", "late"):
            seconds = rolls.triangular(2, 20, 4) if kind == "slow" else 30.0
        if not burst:
            burst = rolls.randint(3, 30)
        burst -= 1
        yield Order(
            number=number,
            kind=kind,
            host=rolls.randrange(10**6),
            milliseconds=int(seconds * 1000),
            failures=rolls.randint(1, 2) if kind == "flaky" else 0,
            retries=rolls.choice((2, 6, 6)),
            pause=0.0 if burst else rolls.expovariate(1.0),
        )


@dataclass(frozen=True)
class Fault:
    """One fault: `gap` before it (seconds for large ones, requests for small ones), its kind, and whom it may meet."""

    gap: float
    kind: str
    pick: int
    seconds: float


def large(seed: int, *, mean_gap: float) -> Iterator[Fault]:
    """Yield the faults of processes, hosts and objects without end."""
    return _faults(dice(seed, "large"), LARGE, mean_gap)


def leadership(seed: int, *, mean_gap: float) -> Iterator[Fault]:
    """Yield the faults of who leads without end."""
    return _faults(dice(seed, "leadership"), LEADERSHIP, mean_gap)


def small(seed: int, daemon: int) -> Iterator[Fault]:
    """Yield the faults of a daemon's requests without end."""
    return _faults(dice(seed, f"small-{daemon}"), SMALL, 4.0)


def watch(seed: int, daemon: int, only: Collection[str] = ()) -> Iterator[Fault]:
    """Yield the faults of a daemon's watches without end, of all kinds or of some; their gap is in events."""
    return _faults(dice(seed, f"watch-{daemon}"), some(WATCH, only), 15.0)


def _faults(rolls: random.Random, kinds: dict[str, int], mean_gap: float) -> Iterator[Fault]:
    names, weights = list(kinds), list(kinds.values())
    while True:
        yield Fault(
            gap=rolls.expovariate(1.0 / mean_gap),
            kind=rolls.choices(names, weights)[0],
            pick=rolls.randrange(10**9),
            seconds=rolls.triangular(0.05, 3.0, 0.5),
        )
