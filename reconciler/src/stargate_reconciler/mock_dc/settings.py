# SPDX-License-Identifier: Apache-2.0
"""What a person may set on the mock datacenter, as one frozen value.

Reading flags and the environment is done in `cli.py` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose. Rates are 0..1; "every n" counts requests, 0 means never.

    `fail_stage` names the stage that a failing job fails in (empty: a random one). `duration_seconds` replaces the
    length of the jobs accepted from now on (0: as configured), `hang_rate` is the share of them that never ends.
    """

    failure_rate: float = 0.0
    fail_stage: str = ""
    hang_rate: float = 0.0
    latency_ms: float = 0.0
    drop_every: int = 0
    unavailable_every: int = 0
    throttle_every: int = 0
    retry_after_seconds: int = 1
    duration_seconds: float = 0.0
    seed: int = 0

    @classmethod
    def wire_names(cls) -> dict[str, str]:
        """Return how the API spells each knob: failure_rate -> failureRate."""
        names = [knob.name for knob in fields(cls)]
        return {name: re.sub("_(.)", lambda match: match[1].upper(), name) for name in names}

    def wire(self) -> dict[str, Any]:
        """Return the knobs as the API shows them."""
        return {spelled: getattr(self, name) for name, spelled in self.wire_names().items()}


@dataclass(frozen=True)
class Settings:
    """All settings of one mock datacenter. Durations are seconds before `speed` divides them."""

    dc_name: str = "mock-dc"
    host: str = "127.0.0.1"
    port: int = 8080
    repave_duration: float = 30.0
    reboot_duration: float = 10.0
    speed: float = 1.0
    max_jobs: int = 10_000
    max_connections: int = 2_000
    state_file: Path | None = None
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    admin: bool = False
    faults: Faults = field(default_factory=Faults)
