# SPDX-License-Identifier: Apache-2.0
"""What `stargate-machine-image` understands, refuses and prints.

Building is in test_image.py and tests/integration/test_machine_image.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local import image_cli
from stargate_reconciler.local.image import Image, Images
from stargate_reconciler.local.image_recipe import Recipe

FACTS = {
    "name": "debian-12",
    "digest": "1",
    "debian": "12.9",
    "kubernetes": ["1.30.1"],
    "built": "today",
    "packages": {},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without images."""
    monkeypatch.setenv("STARGATE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("STARGATE_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(image_cli.signal, "signal", lambda *_: None)
    return tmp_path


@pytest.fixture
def image(cache: Path) -> str:
    """An image, and it is the current one; returns its directory."""
    directory = cache / "images" / "debian-12-1"
    directory.mkdir(parents=True)
    (directory / "image.json").write_text(json.dumps(FACTS))
    (cache / "images" / "debian-12").symlink_to("debian-12-1")
    return str(directory)


def test_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options reach the call; a mirror on the command line wins over the environment's."""
    monkeypatch.setenv("STARGATE_DEBIAN_MIRROR", "http://b/")
    words = ["build", "--kube-version", "v1.30.2", "--single", "--again", "-o", "json"]
    command, call = image_cli.read(words)
    assert (command, call.version, call.single, call.again, call.output) == (
        image_cli.build,
        "1.30.2",
        True,
        True,
        "json",
    )
    assert call.mirror == "http://b/"
    assert image_cli.read(["build", "--mirror", "http://a/"])[1].mirror == "http://a/"


@pytest.mark.parametrize("command", ["", *image_cli.COMMANDS])
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as caught:
        image_cli.main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    assert "usage: stargate-machine-image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"), [(["path"], 3), (["list"], 3), (["remove", "all"], 1), (["remove", "x"], 1)]
)
def test_without_images(capsys: pytest.CaptureFixture[str], cache: Path, words: list[str], code: int) -> None:
    """Where there is none each command says so and makes no directory."""
    assert image_cli.main(words) == code
    assert capsys.readouterr().out.strip() == ""
    assert not (cache / "images").exists()


def test_with_an_image(capsys: pytest.CaptureFixture[str], image: str) -> None:
    """The path is one line, the list marks the current image, and both speak JSON."""
    assert image_cli.main(["path"]) == 0
    assert capsys.readouterr().out == f"{image}\n"
    assert image_cli.main(["list"]) == 0
    assert capsys.readouterr().out == "* debian-12-1  Debian 12.9  Kubernetes 1.30.1  today\n"
    assert image_cli.main(["list", "-o", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["directory"], row["current"], row["disk"]) == (image, True, f"{image}/disk.qcow2")
    assert image_cli.main(["remove", "all"]) == 0
    assert capsys.readouterr().out == "debian-12-1\n"
    assert not Path(image).exists()


def test_build(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    """The directory is the last line, the versions and the time are for the reader."""
    asked: list[Any] = []
    monkeypatch.setattr(image_cli, "programs_of", lambda *_, **options: asked.append(options) or {"1.30.1": {}})
    monkeypatch.setattr(
        Images, "build", lambda _self, *words, **options: asked.extend([words, options]) or Image(Path(image))
    )
    assert image_cli.main(["build", "--kube-version", "1.30.1", "--mirror", "http://a/"]) == 0
    seen = capsys.readouterr()
    assert seen.out == f"{image}\n"
    assert "stargate-machine-image: Debian with Kubernetes 1.30.1: 0 s" in seen.err
    assert asked[0] == {"version": "1.30.1", "single": False}
    assert isinstance(asked[1][0], Recipe)
    assert asked[2] == {"mirror": "http://a/", "again": False}


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (WorldError("Failed to obtain kubelet."), 1, "stargate-machine-image: Failed to obtain kubelet.\n"),
        (OSError(28, "No space left on device"), 1, "No space left on device. Is"),
        (KeyboardInterrupt(), 130, "interrupted; nothing is left"),
    ],
)
def test_failures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    """A failure is one sentence and an exit code."""

    def fail(*_words: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(image_cli, "programs_of", fail)
    assert image_cli.main(["build"]) == code
    assert text in capsys.readouterr().err
