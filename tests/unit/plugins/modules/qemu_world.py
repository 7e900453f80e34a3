# SPDX-License-Identifier: Apache-2.0
"""A directory of machines in which tasks of qemu_vm run for real, on an image with nothing in it.

Only for tests: QEMU runs, its firmware finds nothing to boot, and that takes half a second instead of a minute.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.testing import patch_module_args

from ansible_collections.stargate.core.plugins.module_utils._machine import Places
from ansible_collections.stargate.core.plugins.modules import qemu_vm

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFi0 somebody"
DEFAULTS = {"namespace": "dc", "memory": 64, "cpus": 1, "disk": 1, "public_key": KEY, "disk_cache": "unsafe"}


class World:
    """A place for machines; `task` runs one task and returns its result."""

    def __init__(self, directory: Path) -> None:
        self.places = Places(directory / "vms")
        self.image = directory / "image.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", str(self.image), "1G"], check=True, stdin=subprocess.DEVNULL
        )

    def directory(self, name: str) -> Path:
        """Return a machine's directory."""
        return self.places.directory("dc", name)

    def task(self, name: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Run one task as Ansible would; options of None are left out."""
        given = {"name": name, "machines_dir": str(self.places.machines_dir), "image": str(self.image), **DEFAULTS}
        given = {key: value for key, value in {**given, **options}.items() if value is not None}
        said = io.StringIO()
        with (
            patch_module_args({**given, "_ansible_check_mode": check, "_ansible_diff": True}),
            contextlib.redirect_stdout(said),
            contextlib.suppress(SystemExit),
        ):
            qemu_vm.main()
        result: dict[str, Any] = json.loads(said.getvalue())
        return result

    def router(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Run a task for the router r1."""
        return self.task("r1", check=check, **{"role": "router", **options})

    def worker(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """Run a task for the worker w1."""
        return self.task("w1", check=check, **{"role": "worker", "site": "r1", **options})

    def clear(self) -> None:
        """Remove all machines."""
        for definition in reversed(self.places.machines()):
            self.task(definition.name, state="absent", image=None)
