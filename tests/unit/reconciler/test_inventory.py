# SPDX-License-Identifier: Apache-2.0
"""The files of a run: what is in them, who may read them, and that nothing secret outlives the run.

How a Server becomes a host is tested with the collection; that the plugin reads the snapshot, in the integration tests.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.reconciler.fakes import began, job, operation

from stargate_reconciler import inventory
from stargate_reconciler.inventory import RunFiles, sweep_private, sweep_runs, write_run
from stargate_reconciler.model import Job, Term
from stargate_reconciler.settings import Settings

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY-----"
DC = {"*": {"url": "http://127.0.0.1:8080"}}


@pytest.fixture(autouse=True)
def tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory that stands for tmpfs."""
    path = tmp_path / "shm"
    path.mkdir()
    monkeypatch.setattr(inventory, "TMPFS", (path,))
    return path


def files_of(tmp_path: Path, *jobs: Job) -> RunFiles:
    """Write a run."""
    return write_run(Settings(runs_dir=tmp_path / "runs", datacenters=DC, context="c"), "r1", jobs)


def test_modes(tmp_path: Path) -> None:
    """Only this user enters the directories of a run and reads its files."""
    files = files_of(tmp_path, job(key=KEY))
    for top in (files.directory, files.private):
        assert stat.S_IMODE(top.stat().st_mode) == 0o700
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in top.iterdir() if p.is_file() and p.name != "owner"}
        assert set(modes.values()) == {0o600}, modes


def test_snapshot(tmp_path: Path) -> None:
    """The snapshot has the CRs, what a playbook may know of its Operation, datacenters, and how SSH reaches hosts."""
    files = files_of(tmp_path, job("o1", "s1", key=KEY, user="root"), job("o2", "s2", key=KEY))
    source = json.loads(files.inventory.read_text())
    assert source["plugin"] == "stargate.core.servers"
    found = json.loads(Path(source["snapshot"]).read_text())
    assert [item["metadata"]["name"] for item in found["servers"]] == ["s1", "s2"]
    assert [item["metadata"]["name"] for item in found["profiles"]] == ["p1"]
    assert found["operations"]["dc-west/s1"]["uid"] == "u-o1"
    assert found["profile_of"] == {"dc-west/s1": "p1", "dc-west/s2": "p1"}
    assert (found["datacenters"], found["ssh_config"]) == (DC, str(files.private / "ssh_config"))
    assert found["cluster"] == {"context": "c", "defaults": {"kubernetesVersion": "1.34", "controlPlane": {}}}
    assert found["ssh"]["dc-west/s1"] == {"private_key_file": str(files.private / "key-ssh"), "user": "root"}


def test_keys_are_in_the_private_directory_only(tmp_path: Path) -> None:
    """A key is in one file on tmpfs, with its last line end, and gone with the private directory."""
    files = files_of(tmp_path, job(key=KEY), job("o2", "s2", key=KEY))
    holders = [p for p in tmp_path.rglob("*") if p.is_file() and "canary" in p.read_text()]
    assert holders == [files.private / "key-ssh"]
    assert holders[0].read_text() == KEY + "\n"
    files.remove_private()
    assert not files.private.exists()
    files.remove_private()


def test_user_data_is_in_the_private_directory_only(tmp_path: Path) -> None:
    """What a Secret has for cloud-init is in one file on tmpfs, which the hosts know, and in no other."""
    text = "#cloud-config\n# canary\n"
    files = files_of(tmp_path, *(replace(job(f"o{n}", f"s{n}"), user_data=text) for n in (1, 2)))
    (holder,) = [p for p in tmp_path.rglob("*") if p.is_file() and "canary" in p.read_text()]
    assert (holder.parent, holder.read_text(), stat.S_IMODE(holder.stat().st_mode)) == (files.private, text, 0o600)
    found = json.loads((files.directory / "snapshot.json").read_text())
    assert found["ssh"]["dc-west/s2"] == {"user_data_file": str(holder)}


def test_host_without_credentials(tmp_path: Path) -> None:
    """A Server whose Profile names no Secret has no key of ours, and a job without Profile is written too."""
    files = files_of(tmp_path, replace(job(), profile=None))
    found = json.loads((files.directory / "snapshot.json").read_text())
    assert (found["ssh"], found["profile_of"], found["profiles"]) == ({"dc-west/s1": {}}, {}, [])


PIN = "s1.dc-west ssh-ed25519 AAAA"


def test_pinned_keys(tmp_path: Path) -> None:
    """Host keys from spec and status are pinned once each, only for the host itself; others are ignored."""
    status = {"sshHostKeys": [PIN, "other.dc-west ssh-ed25519 BBBB", "s1.dc-west x\ny"]}
    made = job(status=status, sshHostKeys=[PIN, "s1.dc-west ssh-rsa CCCC"])
    files = files_of(tmp_path, made)
    assert files.known_hosts.read_text().splitlines() == [PIN, "s1.dc-west ssh-rsa CCCC"]
    assert "StrictHostKeyChecking yes" in (files.private / "ssh_config").read_text()


