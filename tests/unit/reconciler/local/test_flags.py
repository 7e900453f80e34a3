# SPDX-License-Identifier: Apache-2.0
"""Command lines and the settings they are made of.

That the programs accept them is shown by tests/integration/test_control_plane.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stargate_reconciler.errors import UserError
from stargate_reconciler.local.flags import CONTROLLERS, Joinable, Settings, command, has_insecure_ports

NAMES = ("etcd", "kube-apiserver", *CONTROLLERS)
SETTINGS = Settings(6443, 2379, 2380, "1.20.2", programs={name: f"/bin/{name}" for name in NAMES})
HERE = Path("/state")


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("1.20.2", True), ("1.23.17", True), ("1.24.0", False), ("1.34.1", False), ("2.0.0", False), ("?", False)],
)
def test_insecure_ports(version: str, wanted: bool) -> None:
    """The flags that close plain-text ports exist up to 1.23."""
    assert has_insecure_ports(version) is wanted


@pytest.mark.parametrize("version", ["1.20.2", "1.34.1"])
def test_apiserver_of_each_age(version: str) -> None:
    """Old servers are told to open no plain-text port, new ones do not know that flag."""
    words = command("kube-apiserver", replace(SETTINGS, version=version), HERE)
    assert ("--insecure-port=0" in words) is (version == "1.20.2")
    assert {"--secure-port=6443", "--bind-address=127.0.0.1", "--authorization-mode=Node,RBAC"} <= set(words)


@pytest.mark.parametrize("controllers", [True, False])
def test_service_accounts_need_controllers(controllers: bool) -> None:
    """Without a controller that makes service accounts no Pod has to wait for one."""
    words = command("kube-apiserver", replace(SETTINGS, controllers=controllers), HERE)
    assert ("--disable-admission-plugins=ServiceAccount" in words) is not controllers


@pytest.mark.parametrize("name", NAMES)
def test_nothing_listens_beyond_loopback(name: str) -> None:
    """No process gets an address that others can reach, and every file is below the directory."""
    words = command(name, SETTINGS, HERE)
    assert words[0] == f"/bin/{name}"
    assert not [word for word in words if "0.0.0.0" in word or "http://" in word]
    paths = [word.partition("=")[2] for word in words if word.partition("=")[2].startswith("/")]
    assert paths
    assert all(path.startswith("/state/") for path in paths)


def test_program_that_is_not_known() -> None:
    """What was not given is named."""
    with pytest.raises(UserError, match="Failed to start etcd: where its program is was not said"):
        command("etcd", replace(SETTINGS, programs={}), HERE)


@pytest.mark.parametrize(
    ("joinable", "address", "names"),
    [
        (Joinable(), "127.0.0.1", ("10.0.2.2", "127.0.0.1")),
        (Joinable("10.1.1.1", "10.1.1.1"), "10.1.1.1", ("10.1.1.1", "10.0.2.2")),
        (Joinable("10.1.1.1", "0.0.0.0", ("a.test",)), "127.0.0.1", ("10.1.1.1", "10.0.2.2", "a.test")),
    ],
)
def test_joinable(joinable: Joinable, address: str, names: tuple[str, ...]) -> None:
    """Machines and this one each reach it where it listens, under names that its certificate has."""
    settings = replace(SETTINGS, joinable=joinable)
    words = command("kube-apiserver", settings, HERE)
    assert {f"--bind-address={joinable.bind}", f"--advertise-address={joinable.advertise}"} <= set(words)
    assert not [word for word in words if "endpoint-reconciler" in word]
    assert (settings.url, settings.endpoint) == (f"https://{address}:6443", f"{joinable.advertise}:6443")
    assert joinable.names == names


@pytest.mark.parametrize(("controllers", "wanted"), [(False, NAMES[:2]), (True, NAMES)])
def test_order_of_start(controllers: bool, wanted: tuple[str, ...]) -> None:
    """etcd comes first, controllers last and only when asked for."""
    assert replace(SETTINGS, controllers=controllers).names == wanted


@pytest.mark.parametrize("joinable", [None, Joinable(sans=("a", "b"))])
def test_settings_are_kept(tmp_path: Path, joinable: Joinable | None) -> None:
    """What was saved is what is loaded."""
    settings = replace(SETTINGS, joinable=joinable)
    settings.save(tmp_path / "settings.json")
    assert Settings.load(tmp_path / "settings.json") == settings
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    assert SETTINGS.url == "https://127.0.0.1:6443"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"port": 1}', '{"other": 1}'])
def test_broken_settings(tmp_path: Path, content: str | None) -> None:
    """Settings that are missing or broken are none."""
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    assert Settings.load(tmp_path / "settings.json") is None
