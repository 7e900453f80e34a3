# SPDX-License-Identifier: Apache-2.0
"""A host for operation_step: a mount namespace with a journal of its own, in which the module is a real process.

Only for tests. Whoever reads what a module says is the test: to stop reading is to cut its connection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _operation as operations
from ansible_collections.stargate.core.plugins.module_utils._operation import Operation

MODULE = """
import json, sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.stargate.core.plugins.modules import operation_step
with patch_module_args(json.loads(sys.argv[1])):
    operation_step.main()
"""
ROOT = Path(__file__).parents[3]


@dataclass
class StepHost:
    """A machine whose /var/lib/stargate is `directory`."""

    directory: Path
    modules: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, operation: Operation | None, name: str, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start the module; its standard output is for whoever is connected."""
        place = Path("/var/lib/stargate")
        place.mkdir(parents=True, exist_ok=True)
        script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        given = {"name": name, **({"argv": list(argv)} if argv else {}), **options}
        command = ["unshare", "--mount", "sh", "-c", script, "sh", str(self.directory), str(place)]
        command += [sys.executable, "-c", MODULE, json.dumps(given)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT / ".collections")}
        environ |= {operations.VARIABLE: operation.text()} if operation else {}
        pipe = subprocess.PIPE
        self.modules.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environ, text=True))
        return self.modules[-1]

    def run(self, operation: Operation | None, name: str, *argv: str, **options: Any) -> dict[str, Any]:
        """Run the module to its end; returns its result."""
        return result(self.start(operation, name, *argv, **options))

    @property
    def history(self) -> list[dict[str, Any]]:
        """What the journal has."""
        path = self.directory / "operation.json"
        return list(json.loads(path.read_text())["history"]) if path.exists() else []

    @property
    def current(self) -> dict[str, Any]:
        """What the journal says of now."""
        return dict(json.loads((self.directory / "operation.json").read_text())["current"])

    def states(self) -> list[tuple[str, int, str]]:
        """Return step, attempt and state of each entry."""
        return [(entry["step"], entry["attempt"], entry["state"]) for entry in self.history]


def result(module: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a module says in the end."""
    out, err = module.communicate(timeout=60)
    assert out, err
    return dict(json.loads(out))
