# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of stargate.core.node, done in the controller's process: no transfer, no second Python.

Only wiring; the documentation is in plugins/modules/node.py.
"""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._node_module import NODE_SPEC, failed, perform


class ActionModule(ActionBase):
    """Drain a Node, delete it, wait for it, give it back."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the task's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            _checked, params = self.validate_argument_spec(**NODE_SPEC)
        except AnsibleActionFail as error:
            return {**result, **failed(Invalid(f"Failed to read the task's options: {error.message}."))}
        result.update(perform(params, os.environ, _say, check_mode=bool(self._task.check_mode)))
        if not self._task.diff:
            result.pop("diff", None)
        return result


def _say(text: str) -> None:
    Display().display(f"  {text}")
