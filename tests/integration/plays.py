# SPDX-License-Identifier: Apache-2.0
"""Tasks in a real ansible-playbook on localhost, and what became of each.

What is on the terminal is kept too, as loud as it gets, for tests that look for secrets in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.conftest import ROOT

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict

PROGRAM = str(Path(sys.executable).parent / "ansible-playbook")
# A callback that writes task and result per line, as any callback may see them.
RECORD = """
import json, os
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "record"
    def v2_runner_on_ok(self, result, **known):
        told = json.loads(self._dump_results(result._result)) | known
        with open(os.environ["RECORD"], "a") as out:
            out.write(json.dumps([result._task.get_name(), told]) + "\\n")
    v2_runner_on_skipped = v2_runner_on_ok
    def v2_runner_on_failed(self, result, **_):
        self.v2_runner_on_ok(result, failed=True)
"""

Object = dict[str, Any]


@dataclass
class Plays:
    """Plays with a kubeconfig in the environment; a task that fails does not end them."""

    directory: Path
    kubeconfig: str
    environ: dict[str, str] = field(default_factory=dict)
    shown: str = ""
    events: list[tuple[str, Object]] = field(default_factory=list)

    def run(self, *tasks: Object, flags: tuple[str, ...] = (), **variables: Any) -> list[Object]:
        """Return the result of each task whose name begins with "test", in order.

        `shown` has the terminal then, `events` the name and result of every task.
        """
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
        self.events = [(name, result) for name, result in map(json.loads, record.read_text().splitlines())]
        assert self.events, self.shown
        return [result for name, result in self.events if name.partition(" ")[0] == "test"]

    def one(self, action: str, *, flags: tuple[str, ...] = (), **arguments: Any) -> Object:
        """Return the result of a single task."""
        (result,) = self.run({"name": "test", action: arguments}, flags=flags)
        return result

    def code(self, action: str, *, flags: tuple[str, ...] = (), **arguments: Any) -> str:
        """Return the code with which a single task fails, "" when it does not."""
        return str((self.one(action, flags=flags, **arguments).get("failure") or {}).get("code", ""))


def with_shipped_rights(cluster: Any, kubectl: Callable[..., object]) -> None:
    """Give the reconciler's account the rights that we ship, in namespaces that may be there already."""
    for name in ("dc-west", "dc-east"):
        with suppress(Conflict):
            cluster.create("/api/v1/namespaces", "make a namespace", {"metadata": {"name": name}})
    kubectl("apply", "-f", str(ROOT / "reconciler/deploy/rbac.yaml"))


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
