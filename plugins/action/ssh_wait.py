# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of stargate.core.ssh_wait, done in the controller's process, where it can show whom it waits for.

Only wiring; the documentation is in plugins/modules/ssh_wait.py.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._ssh_wait import Host, Patience, await_all

SPEC: dict[str, Any] = {
    "argument_spec": {
        "ssh_config": {"type": "path", "required": True},
        "hosts": {"type": "list", "elements": "dict", "required": True},
        "timeout": {"type": "float", "default": 600.0},
        "interval": {"type": "float", "default": 15.0},
    }
}


class ActionModule(ActionBase):
    """Wait until hosts let us in by SSH."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the task's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            _checked, params = self.validate_argument_spec(**SPEC)
        except AnsibleActionFail as error:
            return {**result, **_failed(Invalid(f"Failed to read the task's options: {error.message}."))}
        # What the modules tell of machines has more in it than is needed here.
        hosts = [Host(str(h.get("name")), int(h.get("pid") or 0), str(h.get("console") or "")) for h in params["hosts"]]
        patience = Patience(timeout=params["timeout"], every=params["interval"])
        try:
            seconds = await_all(params["ssh_config"], hosts, patience, say=_say)
        except StargateError as error:
            return {**result, **_failed(error)}
        return {**result, "changed": False, "seconds": seconds}


def _say(text: str) -> None:
    Display().display(f"  {text}")


def _failed(error: StargateError) -> dict[str, Any]:
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}
