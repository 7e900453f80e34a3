# SPDX-License-Identifier: Apache-2.0
"""Modules run here in the test's process, as if on a host.

Modules that fork are run as processes of their own (step_host.py).
"""

from __future__ import annotations

import pytest
from ansible.module_utils import _internal


@pytest.fixture(autouse=True)
def on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let warnings go into the result; once a test has imported the controller's side, Ansible shows them instead."""
    monkeypatch.setattr(_internal, "is_controller", False)
