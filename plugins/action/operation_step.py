# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the module stargate.core.operation_step for which Operation it works, so that no playbook has to.

Only wiring; the documentation is in plugins/modules/operation_step.py.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.stargate.core.plugins.module_utils import _operation


class ActionModule(ActionBase):
    """Run the module with the Operation of the inventory in its environment."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the task's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        operation = _operation.told((task_vars or {}).get("stargate_operation"))
        if operation is not None:
            self._task.environment = [*(self._task.environment or []), {_operation.VARIABLE: operation.text()}]
        result.update(self._execute_module(task_vars=task_vars))
        return result
