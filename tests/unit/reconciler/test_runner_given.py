# SPDX-License-Identifier: Apache-2.0
"""What a run is given besides its hosts: environment, the daemon's cluster, variables of the site.

What comes back from a run is test_runner.py's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.unit.reconciler.fakes import playbook
from tests.unit.reconciler.test_runner import RUN, make

from stargate_reconciler import inventory
from stargate_reconciler.runner import MARK, environment


@pytest.fixture(autouse=True)
def tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let private directories be made where the test can look."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(inventory, "TMPFS", (tmp_path / "shm",))


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run gets little of the daemon's environment, no secret of it, and its own mark."""
    monkeypatch.setenv("TAILSCALE_AUTH_KEY", "canary")
    monkeypatch.setenv("STARGATE_DC_API_URL", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("ANSIBLE_TIMEOUT", "40")
    monkeypatch.setenv("PATH", "/bin")
    found = environment(make(tmp_path)[0].order)
    assert "canary" not in found.values()
    assert (found[MARK], found["HTTPS_PROXY"], found["ANSIBLE_TIMEOUT"]) == (RUN, "http://proxy", "40")
    assert found["PATH"] == f"{Path(sys.executable).parent}:/bin"
    monkeypatch.setenv("PATH", f"/bin:{Path(sys.executable).parent}")
    assert environment(make(tmp_path / "again")[0].order)["PATH"] == f"/bin:{Path(sys.executable).parent}"


def test_environment_of_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run acts on the daemon's own cluster, and finds machines and caches where the daemon's user has them."""
    known = {"STARGATE_MACHINES_DIR": "/m", "STARGATE_CACHE_DIR": "/c", "KUBECONFIG": "/k"}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    found = environment(make(tmp_path)[0].order)
    assert {name: found[name] for name in known} == known
    assert environment(make(tmp_path / "2", kubeconfig="/other")[0].order)["KUBECONFIG"] == "/other"


def test_variables_of_the_site(tmp_path: Path) -> None:
    """Every play of a run has the variables of --vars-file, the later file's first; no file of the run has a copy."""
    for number in (1, 2):
        text = f"canary: canary-of-a-file-{number}\nfile_{number}: it is there\n"
        (tmp_path / f"site {number}.yml").write_text(text, encoding="utf-8")
    say = {"stargate": {"final": True, "message": "{{ [file_1, canary[-1], file_2] | join(', ') }}"}}
    tasks = [{"ansible.builtin.set_stats": {"data": say, "per_host": True, "aggregate": False}}]
    files = (tmp_path / "site 1.yml", tmp_path / "site 2.yml")
    run, heard = make(tmp_path, path=playbook(tmp_path, tasks), vars_files=files)
    run.start()
    assert run.wait(60)
    assert heard.results["s1"].facts["message"] == "it is there, 2, it is there"
    kept = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if b"canary-of-a-file" in path.read_bytes()] == []
