# SPDX-License-Identifier: Apache-2.0
"""What a person may set on the mock datacenter, as one frozen value.

Reading flags and the environment is done in `cli.py` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose. Rates are 0..1; "every n" counts requests, 0 means never.

    `failStage` names the stage that a failing job fails in (empty: a random one). `durationSeconds` replaces the
    length of the jobs accepted from now on (0: as configured), `hangRate` is the share of them that never ends.
    """

    failureRate: float = 0.0  # noqa: N815  # the names are those of the wire
    failStage: str = ""  # noqa: N815
    hangRate: float = 0.0  # noqa: N815
    latencyMs: float = 0.0  # noqa: N815
    dropEvery: int = 0  # noqa: N815
    unavailableEvery: int = 0  # noqa: N815
    throttleEvery: int = 0  # noqa: N815
    retryAfterSeconds: int = 1  # noqa: N815
    durationSeconds: float = 0.0  # noqa: N815
    seed: int = 0


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
