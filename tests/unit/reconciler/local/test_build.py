# SPDX-License-Identifier: Apache-2.0
"""The build from the archive, step by step: what is asked of apt and of Go, in which order and environment.

Commands are answered by a small actor that makes the files which the real ones would make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import archive, debian
from stargate_reconciler.local.archive import Archive
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import NEEDED, Request
from stargate_reconciler.local.progress import Progress

REFLECT = "github.com/modern-go/reflect2"
OPENAPI = "vendor/k8s.io/kube-openapi"


class Actor(Archive):
    """An archive of one distribution with Kubernetes 1.20.2, Go 1.19 and etcd."""

    sources = ""
    commands: list[list[str]]
    environments: list[Mapping[str, str]]
    fails = ""
    has_generator = True

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Do what the command would do to files."""
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.fails and self.fails in words and check:
            raise WorldError(f"{self.fails} failed")
        if env is not None:
            self.environments.append(env)
        acts = {"indextargets": self._targets, "showsrc": self._showsrc, "depends": self._depends}
        for word, act in acts.items():
            if word in words:
                return act(words)
        self._make(words, cwd or Path())
        return ""

    def _targets(self, words: list[str]) -> str:
        # As on a fresh container: nothing without lists, unless their owners do not matter.
        return f"Created-By: Packages\nSourcesentry: {self.sources}:1\n" if "--no-release-info" in words else ""

    def _showsrc(self, _words: list[str]) -> str:
        return "Package: kubernetes\nVersion: 1.20.5+really1.20.2-1.1\n"

    def _depends(self, _words: list[str]) -> str:
        return "golang-go\n  Depends: golang-1.19-go\n  Depends: golang-src\n"

    def _make(self, words: list[str], cwd: Path) -> None:
        if "download" in words:
            for package in words[words.index("download") + 1 :]:
                (cwd / f"{package}_1_amd64.deb").touch()
        elif words[0] == "dpkg-deb":
            for name in (f"usr/share/gocode/src/{REFLECT}/new.go", "usr/lib/go-1.19/bin/go", "usr/bin/etcd"):
                put(Path(words[3]) / name)
        elif "source" in words:
            put(cwd / "kubernetes_1.20.5+really1.20.2.orig.tar.gz")
        elif words[0] == "tar":
            tree = Path(words[words.index("-C") + 1])
            put(tree / "vendor" / REFLECT / "old.go")
            put(tree / OPENAPI / ("cmd/openapi-gen/main.go" if self.has_generator else "README"))
        elif words[0] == "nice":
            into = words[words.index("-o") + 1]
            for package in (word for word in words if word.startswith("./cmd/")):
                put(Path(into) / Path(package).name)


def put(path: Path) -> None:
    """Make a file and its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Places below tmp_path, and the actor instead of the archive."""
    (tmp_path / "own.list").write_text("deb http://archive.example/debian stable main\n")
    for name, value in {"commands": [], "environments": [], "sources": f"{tmp_path}/own.list"}.items():
        monkeypatch.setattr(Actor, name, value, raising=False)
    monkeypatch.setattr(archive.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian, "Archive", Actor)
    monkeypatch.setattr(debian, "_SPACE", 0)
    return Places(tmp_path / "state", tmp_path / "cache")


def test_build_from_nothing(places: Places) -> None:
    """All programs land in the cache under the upstream version, and the archive's reflect2 replaces the old one."""
    found = debian.from_debian(Request(NEEDED, places))
    kept = places.cache / "kube" / "1.20.2"
    assert found == {name: kept / name for name in NEEDED}
    assert sorted(path.name for path in kept.iterdir()) == sorted(NEEDED)
    vendored = places.cache / "debian/kubernetes-1.20.2/src/k8s.io/kubernetes/vendor" / REFLECT
    assert [path.name for path in vendored.iterdir()] == ["new.go"]
    builds = [words[-1] for words in Actor.commands if words[0] == "nice"]
    assert builds == ["./vendor/k8s.io/kube-openapi/cmd/openapi-gen", "./cmd/kubectl"]


