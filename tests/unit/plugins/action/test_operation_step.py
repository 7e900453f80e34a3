# SPDX-License-Identifier: Apache-2.0
"""The action operation_step: the module learns for which Operation it works, and nothing else is changed.

What the module does with it is in tests/unit/plugins/modules/test_operation_step.py.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.stargate.core.plugins.action.operation_step import ActionModule
from ansible_collections.stargate.core.plugins.module_utils._operation import VARIABLE, Operation, parsed

TOLD = {"uid": "u", "attempt": 2, "fence": 3, "authority": "lease", "name": "o", "failures": 0}


@pytest.mark.parametrize(
    ("variables", "own", "wanted"),
    [
        ({"stargate_operation": TOLD}, None, Operation("u", 2, 3, "lease")),
        ({"stargate_operation": TOLD}, [{"A": "b"}], Operation("u", 2, 3, "lease")),
        ({"stargate_operation": {}}, None, None),
        ({}, None, None),
    ],
)
def test_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any], own: list[dict[str, str]] | None, wanted: Operation
) -> None:
    """The Operation of the inventory is put into the module's environment, beside what the play has there."""
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    action = object.__new__(ActionModule)
    action._task = SimpleNamespace(environment=own)
    action._execute_module = lambda task_vars: {"rc": 0}
    assert action.run(task_vars=variables) == {"rc": 0}
    environment = {key: value for part in action._task.environment or [] for key, value in part.items()}
    assert parsed(environment.pop(VARIABLE, "")) == wanted
    assert environment == (own[0] if own else {})
