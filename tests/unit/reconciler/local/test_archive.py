# SPDX-License-Identifier: Apache-2.0
"""What apt says about its sources, turned into a private sources list.

Texts only; the steps of a build are in test_build.py.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import archive
from stargate_reconciler.local.archive import Archive, Index, Target, chosen, of_debian, targets, with_sources
from stargate_reconciler.local.progress import Progress

INDEXTARGETS = """\
MetaKey: main/binary-amd64/Packages
ShortDesc: Packages
URI: http://archive.example/debian/dists/bookworm/main/binary-amd64/Packages
Codename: bookworm
Origin: Debian
Created-By: Packages
Fallback-Of: \nSourcesentry: /etc/apt/sources.list.d/debian.sources:1
Target-Of: deb

MetaKey: main/i18n/Translation-en
Origin: Debian
Created-By: Translations
Sourcesentry: /etc/apt/sources.list.d/debian.sources:1

MetaKey: main/binary-amd64/Packages
Origin: Somebody
Created-By: Packages
Sourcesentry: /etc/apt/sources.list.d/other.list:3
"""
SOURCES = textwrap.dedent("""\
    # what the installer wrote
    Types: deb
    # a comment between
    URIs: http://archive.example/debian
    Suites: bookworm bookworm-updates
    Signed-By: /usr/share/keyrings/archive.gpg

    Types: deb
    URIs: http://archive.example/security
    Suites: bookworm-security
    """)
LIST = "# comment\n\ndeb [signed-by=/k.gpg] http://archive.example/ubuntu noble main universe\ndeb-src http://x y z\n"


def test_targets_are_the_package_indexes() -> None:
    """Of all that apt lists only package indexes count, each with file, entry and origin."""
    assert targets(INDEXTARGETS) == [
        Target("/etc/apt/sources.list.d/debian.sources", 1, "Debian"),
        Target("/etc/apt/sources.list.d/other.list", 3, "Somebody"),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "E: Something\n"])
def test_no_targets(text: str) -> None:
    """Nothing comes of nothing."""
    assert targets(text) == []


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ([Target("a", 1, "Debian"), Target("a", 1, "Debian"), Target("b", 2, "Else")], [("a", 1)]),
        ([Target("a", 1, "Ubuntu"), Target("a", 2, "Ubuntu")], [("a", 1), ("a", 2)]),
        ([Target("a", 1, ""), Target("b", 2, "Else")], [("a", 1), ("b", 2)]),
        ([], []),
    ],
)
def test_the_distributions_own_archive_is_chosen(known: list[Target], wanted: list[tuple[str, int]]) -> None:
    """Others' archives are asked only where none calls itself the distribution's; each entry comes once."""
    assert chosen(known) == wanted


@pytest.mark.parametrize(
    ("entry", "first", "suites"),
    [(1, "# what the installer wrote", "Suites: bookworm bookworm-updates"), (2, "Types: deb deb-src", "Suites: boo")],
)
def test_stanza_gets_sources(entry: int, first: str, suites: str) -> None:
    """A stanza of the newer form is taken over whole, its keys too, with source packages added."""
    text = with_sources(SOURCES, entry, is_deb822=True)
    assert text.startswith(first)
    assert "\nTypes: deb deb-src\n" in f"\n{text}"
    assert suites in text


def test_line_gets_sources() -> None:
    """A line of the older form comes twice, once for source packages, options kept."""
    line = "[signed-by=/k.gpg] http://archive.example/ubuntu noble main universe"
    assert with_sources(LIST, 3, is_deb822=False) == f"deb {line}\ndeb-src {line}\n"


@pytest.mark.parametrize(("entry", "is_deb822"), [(1, False), (4, False), (99, False), (3, True)])
def test_no_such_entry(entry: int, is_deb822: bool) -> None:
    """What is no entry for packages gives nothing."""
    assert with_sources(SOURCES if is_deb822 else LIST, entry, is_deb822=is_deb822) == ""


def test_other_systems_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt the reason is the system."""
    monkeypatch.setattr(archive.shutil, "which", lambda _name: None)
    with pytest.raises(WorldError, match="not Debian or Ubuntu"):
        Archive(tmp_path, Progress())


def test_failed_command_has_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of a failure is in the error, all of the output in a log that the error names."""
    monkeypatch.setattr(archive.shutil, "which", lambda name: name)
    asked = Archive(tmp_path, Progress())
    with pytest.raises(WorldError, match=r"sh ended with code 4: no luck \(all of it in .*apt.log\)"):
        asked.run(["sh", "-c", "echo fine; echo no luck >&2; exit 4"])
    assert "fine\nno luck" in (tmp_path / "apt.log").read_text()


@pytest.mark.parametrize(
    ("output", "wanted"),
    [("golang-go\n  Depends: golang-1.19-go\n |Suggests: git\n  Breaks: <x>\n", ["golang-1.19-go"]), ("", [])],
)
def test_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, wanted: list[str]) -> None:
    """Only what a package depends on counts."""
    monkeypatch.setattr(archive.shutil, "which", lambda name: name)
    monkeypatch.setattr(Archive, "run", lambda *_a, **_k: output)
    assert Archive(tmp_path, Progress()).dependencies("golang-go") == wanted


def test_indexes_of_debian() -> None:
    """Only Debian's own package indexes count, each place once."""
    text = (
        "Packages|Debian|http://a/debian/|Debian\nPackages|Debian|http://a/debian/|Debian\n"
        "Packages|Debian|http://a/security/|Debian-Security\nTranslations|Debian|http://a/debian/|Debian\n"
        "Packages|Somebody|http://b/|Tools | more\n\nother\n"
    )
    assert of_debian(text) == [Index("http://a/debian/", "Debian"), Index("http://a/security/", "Debian-Security")]


def test_machine_without_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where apt does not know yet whose its indexes are, private lists are read first."""
    asked: list[list[str]] = []
    monkeypatch.setattr(archive.shutil, "which", lambda name: name)
    one = Archive(tmp_path, Progress())
    monkeypatch.setattr(one, "update", lambda: asked.append(["update"]))
    answers = ["Packages||http://a/|\n", "Packages|Debian|http://a/|Debian\n"]
    monkeypatch.setattr(one, "run", lambda words: asked.append(words) or answers[len(asked) > 1])
    assert one.indexes_of_debian() == [Index("http://a/", "Debian")]
    assert asked[1] == ["update"]
    assert f"Dir::State::Lists={tmp_path}/lists" in asked[2]
