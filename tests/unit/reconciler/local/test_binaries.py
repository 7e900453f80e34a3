# SPDX-License-Identifier: Apache-2.0
"""Where programs come from: the order, what one source leaves to the next, and the sentence when none helps.

Sources that fetch are small fakes; directories and PATH are real.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.binaries import directory_of, from_cache, from_path, obtain
from stargate_reconciler.local.locks import locked
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import KUBERNETES_VERSION, NEEDED, Request, Source
from stargate_reconciler.local.progress import Progress


def put(directory: Path, *programs: str, version: str = "1.30.0") -> Path:
    """Put programs that say their version into a directory; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for program in programs:
        (directory / program).write_text(f"#!/bin/sh\necho Kubernetes v{version}\n")
        (directory / program).chmod(0o755)
    return directory


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Empty places below tmp_path."""
    return Places(tmp_path / "state", tmp_path / "cache", path=str(tmp_path / "path"))


def fetching(calls: list[Request], *, fails: str = "") -> Source:
    """Return a source that writes down what it is asked for and then has it, or fails."""

    def source(request: Request) -> dict[str, Path]:
        calls.append(request)
        if fails:
            raise WorldError(fails)
        return {program: Path("/fetched") / program for program in request.programs}

    return source


def where(found: dict[str, Path]) -> dict[str, str]:
    """Return the directory's name for each program."""
    return {name: place.parent.name for name, place in found.items()}


def test_order(places: Places, tmp_path: Path) -> None:
    """The directory of the variable comes before PATH, PATH before the cache, the cache before fetching."""
    put(tmp_path / "path", "etcd", "kubectl")
    put(places.cache / "kube" / "1.30.0", "etcd", "kubectl", "kube-apiserver")
    calls: list[Request] = []
    request = Request((*NEEDED, "kubeadm"), replace(places, bin_dir=put(tmp_path / "bin", "etcd")))
    found = obtain(request, fetch=[("one", fetching(calls))])
    wanted = {"etcd": "bin", "kubectl": "path", "kube-apiserver": "1.30.0", "kubeadm": "fetched"}
    assert where(found) == wanted


def test_everything_here(places: Places, tmp_path: Path) -> None:
    """When nothing is missing nothing is fetched, and no cache is made."""
    put(tmp_path / "path", *NEEDED)
    calls: list[Request] = []
    assert where(obtain(Request(NEEDED, places), fetch=[("one", fetching(calls))])) == dict.fromkeys(NEEDED, "path")
    assert (calls, places.cache.exists()) == ([], False)


def test_next_source_after_a_failure(places: Places) -> None:
    """A source that cannot help leaves the question to the next."""
    calls: list[Request] = []
    fetch = [("one", fetching(calls, fails="unreachable")), ("two", fetching(calls))]
    assert where(obtain(Request(("etcd",), places), fetch=fetch)) == {"etcd": "fetched"}
    assert [request.programs for request in calls] == [("etcd",), ("etcd",)]


def test_nothing_works(places: Places) -> None:
    """One error tells what was tried in which order, why each failed, and what to do."""
    fetch = [
        ("the official release", fetching([], fails="no network")),
        ("the package archive", fetching([], fails="no apt")),
    ]
    with pytest.raises(WorldError) as caught:
        obtain(Request(("etcd", "kubectl"), places, "1.30.0"), fetch=fetch)
    first, *tried, remedy = str(caught.value).splitlines()
    assert first == "Failed to obtain etcd and kubectl 1.30.0. Tried in this order:"
    assert tried == [
        "  STARGATE_KUBE_BIN_DIR: not set",
        "  PATH: no etcd or kubectl 1.30.0 in PATH",
        f"  the cache: no etcd or kubectl 1.30.0 in {places.cache}/kube",
        "  the official release: no network",
        "  the package archive: no apt",
    ]
    assert "set STARGATE_KUBE_BIN_DIR" in remedy
    assert "STARGATE_KUBE_MIRROR" in remedy


