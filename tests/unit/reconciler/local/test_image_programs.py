# SPDX-License-Identifier: Apache-2.0
"""Which two patch versions go into an image, and in which order they are looked for.

Programs are scripts that tell a version.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import image_programs
from stargate_reconciler.local.image_programs import PROGRAMS, neighbours, programs_of
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.progress import Progress


def keep(directory: Path, version: str) -> dict[str, Path]:
    """Put programs of a version into a directory."""
    directory.mkdir(parents=True)
    for name in PROGRAMS:
        (directory / name).write_text(f"#!/bin/sh\necho Kubernetes v{version}\n")
        (directory / name).chmod(0o755)
    return {name: directory / name for name in PROGRAMS}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A cache with 1.30.2, and neither releases nor sources."""
    found = Places(tmp_path / "state", tmp_path / "cache")
    keep(found.cache / "kube" / "1.30.2", "1.30.2")

    def nothing(*words: object) -> dict[str, Path]:
        raise WorldError(f"nothing for {words[-1]}")

    monkeypatch.setattr(image_programs, "_RELEASE", (("the release", lambda r: nothing(r.version)),))
    monkeypatch.setattr(image_programs, "obtain_stamped", nothing)
    return found


def versions(places: Places, **options: bool) -> dict[str, Path]:
    """Return for each version where its kubelet is."""
    return {version: files["kubelet"] for version, files in programs_of(places, Progress(), **options).items()}


@pytest.mark.parametrize(("version", "wanted"), [("1.30.2", ["1.30.3", "1.30.1"]), ("1.30.0", ["1.30.1"])])
def test_neighbours(version: str, wanted: Sequence[str]) -> None:
    """The next patch version comes before the last; there is none before the first."""
    assert neighbours(version) == wanted


def test_single(places: Places) -> None:
    """Only the version at hand, when that is asked for."""
    assert list(versions(places, single=True)) == ["1.30.2"]


def test_version_of_the_api_server_at_hand(places: Places, tmp_path: Path) -> None:
    """Machines fit the API server that a local control plane would run, not the newest kubelet."""
    keep(places.cache / "kube" / "1.31.0", "1.31.0")
    assert list(versions(places, single=True)) == ["1.31.0"]
    server = keep(tmp_path / "bin", "1.30.2")["kubelet"].rename(tmp_path / "bin" / "kube-apiserver")
    assert list(versions(replace(places, path=str(server.parent)), single=True)) == ["1.30.2"]


def test_kept_versions_come_first(places: Places) -> None:
    """A real version in the cache wins over a stamped one, that over everything that takes time."""
    stamped = keep(places.cache / "stamped" / "1.30.3", "1.30.3")
    assert versions(places)["1.30.3"] == stamped["kubelet"]
    kept = keep(places.cache / "kube" / "1.30.1", "1.30.1")
    assert versions(places) == {
        "1.30.2": places.cache / "kube/1.30.2/kubelet",
        "1.30.1": kept["kubelet"],
    }


def test_release_before_a_stamp(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second release is downloaded where there is one; only else the source is built with another stamp."""
    built = keep(tmp_path / "built", "1.30.3")
    monkeypatch.setattr(image_programs, "obtain_stamped", lambda _request, stamp: built if stamp == "1.30.3" else {})
    assert versions(places)["1.30.3"] == built["kubelet"]
    loaded = keep(tmp_path / "loaded", "1.30.1")
    release = (("the release", lambda request: loaded if request.version == "1.30.1" else {}),)
    monkeypatch.setattr(image_programs, "_RELEASE", release)
    assert versions(places)["1.30.1"] == loaded["kubelet"]


def test_no_second_version(places: Places) -> None:
    """Where none can be had the image gets one, and a note says why."""
    said = io.StringIO()
    assert list(programs_of(places, Progress(said))) == ["1.30.2"]
    assert "one version of Kubernetes only. nothing for 1.30.3" in said.getvalue()
