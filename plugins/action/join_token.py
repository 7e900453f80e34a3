# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of stargate.core.join_token, done in the controller's process: no transfer, no second Python.

Only wiring; the documentation is in plugins/modules/join_token.py.
"""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._join_token_module import TOKEN_SPEC, failed, perform


class ActionModule(ActionBase):
    """Make or revoke the token with which a machine joins."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the task's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            _checked, params = self.validate_argument_spec(**TOKEN_SPEC)
        except AnsibleActionFail as error:
            return {**result, **failed(Invalid(f"Failed to read the task's options: {error.message}."))}
        result.update(perform(params, os.environ, check_mode=bool(self._task.check_mode)))
        if (result.get("join") or {}).get("token"):  # censored wherever it is shown, whole where it is registered
            result["_ansible_no_log"] = self._task.no_log = True
        return result