def test_learned_keys(tmp_path: Path) -> None:
    """What ssh has added on first contact is learned, for this host only; nothing when the file is gone."""
    made = job()
    files = files_of(tmp_path, made)
    assert "StrictHostKeyChecking accept-new" in (files.private / "ssh_config").read_text()
    files.known_hosts.write_text(f"{PIN}\nother.dc-west ssh-ed25519 BBBB\n")
    assert inventory.learned_keys(files, made) == (PIN,)
    files.remove_private()
    assert inventory.learned_keys(files, made) == ()


@pytest.mark.parametrize(
    ("status", "attempt", "failures"),
    [({}, 1, 0), (began(), 2, 0), (began(attempts=2, failures=1), 3, 1)],
)
def test_operation_facts(status: dict[str, object], attempt: int, failures: int) -> None:
    """A playbook knows which attempt it is; its request id begins with the Operation's uid."""
    facts = inventory.operation_facts(replace(job(), operation=operation(status=status)), Term("lease", 7))
    assert (facts["authority"], facts["fence"]) == ("lease", 7)
    assert (facts["attempt"], facts["failures"], facts["operation"]) == (attempt, failures, "repave")
    assert facts["request_id"].startswith("u-o1")
    assert facts["former_node"] == {"uid": "", "cordoned": False}


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("bad address")])
def test_failed_preparation_leaves_no_key(
    tmp_path: Path, tmpfs: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """When a run cannot be written nothing of it stays, least of all a key."""

    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(inventory, "snapshot", fail)
    with pytest.raises(type(error)):
        files_of(tmp_path, job(key=KEY))
    assert (list(tmpfs.iterdir()), list((tmp_path / "runs").iterdir())) == ([], [])


def test_unfit_values_are_refused(tmp_path: Path) -> None:
    """A value that could mean more to ssh than itself is a ValueError with the Server's name."""
    with pytest.raises(ValueError, match="s1"):
        files_of(tmp_path, job(ipv4="-oProxyCommand=x"))


def leftover(tmpfs: Path, name: str, owner: str | None) -> Path:
    """Make a private directory as a killed process leaves it."""
    path = tmpfs / f"sg-{name}"
    path.mkdir()
    if owner is not None:
        (path / "owner").write_text(owner)
    return path


@pytest.mark.parametrize(
    ("owner", "removed"),
    [("4000001 1", True), ("{pid} 1", True), ("", True), ("nonsense", True), (None, False)],
)
def test_sweep_removes_what_nobody_owns(tmpfs: Path, owner: str | None, removed: bool) -> None:
    """Private directories of dead processes go, also those of an earlier process with the same pid or no pid at all."""
    path = leftover(tmpfs, "x", owner and owner.format(pid=os.getpid()))
    assert sweep_private() == int(removed)
    assert path.exists() is not removed


def test_sweep_keeps_the_living(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories of this process, of other users and of other programs stay."""
    mine = inventory.private_directory()
    other = tmpfs / "other"
    other.mkdir()
    assert sweep_private() == 0
    leftover(tmpfs, "theirs", "4000001 1")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_001)
    assert sweep_private() == 0
    assert mine.exists()


def test_private_directory_without_tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no tmpfs the directory for temporary files has to do, with the same mode."""
    monkeypatch.setattr(inventory, "TMPFS", (tmp_path / "nowhere",))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = inventory.private_directory()
    assert (path.parent, stat.S_IMODE(path.stat().st_mode)) == (tmp_path, 0o700)
    assert sweep_private() == 0


def run_directories(runs: Path, count: int, size: int = 10) -> None:
    """Make run directories r0, r1, … each a minute older than the next."""
    for number in range(count):
        path = runs / f"r{number}"
        path.mkdir(parents=True)
        (path / "log").write_bytes(b"x" * size)
        moment = 1_000_000_000 + number * 60
        os.utime(path, (moment, moment))


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, {"r0", "r1", "r2", "r3", "r4"}),
        ({"keep": 2}, {"r3", "r4"}),
        ({"keep": 0}, set()),
        ({"size": 35}, {"r2", "r3", "r4"}),
        ({"seconds": 90}, {"r3", "r4"}),
        ({"keep": 1, "live": ["r0"]}, {"r0", "r4"}),
    ],
)
def test_sweep_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, object], kept: set[str]) -> None:
    """The newest run directories stay, within a number, an age and a size; live ones always."""
    runs = tmp_path / "runs"
    run_directories(runs, 5)
    (runs / "a-file").touch()
    monkeypatch.setattr(inventory.time, "time", lambda: 1_000_000_240.0)
    usual: dict[str, object] = {"keep": 50, "seconds": 1e6, "size": 10**6}
    removed = sweep_runs(runs, **{**usual, **limits})  # type: ignore[arg-type]  # a table of keywords
    assert {path.name for path in runs.iterdir() if path.is_dir()} == kept
    assert removed == 5 - len(kept)


def test_two_sweeps_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that another sweep is removing at this moment is no error."""
    runs = tmp_path / "runs"
    run_directories(runs, 2)
    real = Path.is_file

    def vanish(path: Path) -> bool:
        found = real(path)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "is_file", vanish)
    assert sweep_runs(runs, keep=1, seconds=1e12, size=10**6) == 1
    assert inventory._modified(runs / "gone") == 0.0
    assert sweep_runs(tmp_path / "nowhere", keep=1, seconds=1, size=1) == 0
