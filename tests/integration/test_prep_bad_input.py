# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the input of prep-dc-inventory, as its users see it: before anything is made, with a remedy.

Needs neither root nor a cluster nor the network. Every rule has its row in the unit test of _site.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from tests.integration.prep import Prep

QEMU = "provider=qemu"
WRONG = [
    (("provider=azure",), "ProviderUnsupported", "Supported are nspawn and qemu"),
    (("provider=",), "InvalidInput", "provider is not set"),
    ((QEMU, "vm=w1,w1,W_2"), "InvalidInput", r"W_2.*DNS label.*w1.*more than once"),
    ((QEMU, "qemu_subnet_cidr=10.0.0.1/8"), "CidrInvalid", "Meant: 10.0.0.0/8"),
    ((QEMU, "qemu_subnet_cidr=10.9.0.0/28", "vm=a,b,c,d,e,f"), "CidrInvalid", "room for 4 workers, and vm has 6"),
    ((QEMU, "qemu_cpus=two"), "InvalidInput", "qemu_cpus"),
    ((QEMU, "network=wifi"), "InvalidInput", "network"),
    ((QEMU, "state=here"), "InvalidInput", "state"),
    ((QEMU, "qemu_image_url=/none.img", "network=user"), "ImageUnavailable", "qemu_image_url is /none.img"),
    ((QEMU, "ssh_public_key=/none.pub", "network=user"), "KeyInvalid", r"/none\.pub.*no such file"),
    ((QEMU, "kubeconfig=/none", "skip_server_cr=false"), "KubeconfigMissing", "skip_server_cr=true"),
    (("provider=", "router_name=", "state=absent"), "InvalidInput", "which site is meant"),
]


@pytest.fixture
def prep() -> Iterator[Prep]:
    """Return the playbook for an empty directory."""
    with Prep(provider="qemu") as prepared:
        yield prepared


@pytest.mark.parametrize(("variables", "code", "text"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_input(prep: Prep, variables: tuple[str, ...], code: str, text: str) -> None:
    """The run fails at once with a code and a sentence, and nothing was made."""
    run = prep.run(*variables)
    assert run.code != 0
    failed = next(line for line in run.output.splitlines() if line.startswith("fatal: [localhost]"))
    result = json.loads(failed.partition("=> ")[2])
    assert result["failure"] == {"code": code, "details": "", "retryable": False}
    assert re.search(text, result["msg"])
    assert "Failed to read" in result["msg"] or "Failed to find" in result["msg"]
    assert not prep.machines.exists()


def test_taking_down_what_is_not_there(prep: Prep) -> None:
    """A site that is not there is gone already: nothing is asked and nothing changes."""
    run = prep.run("state=absent")
    assert (run.code, run.changed) == (0, 0)


def test_check_mode_makes_nothing(prep: Prep) -> None:
    """In check mode a new site is foretold, and neither a machine nor a key is made."""
    run = prep.run("network=user", "qemu_image_url=/etc/hostname", check=True)
    assert run.code == 0, run.output
    assert run.changed > 0
    assert not list(prep.machines.rglob("*")) if prep.machines.exists() else True
