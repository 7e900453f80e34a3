# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of stargate.core.dc_job, done in the controller's process: no transfer, no second Python.

Only wiring; the documentation is in plugins/modules/dc_job.py.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.stargate.core.plugins.module_utils._dc_api_module import (
    JOB_SPEC,
    failed,
    perform,
    told,
)
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid


class ActionModule(ActionBase):
    """Submit a job to a datacenter's API and wait for it."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the task's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            _checked, params = self.validate_argument_spec(**JOB_SPEC)
        except AnsibleActionFail as error:
            return {**result, **failed(Invalid(f"Failed to read the task's options: {error.message}."))}
        host = str((task_vars or {}).get("inventory_hostname", "host"))
        result.update(perform(params, check_mode=bool(self._task.check_mode), host=host))
        if params["report"] is not None and not result.get("failed"):
            result["ansible_stats"] = told(result, params["report"])
        return result
