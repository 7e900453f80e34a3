# SPDX-License-Identifier: Apache-2.0
"""Operations are files: found by name, replaced by a later directory, known as soon as they are dropped in.

What is in them is not read.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from stargate_reconciler.catalogue import Catalogue, built_in
from stargate_reconciler.errors import UserError


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return a directory with one operation, and files that are none."""
    for name in ("dance.yml", "Dance.yml", "1st.yml", "notes.yaml", "under_score.yml", "readme.md"):
        (tmp_path / name).write_text("[]")
    return tmp_path


def touched(directory: Path, seconds: int) -> None:
    """Give a directory another time of change."""
    os.utime(directory, (seconds, seconds))


def test_names(mine: Path) -> None:
    """An operation is a .yml file whose name an Operation may have."""
    assert Catalogue([mine]).current() == {"dance": str(mine / "dance.yml")}


def test_later_directories_win(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file replaces one of the same name in an earlier directory."""
    other = tmp_path_factory.mktemp("other")
    (other / "dance.yml").write_text("[]")
    (other / "sing.yml").write_text("[]")
    found = Catalogue([mine, other]).current()
    assert found == {"dance": str(other / "dance.yml"), "sing": str(other / "sing.yml")}


def test_dropped_in_and_taken_away(mine: Path) -> None:
    """A file that is dropped in is known at the next look, one that is removed is not, and no look is made in vain."""
    catalogue = Catalogue([mine])
    touched(mine, 1000)
    first = catalogue.current()
    assert catalogue.current() is first
    (mine / "sing.yml").write_text("[]")
    assert set(catalogue.current()) == {"dance", "sing"}
    (mine / "dance.yml").unlink()
    touched(mine, 2000)
    assert set(catalogue.current()) == {"sing"}


def test_directory_that_vanishes(mine: Path) -> None:
    """Operations of a directory that was taken away are not known any more, and no error."""
    catalogue = Catalogue([mine])
    catalogue.current()
    mine.rename(mine.with_name("moved"))
    assert catalogue.current() == {}


def test_missing_directory() -> None:
    """A directory that is not there is the user's mistake, by the flag."""
    with pytest.raises(UserError, match="--operations-dir") as caught:
        Catalogue([Path("/nowhere/at/all")])
    assert "/nowhere/at/all" in str(caught.value)


def test_built_in_operations() -> None:
    """The collection's own operations are found where it is installed."""
    assert "repave" in Catalogue([built_in()]).current()


@pytest.mark.parametrize("locations", [None, [], ["/nowhere"]])
def test_collection_is_missing(monkeypatch: pytest.MonkeyPatch, locations: list[str] | None) -> None:
    """Without the collection the sentence says what to run."""
    spec = None if locations is None else type("Spec", (), {"submodule_search_locations": locations})()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(UserError, match="make deps"):
        built_in()
