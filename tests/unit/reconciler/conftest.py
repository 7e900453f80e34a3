# SPDX-License-Identifier: Apache-2.0
"""What the tests of the reconciler's middle share: the bench.

Stand-ins are in fakes.py; nothing is set up for tests that do not ask.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.reconciler.bench import Bench
from tests.unit.reconciler.fakes import FakeRun, raw_profile, raw_server

from stargate_reconciler import inventory, reconcile
from stargate_reconciler.model import Object


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Return a function that makes a bench with Server s1, Profile p1 and whatever else is given."""

    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(inventory, "TMPFS", (tmp_path / "shm",))

    def make(*items: Object, **settings: Any) -> Bench:
        made = Bench(tmp_path, raw_server(), raw_profile(), *items, **settings)

        def run(order: Any, listener: Any) -> FakeRun:
            made.runs.append(FakeRun(order, listener))
            return made.runs[-1]

        monkeypatch.setattr(reconcile, "Run", run)
        return made

    return make