def test_others_of_the_same_version(places: Places, tmp_path: Path) -> None:
    """What is fetched beside an API server that is here is of that server's version."""
    put(tmp_path / "path", *NEEDED, version="1.27.3")
    calls: list[Request] = []
    obtain(Request((*NEEDED, "kube-scheduler"), places), fetch=[("one", fetching(calls))])
    assert [(request.programs, request.version) for request in calls] == [(("kube-scheduler",), "1.27.3")]


@pytest.mark.parametrize(("version", "wanted"), [("1.30.0", "path"), ("1.31.0", "fetched")])
def test_exact_version(places: Places, tmp_path: Path, version: str, wanted: str) -> None:
    """A program of another version than the one asked for is passed over."""
    put(tmp_path / "path", "kube-apiserver", version="1.30.0")
    found = obtain(Request(("kube-apiserver",), places, version), fetch=[("one", fetching([]))])
    assert where(found) == {"kube-apiserver": wanted}


def test_program_that_does_not_run(places: Places, tmp_path: Path) -> None:
    """A program that cannot say its version is not the one asked for."""
    put(tmp_path / "path", "kube-apiserver")
    (tmp_path / "path" / "kube-apiserver").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(WorldError, match=r"no kube-apiserver 1.30.0 in PATH"):
        from_path(Request(("kube-apiserver",), places, "1.30.0"))


@pytest.mark.parametrize(
    ("kept", "version", "wanted"),
    [
        (["1.9.0", "1.20.2", "1.100.0"], None, "1.100.0"),
        (["1.100.0", KUBERNETES_VERSION], None, KUBERNETES_VERSION),
        (["1.20.2", "1.100.0"], "1.20.2", "1.20.2"),
    ],
)
def test_version_in_the_cache(places: Places, kept: list[str], version: str | None, wanted: str) -> None:
    """Of several versions in the cache the default is taken, else the newest, unless one is asked for."""
    for name in kept:
        put(places.cache / "kube" / name, *NEEDED)
    assert set(where(from_cache(Request(NEEDED, places, version))).values()) == {wanted}


def test_versions_are_not_mixed(places: Places) -> None:
    """From the cache come an API server and its companions of one version; only etcd may be another's."""
    put(places.cache / "kube" / "1.31.0", "kubeadm", "etcd")
    put(places.cache / "kube" / "1.30.0", "kube-apiserver", "kubectl")
    found = from_cache(Request((*NEEDED, "kubeadm"), places))
    assert where(found) == {"etcd": "1.31.0", "kube-apiserver": "1.30.0", "kubectl": "1.30.0"}


def test_half_written_program_is_not_taken(places: Places) -> None:
    """What is not executable yet is not there yet."""
    (put(places.cache / "kube" / "1.30.0", "etcd") / "etcd").chmod(0o644)
    with pytest.raises(WorldError, match="no etcd in"):
        from_cache(Request(("etcd",), places))


def test_two_do_not_fetch_at_once(places: Places) -> None:
    """Who waited for another to fetch takes what that one has put into the cache."""
    calls: list[Request] = []
    waiting = threading.Event()
    found: dict[str, Path] = {}

    class Notes(Progress):
        def note(self, _text: str) -> None:
            waiting.set()

    request = Request(("etcd",), places, progress=Notes())

    def second() -> None:
        found.update(obtain(request, fetch=[("one", fetching(calls))]))

    with locked(places.cache):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        put(places.cache / "kube" / "1.30.0", "etcd")
    thread.join(5)
    assert (where(found), calls) == ({"etcd": "1.30.0"}, [])


def test_directory_of_all(places: Places, tmp_path: Path) -> None:
    """Programs of one directory are named by it, scattered ones by a directory of links, made again at need."""
    together = put(tmp_path / "one", "etcd", "kubectl")
    assert directory_of({name: together / name for name in ("etcd", "kubectl")}, places) == together
    other = put(tmp_path / "two", "kubectl")
    for _ in range(2):
        links = directory_of({"etcd": together / "etcd", "kubectl": other / "kubectl"}, places)
    assert links == places.cache / "bin"
    assert {p.name: p.resolve() for p in links.iterdir()} == {"etcd": together / "etcd", "kubectl": other / "kubectl"}
