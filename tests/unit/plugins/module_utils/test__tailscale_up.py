# SPDX-License-Identifier: Apache-2.0
"""A machine's part in a tailnet, through a tailscale that is a script: it keeps state and writes down its arguments.

No account and no network; what the owner approves is another matter.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _tailscale_up as tailscale
from ansible_collections.stargate.core.plugins.module_utils import _worker_host
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._tailscale_up import Membership
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host

KEY = "tskey-auth-canary"
WANTED = Membership(("10.1.0.0/16", "10.0.0.0/24"), hostname="r")
TAILSCALE = r"""#!/usr/bin/env python3
import json, os, pathlib, stat, sys
state = pathlib.Path(os.environ["TAILSCALE_STATE"])
words = sys.argv[1:]
with state.with_name("calls").open("a") as calls:
    calls.write(" ".join(words) + "\n")
known = json.loads(state.read_text()) if state.exists() else {"in": False, "prefs": {}}
if words[0] == "status":
    print(json.dumps({"BackendState": "Running" if known["in"] else "NeedsLogin",
                      "Self": {"TailscaleIPs": ["100.64.0.7"], "DNSName": "r.tail.net."}}))
elif words[0] == "debug":
    print(json.dumps(known["prefs"]))
else:
    flags = dict(word[2:].split("=", 1) for word in words[1:] if "=" in word)
    if words[0] == "up":
        path = pathlib.Path(flags["auth-key"].removeprefix("file:"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = path.read_text()
        state.with_name("key").write_text(f"{path}\n{key}")
        if "bad" in key:
            sys.exit(f"backend error: invalid key: {key} not valid")
        if "slow" in key:
            sys.exit("timeout waiting for Tailscale service to enter a Running state")
        if "odd" in key:
            sys.exit(f"no luck with {key}")
    known = {"in": True, "prefs": {"AdvertiseRoutes": [r for r in flags["advertise-routes"].split(",") if r],
             "RouteAll": flags["accept-routes"] == "true", "NoSNAT": flags["snat-subnet-routes"] != "true",
             "Hostname": flags.get("hostname", ""), "ControlURL": flags.get("login-server", "https://own")}}
    state.write_text(json.dumps(known))
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a machine with that tailscale, not logged in."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "root/run").mkdir(parents=True)
    (tmp_path / "bin/tailscale").write_text(TAILSCALE)
    (tmp_path / "bin/tailscale").chmod(0o755)
    monkeypatch.setenv("TAILSCALE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(_worker_host, "SYSTEM_PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Host(tmp_path / "root")


def converge(host: Host, wanted: Membership = WANTED, key: str = KEY) -> str:
    """Do what the module does; returns what it had to do."""
    verb = tailscale.plan(tailscale.found(host), wanted)
    if verb:
        tailscale.apply(host, verb, wanted, auth_key=key, timeout=5)
    return verb


def test_joins_once_and_offers_all_routes(host: Host, tmp_path: Path) -> None:
    """A machine that is out joins with every route; the second time nothing is done."""
    assert converge(host) == "up"
    told = tailscale.found(host).told()
    assert (told["joined"], told["routes"]) == (True, ["10.0.0.0/24", "10.1.0.0/16"])
    assert (told["addresses"], told["name"], told["hostname"]) == (["100.64.0.7"], "r.tail.net", "r")
    assert converge(host) == ""


def test_the_key_is_never_an_argument(host: Host, tmp_path: Path) -> None:
    """The key is in a file of the tmpfs for as long as the program runs, and nowhere else."""
    converge(host, Membership(login_server="https://mine"))
    path, _, key = (tmp_path / "key").read_text().partition("\n")
    assert key == KEY
    assert path.startswith(str(host.path("/run")))
    assert not Path(path).exists()
    calls = (tmp_path / "calls").read_text()
    assert KEY not in calls
    assert "--login-server=https://mine" in calls


@pytest.mark.parametrize(
    "wanted",
    [
        Membership(("10.9.0.0/24",), hostname="r"),
        Membership(WANTED.routes, hostname="other"),
        Membership(WANTED.routes, accept_routes=False),
        Membership(WANTED.routes, snat=False),
    ],
)
def test_a_machine_that_is_in_needs_no_key(host: Host, wanted: Membership, tmp_path: Path) -> None:
    """What is offered is changed without a new login, as the full list."""
    converge(host)
    assert converge(host, wanted, key="") == "set"
    assert f"set --advertise-routes={','.join(wanted.routes)} " in (tmp_path / "calls").read_text()
    assert converge(host, wanted, key="") == ""


@pytest.mark.parametrize(
    ("key", "code", "retryable"),
    [("tskey-bad", "Denied", False), ("tskey-slow", "Deadline", True), ("tskey-odd", "TailscaleFailed", False)],
)
def test_failures(host: Host, key: str, code: str, retryable: bool) -> None:
    """A refused key, no answer and anything else are told apart, and no message has the key."""
    with pytest.raises(StargateError) as failed:
        converge(host, key=key)
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert key not in failed.value.message + json.dumps(failed.value.failure())


def test_without_key_or_program(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining without a key, and a machine without the program, are said to be that."""
    with pytest.raises(Invalid, match="no auth key"):
        converge(host, key="")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(_worker_host, "SYSTEM_PATH", "/nowhere")
    with pytest.raises(Invalid) as refused:
        tailscale.found(host)
    assert refused.value.code == "ProgramMissing"


@pytest.mark.parametrize(("routes", "key"), [(["10.0.0.0/8,0.0.0.0/0"], ""), (["--ssh"], ""), ([], "a b")])
def test_words_that_are_none(routes: list[str], key: str) -> None:
    """A route cannot smuggle in another one or a flag, nor a key a second word."""
    with pytest.raises(Invalid):
        tailscale.refuse_unfit(routes, key)
