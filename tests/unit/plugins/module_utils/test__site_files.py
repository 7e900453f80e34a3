# SPDX-License-Identifier: Apache-2.0
"""The files of a site, in temporary directories: key pairs, records, what is written and what is removed.

What is in the files is tested in test__site_view.py.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _site_files as files
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._machine import Definition, Places, save

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here"
NONE = {"ssh_public_key": "", "ssh_private_key": ""}


def pair_in(directory: Path, name: str = "id_rsa") -> Path:
    """Write what looks like a key pair; returns the public key's path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("private")
    (directory / f"{name}.pub").write_text(f"# mine\n{PUBLIC}\n")
    return directory / f"{name}.pub"


def test_a_pair_is_made_where_there_is_none(tmp_path: Path) -> None:
    """The site's own pair is made once, for nobody else to read; in check mode nothing is left."""
    site = tmp_path / "r.site"
    seen = files.key_pair(NONE, site, tmp_path, check_mode=True)
    assert seen.is_new
    assert not site.exists()
    made = files.key_pair(NONE, site, tmp_path, check_mode=False)
    assert made.is_new
    assert Path(made.private_path).stat().st_mode & 0o077 == 0
    again = files.key_pair(NONE, site, tmp_path, check_mode=False)
    assert (again.public_key, again.private_path, again.is_new) == (made.public_key, made.private_path, False)
    assert made.public_key.startswith("ssh-ed25519 ")


def test_which_pair_is_taken(tmp_path: Path) -> None:
    """The one that is named, else the recorded one, else the site's, else the user's usual one."""
    site, home = tmp_path / "r.site", tmp_path / "home"
    usual, named = pair_in(home / ".ssh"), pair_in(tmp_path / "named", "mine")
    taken = files.key_pair(NONE, site, home, check_mode=False)
    assert (taken.public_path, taken.private_path) == (str(usual), str(usual.with_suffix("")))
    own = pair_in(site, "id_ed25519")
    assert files.key_pair(NONE, site, home, check_mode=False).public_path == str(own)
    known = {"ssh_public_key": str(usual), "ssh_private_key": str(named.with_suffix(""))}
    files.write_all({site / files.RECORD: f"{known}".replace("'", '"')})
    taken = files.key_pair(NONE, site, home, check_mode=False)
    assert (taken.public_path, taken.private_path) == (str(usual), str(named.with_suffix("")))
    taken = files.key_pair({"ssh_public_key": str(named), "ssh_private_key": ""}, site, home, check_mode=False)
    assert (taken.public_key, taken.private_path) == (PUBLIC, str(named.with_suffix("")))


@pytest.mark.parametrize(
    ("public", "text"),
    [
        (None, "no such file"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "it is a private key"),
        (f"{PUBLIC}\n{PUBLIC}", "one public key"),
        ("hello", "one public key"),
        ("", "one public key"),
    ],
)
def test_public_keys_that_are_none(tmp_path: Path, public: str | None, text: str) -> None:
    """What is no public key is refused with its path."""
    path = pair_in(tmp_path)
    path.unlink() if public is None else path.write_text(public)
    with pytest.raises(Invalid, match=text) as refused:
        files.key_pair({"ssh_public_key": str(path), "ssh_private_key": ""}, tmp_path, tmp_path, check_mode=False)
    assert refused.value.code == "KeyInvalid"
    assert str(path) in refused.value.message


def test_a_private_key_that_is_missing(tmp_path: Path) -> None:
    """A public key without its private key lets nobody in, so it is refused."""
    path = pair_in(tmp_path)
    path.with_suffix("").unlink()
    with pytest.raises(Invalid, match="private key of"):
        files.key_pair({"ssh_public_key": str(path), "ssh_private_key": ""}, tmp_path, tmp_path, check_mode=False)


def test_facts(tmp_path: Path) -> None:
    """Machines of the namespace are known with their site; those of others are not."""
    places = Places(tmp_path)
    for namespace, name in (("dc", "w"), ("other", "x")):
        save(places, Definition(name, namespace, "r", "qemu", "worker"))
    found = files.facts(places, "dc", {"DEPLOY_NUM": "3", "HOME": "/home/me"})
    assert {name: known.site for name, known in found.known.items()} == {"w": "r"}
    assert (found.deploy_num, found.cache_dir) == ("3", "/home/me/.cache/stargate")
    assert files.facts(places, "dc", {"STARGATE_CACHE_DIR": "/c"}).cache_dir == "/c"
    assert [found.kind_of(str(path)) for path in (tmp_path, tmp_path / "dc/w/machine.json", tmp_path / "no")] == [
        "directory",
        "file",
        "",
    ]


def test_the_home_under_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under sudo, keys and kubeconfig are those of the user who called it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    known = pwd.getpwall()[-1]
    assert files.home({"SUDO_USER": known.pw_name, "HOME": "/root"}) == Path(known.pw_dir)
    assert files.home({"SUDO_USER": "nobody-has-this", "HOME": "/root"}) == Path("/root")
    assert files.home({"SUDO_USER": known.pw_name, "HOME": "/root"}, of_sudo=False) == Path("/root")


def test_the_kubeconfig(tmp_path: Path) -> None:
    """The option comes before KUBECONFIG, and that before the user's own file, if there is one."""
    environ = {"HOME": str(tmp_path)}
    assert files.kubeconfig("", environ) == ""
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").touch()
    assert files.kubeconfig("", environ) == str(tmp_path / ".kube/config")
    assert files.kubeconfig("", {**environ, "KUBECONFIG": "/k"}) == "/k"
    assert files.kubeconfig("/o", {**environ, "KUBECONFIG": "/k"}) == "/o"


def test_files_are_written_and_removed(tmp_path: Path) -> None:
    """Only what differs is a difference; the outputs go with the site, and files of others stay."""
    site, outputs = tmp_path / "dc" / "r.site", tmp_path / "outputs"
    record: dict[Path, Any] = {site / files.RECORD: f'{{"outputs": ["{outputs}/r.json", "{site}/r.env"]}}'}
    wanted = {**record, outputs / "r.json": "1", site / "r.env": "2"}
    assert len(files.differences(wanted)) == 3
    files.write_all(wanted)
    assert files.differences(wanted) == []
    assert [d["before"] for d in files.differences({**wanted, outputs / "r.json": "9"})] == ["1"]
    (outputs / "other").touch()
    (tmp_path / "dc" / ".r.site.lock").touch()
    assert files.leftovers(site) == [str(site), str(outputs / "r.json")]
    files.remove(site)
    assert (files.leftovers(site), sorted(tmp_path.rglob("*"))) == ([], [outputs, outputs / "other"])
    files.remove(site)


def test_a_broken_record(tmp_path: Path) -> None:
    """A record that nobody can read is said to be one."""
    files.write_all({tmp_path / files.RECORD: "{"})
    with pytest.raises(Invalid, match=r"site\.json"):
        files.record(tmp_path)
