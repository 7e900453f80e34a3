# SPDX-License-Identifier: Apache-2.0
"""Control groups of machines, in directories that look like those of each version.

A directory takes no processes, so killing is shown with files that name processes of this test.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _cgroup
from ansible_collections.stargate.core.plugins.module_utils._cgroup import Hierarchy, empty, hierarchies, make, mounted
from ansible_collections.stargate.core.plugins.module_utils._errors import Timeout

HYBRID = """\
25 30 0:23 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:24 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
27 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
28 25 0:26 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
29 25 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
31 30 0:24 / /mnt/memory rw,relatime - cgroup cgroup rw,memory
"""
UNIFIED = "26 25 0:24 / /sys/fs/cgroup rw,relatime shared:5 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


@pytest.fixture
def trees(tmp_path: Path) -> list[Hierarchy]:
    """Return trees as a host with both versions has them."""
    cpuset = Hierarchy(tmp_path / "cpuset", frozenset({"cpuset"}))
    memory = Hierarchy(tmp_path / "memory", frozenset({"memory"}))
    unified = Hierarchy(tmp_path / "unified", frozenset({"unified"}))
    for tree in (cpuset, memory, unified):
        tree.mount.mkdir()
    for name, text in (("cpuset.cpus", "0-1"), ("cpuset.mems", "0")):
        (cpuset.mount / name).write_text(text)
    (unified.mount / "cgroup.controllers").write_text("cpu memory\n")
    return [cpuset, memory, unified]


def test_trees_of_a_host() -> None:
    """Each tree is found once, where it is mounted, with its controllers."""
    found = {str(tree.mount): tree for tree in hierarchies(HYBRID)}
    assert sorted(found) == [f"/sys/fs/cgroup/{name}" for name in ("cpu,cpuacct", "memory", "systemd", "unified")]
    assert found["/sys/fs/cgroup/cpu,cpuacct"].controllers == {"cpu", "cpuacct"}
    assert {name.rpartition("/")[2] for name, tree in found.items() if tree.is_systemds} == {"systemd", "unified"}
    (only,) = hierarchies(UNIFIED)
    assert (str(only.mount), only.is_unified) == ("/sys/fs/cgroup", True)


def test_this_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The trees are read from the kernel's table."""
    (tmp_path / "mountinfo").write_text(UNIFIED)
    monkeypatch.setattr(_cgroup, "MOUNTINFO", tmp_path / "mountinfo")
    assert mounted() == hierarchies(UNIFIED)


def test_groups_are_made(trees: list[Hierarchy], tmp_path: Path) -> None:
    """A machine enters one group in each tree; where systemd works its inside has another."""
    outside, inside = make(trees, "sg-w1", memory=1024, cpus=2)
    assert [str(path.relative_to(tmp_path)) for path in outside] == [
        "cpuset/stargate/sg-w1/cgroup.procs",
        "memory/stargate/sg-w1/cgroup.procs",
        "unified/stargate/sg-w1/loop/cgroup.procs",
    ]
    assert [str(path.relative_to(tmp_path)) for path in inside] == ["unified/stargate/sg-w1/machine/cgroup.procs"]
    assert (tmp_path / "cpuset/stargate/sg-w1/cpuset.cpus").read_text() == "0-1"
    for group in ("unified", "unified/stargate", "unified/stargate/sg-w1"):
        assert (tmp_path / group / "cgroup.subtree_control").read_text() == "+memory"
    assert make(trees, "sg-w1", memory=1024, cpus=2) == (outside, inside)


def test_limits(trees: list[Hierarchy], tmp_path: Path) -> None:
    """What a machine may take is written where the kernel has a file for it; a refusal is no failure."""
    groups = [tmp_path / tree / "stargate/sg-w1" for tree in ("memory", "unified")]
    for group, names in zip(groups, (["memory.limit_in_bytes"], ["memory.max", "cpu.max"]), strict=True):
        group.mkdir(parents=True)
        for name in names:
            (group / name).touch()
    (groups[0] / "cpu.cfs_quota_us").mkdir()
    make(trees, "sg-w1", memory=1024, cpus=2)
    assert (groups[0] / "memory.limit_in_bytes").read_text() == "1024M"
    assert ((groups[1] / "memory.max").read_text(), (groups[1] / "cpu.max").read_text()) == ("1024M", "200000 100000")


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_a_parent_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    """When the last machine's end takes the common group away in between, it is made again."""
    tree = Hierarchy(tmp_path, frozenset({"memory"}))
    real, tries = Path.mkdir, []

    def vanish(path: Path, *args: int, **options: bool) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise error
        real(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", vanish)
    make([tree], "sg-w1", memory=1, cpus=1)
    assert (tmp_path / "stargate/sg-w1").is_dir()


def test_groups_go_with_their_processes(
    trees: list[Hierarchy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is in a group is killed; then the groups are gone, and the common one unless others need it."""
    make(trees, "sg-w1", memory=1, cpus=1)
    (tmp_path / "memory/stargate/sg-w2").mkdir()
    for file in tmp_path.rglob("stargate/**/*"):
        if file.is_file():
            file.unlink()
    (tmp_path / "unified/stargate/cgroup.subtree_control").unlink(missing_ok=True)
    process = subprocess.Popen(["sleep", "60"])
    procs = tmp_path / "unified/stargate/sg-w1/machine/cgroup.procs"
    procs.write_text(f"{process.pid}\n0\n")
    monkeypatch.setattr(_cgroup.time, "sleep", lambda _: procs.unlink(missing_ok=True))
    empty(trees, "sg-w1")
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in tmp_path.rglob("sg-*")] == ["sg-w2"]
    assert not (tmp_path / "unified/stargate").exists()
    empty(trees, "sg-w1")


def test_groups_that_go_meanwhile(trees: list[Hierarchy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that ends takes its own groups away while they are looked through."""
    make(trees, "sg-w1", memory=1, cpus=1)
    (tmp_path / "unified/stargate/sg-w1/machine/inner/deep").mkdir(parents=True)
    real = os.scandir

    def vanish(path: str = ".") -> Any:
        if str(path).endswith("inner"):
            shutil.rmtree(path, ignore_errors=True)
        return real(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert _cgroup._pids(tmp_path / "unified/stargate/sg-w1") == []


def test_groups_that_stay(trees: list[Hierarchy], tmp_path: Path) -> None:
    """When processes survive, that is said; one that ended by itself is no matter."""
    make(trees, "sg-w1", memory=1, cpus=1)
    process = subprocess.Popen(["true"])
    process.wait()
    (tmp_path / "memory/stargate/sg-w1/cgroup.procs").write_text(f"{process.pid}\n")
    with pytest.raises(Timeout, match="sg-w1"):
        empty(trees, "sg-w1", patience=0)
