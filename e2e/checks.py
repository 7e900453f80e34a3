# SPDX-License-Identifier: Apache-2.0
"""How the story looks at things: what is not as it has to be raises WorldError, in words.

What has to be is said in story.py and illness.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from e2e.world import say
from stargate_reconciler.demo.objects import Object
from stargate_reconciler.errors import WorldError


def condition(found: Object, kind: str) -> Object:
    """Return a condition of an object, {} when it has none of the kind."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((dict(one) for one in conditions if one["type"] == kind), {})


def expect(what: str, found: object, wanted: object) -> None:
    """Raise WorldError unless two values are equal."""
    if found != wanted:
        raise WorldError(f"{what} is {found!r}, not {wanted!r}")


def until(what: str, check: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait until something is so, and say how long it took; raise WorldError when it does not come to be."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            raise WorldError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    say(f"{what}, after {time.monotonic() - began:.1f} s")
