# SPDX-License-Identifier: Apache-2.0
"""The module nspawn_machine as Ansible runs it: its options, its documentation, and its end.

What it does is test__machine_module.py's and test__nspawn_host.py's; here it touches nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.stargate.core.plugins.doc_fragments.machine import ModuleDocFragment
from ansible_collections.stargate.core.plugins.module_utils._machine_module import machine_spec
from ansible_collections.stargate.core.plugins.module_utils._nspawn_host import Nspawn
from ansible_collections.stargate.core.plugins.modules import nspawn_machine

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the module with some options and returns its result."""

    def act(**options: Any) -> dict[str, Any]:
        with patch_module_args({"machines_dir": str(tmp_path / "machines"), **options}), pytest.raises(SystemExit):
            nspawn_machine.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return act


def test_documentation_and_options_agree() -> None:
    """Every option is documented, here or in the fragment, with the same type, choices and default."""
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    for name, more in yaml.safe_load(nspawn_machine.DOCUMENTATION)["options"].items():
        documented[name] = {**documented[name], **more}
    spec = machine_spec(Nspawn.kinds)["argument_spec"]
    assert documented.keys() == spec.keys()
    for name, option in spec.items():
        for key in ("type", "choices", "default", "elements"):
            assert documented[name].get(key) == option.get(key), (name, key)


def test_every_code_is_documented() -> None:
    """A failure's code that this kind of machine can end with is in the module's RETURN."""
    sources = Path(nspawn_machine.__file__).parents[1] / "module_utils"
    names = ("lease", "machine", "machine_module", "nspawn", "nspawn_host", "nspawn_net", "program")
    text = "".join((sources / f"_{name}.py").read_text() for name in names)
    codes = {part.partition('"')[0] for part in text.split('code="')[1:]}
    documented = yaml.safe_load(nspawn_machine.RETURN)["failure"]["contains"]["code"]["description"][0]
    assert {code for code in codes if f"C({code})" not in documented} == set()


def test_check_mode_of_a_machine_that_is_not(run: Run) -> None:
    """Absence of what is not there changes nothing, in check mode or not."""
    for check_mode in (True, False):
        result = run(name="w1", namespace="ns", state="absent", _ansible_check_mode=check_mode, _ansible_diff=True)
        assert (result["changed"], result["machine"]["state"]) == (False, "absent")
        assert result["diff"]["before"] == result["diff"]["after"] == {"state": "absent"}


def test_failures_end_the_task(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A failure says what and why, for people and for programs, and leaves nothing behind."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    options = {"name": "gw", "role": "router", "image": "/image", "public_key": "ssh-ed25519 AAAA"}
    for check_mode in (True, False):
        result = run(**options, _ansible_check_mode=check_mode)
        assert (result["failed"], result["failure"]["code"], result["changed"]) == (True, "RootNeeded", False)
        assert "machine default/gw" in result["msg"]
    assert not (tmp_path / "machines/default/gw").exists()


@pytest.mark.parametrize("options", [{}, {"name": "x", "state": "paused"}, {"name": "x", "provider": "qemu"}])
def test_options_are_checked(run: Run, options: dict[str, Any]) -> None:
    """What the options do not allow Ansible refuses by itself."""
    assert run(**options)["failed"] is True


def test_user_data_is_not_shown(run: Run) -> None:
    """Extra cloud-init may hold secrets, so no result has it."""
    result = run(name="w1", state="absent", user_data="#cloud-config canary-in-user-data")
    assert "canary" not in json.dumps(result)
