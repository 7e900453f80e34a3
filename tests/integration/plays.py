# SPDX-License-Identifier: Apache-2.0
"""Tasks in a real ansible-playbook on localhost, and what became of each.

What is on the terminal is kept too, as loud as it gets, for tests that look for secrets in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROGRAM = str(Path(sys.executable).parent / "ansible-playbook")
# A callback that writes task and result per line, as any callback may see them.
RECORD = """
import json, os
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "record"
    def write(self, result, **_):
        with open(os.environ["RECORD"], "a") as out:
            out.write(json.dumps([result._task.get_name(), json.loads(self._dump_results(result._result))]) + "\\n")
    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = write
"""

Object = dict[str, Any]


@dataclass
class Plays:
    """Plays with a kubeconfig in the environment; a task that fails does not end them."""

    directory: Path
    kubeconfig: str
    environ: dict[str, str] = field(default_factory=dict)
    shown: str = ""

    def run(self, *tasks: Object, flags: tuple[str, ...] = (), **variables: Any) -> list[Object]:
        """Return the result of each task that has a name, in order; `shown` has the terminal then."""
        play = {"hosts": "localhost", "gather_facts": False, "ignore_errors": True, "vars": variables, "tasks": tasks}
        path, record = self.directory / "play.yml", self.directory / "record"
        path.write_text(json.dumps([play]), encoding="utf-8")
        (self.directory / "record.py").write_text(RECORD, encoding="utf-8")
        record.write_text("")
        ansible = {"ANSIBLE_CALLBACK_PLUGINS": str(self.directory), "ANSIBLE_CALLBACKS_ENABLED": "record"}
        environ = {**os.environ, "KUBECONFIG": self.kubeconfig, "RECORD": str(record), **ansible, **self.environ}
        done = subprocess.run(
            [PROGRAM, "-vvvv", *flags, str(path)], env=environ, capture_output=True, text=True, check=False, timeout=120
        )
        self.shown = done.stdout + done.stderr + record.read_text()
        events = [json.loads(line) for line in record.read_text().splitlines()]
        found = [result for name, result in events if name == "test" or name.startswith("test ")]
        assert found or not tasks, self.shown
        return found

    def one(self, action: str, *, flags: tuple[str, ...] = (), **arguments: Any) -> Object:
        """Return the result of a single task."""
        (result,) = self.run({"name": "test", action: arguments}, flags=flags)
        return result

    def code(self, action: str, *, flags: tuple[str, ...] = (), **arguments: Any) -> str:
        """Return the code with which a single task fails, "" when it does not."""
        return str((self.one(action, flags=flags, **arguments).get("failure") or {}).get("code", ""))


def kubeconfig_of_account(cluster: Any, admin: str, directory: Path, account: str = "stargate-reconciler") -> str:
    """Write a kubeconfig with a ServiceAccount's token of stargate-system; returns its path."""
    path = f"/api/v1/namespaces/stargate-system/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = cluster.create(path, "make a token", request)["status"]["token"]
    content = yaml.safe_load(Path(admin).read_text(encoding="utf-8"))
    content["users"][0]["user"] = {"token": token}
    target = directory / f"{account}.kubeconfig"
    target.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(target)