def test_second_build_is_only_a_build(places: Places) -> None:
    """What was unpacked and generated once is used again."""
    debian.from_debian(Request(("kubectl",), places))
    Actor.commands.clear()
    debian.from_debian(Request(("kubeadm",), places))
    assert [words[0] for words in Actor.commands if words[0] in ("nice", "tar", "dpkg-deb")] == ["nice"]


def test_stamped_programs_are_kept_apart(places: Places) -> None:
    """The same source is linked with another patch version; the result is no version that others would find."""
    request = Request(("kubelet",), places)
    assert debian.stamped(request, "1.20.3") == {"kubelet": places.cache / "stamped" / "1.20.3" / "kubelet"}
    (build,) = (words for words in Actor.commands if words[-1] == "./cmd/kubelet")
    assert "component-base/version.gitVersion=v1.20.3" in build[build.index("-ldflags") + 1]
    assert not (places.cache / "kube").exists()
    Actor.commands.clear()
    debian.stamped(request, "1.20.3")
    assert Actor.commands == []


@pytest.mark.parametrize(("version", "stamp"), [(None, "1.21.0"), ("1.22.1", "1.22.2")])
def test_stamp_of_another_minor_version(places: Places, version: str | None, stamp: str) -> None:
    """Only another patch version of what the archive has can be stamped."""
    with pytest.raises(WorldError, match=r"no patch version of the Kubernetes|has Kubernetes 1.20.2, not 1.22.1"):
        debian.stamped(Request(("kubelet",), places, version), stamp)
    assert not (places.cache / "stamped").exists()


def test_apt_is_private(places: Places) -> None:
    """Every question to the archive goes to private lists, and the machine's sources are only read."""
    debian.from_debian(Request(NEEDED, places))
    asked = [words for words in Actor.commands if words[0].startswith("apt-") and "indextargets" not in words]
    assert len(asked) >= 5
    for words in asked:
        assert f"Dir::State::Lists={places.cache}/debian/lists" in words
        assert f"Dir::Etc::SourceParts={places.cache}/debian/sources.list.d" in words
    (own,) = (places.cache / "debian" / "sources.list.d").iterdir()
    address = "http://archive.example/debian stable main"
    assert own.read_text() == f"deb {address}\ndeb-src {address}\n"


def test_go_is_the_archives(places: Places) -> None:
    """Go is the unpacked one, in GOPATH mode, with caches of its own and nothing from the user's environment."""
    debian.from_debian(Request(("kubectl",), places))
    root = places.cache / "debian" / "kubernetes-1.20.2"
    assert [words[1] for words in Actor.commands if words[0] == "nice"] == [f"{root}/root/usr/lib/go-1.19/bin/go"] * 2
    for environ in Actor.environments:
        assert (environ["GO111MODULE"], environ["CGO_ENABLED"], environ["GOENV"]) == ("off", "0", "off")
        assert {environ["GOPATH"], environ["HOME"]} == {str(root)}


def test_interrupted_preparation_begins_anew(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree that was not finished is not built in."""
    monkeypatch.setattr(Actor, "fails", "tar")
    with pytest.raises(WorldError, match="tar failed"):
        debian.from_debian(Request(("kubectl",), places))
    monkeypatch.setattr(Actor, "fails", "")
    assert debian.from_debian(Request(("kubectl",), places))["kubectl"].exists()


def test_unknown_layout(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source package without its vendored generator is refused with a sentence."""
    monkeypatch.setattr(Actor, "has_generator", False)
    with pytest.raises(WorldError, match="laid out in a way not known here"):
        debian.from_debian(Request(("kubectl",), places))


def test_archive_without_go(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive without Go is the reason."""
    monkeypatch.setattr(Actor, "_depends", lambda *_: "")
    with pytest.raises(WorldError, match="has no Go"):
        debian.from_debian(Request(("kubectl",), places))


def test_apt_without_sources(tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose apt knows no archive is told so."""
    monkeypatch.setattr(Actor, "_targets", lambda *_: "")
    with pytest.raises(WorldError, match="apt has no package sources here"):
        Actor(tmp_path / "apt", Progress()).update()
