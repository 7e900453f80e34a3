# SPDX-License-Identifier: Apache-2.0
"""The cache of images, against a real server on loopback: checked, asked again, shared, and not for ever.

Cuts and stalls are test__image_fetch.py's.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plugins.module_utils.image_server import ImageServer

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._image import BASE, Cache, cache_directory, local_path
from ansible_collections.stargate.core.plugins.module_utils._image_fetch import Limits

LIMITS = Limits(stall=0.5, deadline=10, attempts=2, pause=0.01, reserve=0)
FIRST, SECOND = b"first" * 1000, b"second" * 1000
IMG = "/jammy/current/jammy.img"


def checksum(content: bytes, name: str = "sha256") -> str:
    """Return a content's checksum as users write it."""
    return f"{name}:{hashlib.new(name, content).hexdigest()}"


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """Return a server laid out as Ubuntu's, with a list of checksums."""
    served = ImageServer()
    served.publish(IMG, FIRST)
    yield served
    served.close()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return Cache(tmp_path / "cache", LIMITS)


def test_a_published_checksum(server: ImageServer, cache: Cache) -> None:
    """The list beside the file is asked each time, the file only when the list names another version."""
    assert cache.foretold(server.url + IMG, "") is True
    first = cache.image(server.url + IMG, "")
    assert (first.path.read_bytes(), first.loaded, first.notes) == (FIRST, True, ())
    assert first.path.name == f"jammy-{first.sha256[:16]}.img"
    assert cache.image(server.url + IMG, "").loaded is False
    server.publish(IMG, SECOND)
    second = cache.image(server.url + IMG, "")
    assert (second.path.read_bytes(), second.loaded) == (SECOND, True)
    assert server.requests(IMG) == [200, 200]
    assert cache.foretold(server.url + IMG, "") is False


def test_a_version_in_use_stays(server: ImageServer, cache: Cache, tmp_path: Path) -> None:
    """An older version stays as long as a machine builds on it, and goes with the first look after that."""
    machine = tmp_path / "machine"
    machine.mkdir()
    first = cache.image(server.url + IMG, "", user=machine)
    (machine / BASE).symlink_to(first.path)
    server.publish(IMG, SECOND)
    second = cache.image(server.url + IMG, "")
    assert first.path.read_bytes() == FIRST
    server.publish(IMG, b"third")
    (machine / BASE).unlink()
    cache.image(server.url + IMG, "", user=machine)
    assert (first.path.exists(), second.path.exists()) == (False, False)


def test_a_wrong_published_checksum(server: ImageServer, cache: Cache) -> None:
    """A file that is not what the list says is removed, and the next try begins anew."""
    server.files[IMG] = SECOND
    with pytest.raises(Invalid, match=r"/jammy/current/jammy\.img") as caught:
        cache.image(server.url + IMG, "")
    assert caught.value.code == "ChecksumMismatch"
    assert not [path for path in cache.directory.iterdir() if path.suffix in (".img", ".part")]
    server.files[IMG] = FIRST
    assert cache.image(server.url + IMG, "").path.read_bytes() == FIRST


@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_a_given_checksum(server: ImageServer, cache: Cache, name: str) -> None:
    """With a checksum that the cache has, the network is not asked at all."""
    assert cache.image(server.url + IMG, checksum(FIRST, name)).loaded is True
    server.close()
    assert cache.image(server.url + IMG, checksum(FIRST, name)).loaded is False
    assert cache.foretold(server.url + IMG, checksum(SECOND)) is True
    with pytest.raises(StargateError) as caught:
        cache.image(server.url + IMG, checksum(SECOND))
    assert caught.value.code == "ImageUnavailable"


def test_a_given_checksum_that_is_wrong(server: ImageServer, cache: Cache) -> None:
    """A wrong file is refused although the list beside it agrees with it."""
    with pytest.raises(Invalid, match=checksum(SECOND)[7:]) as caught:
        cache.image(server.url + IMG, checksum(SECOND))
    assert (caught.value.code, caught.value.retryable) == ("ChecksumMismatch", False)


def test_without_any_checksum(server: ImageServer, cache: Cache) -> None:
    """Without a list the file's version is asked for, and a note says that nobody vouches for it."""
    server.publish("/plain.qcow2", FIRST, sums=False)
    first = cache.image(f"{server.url}/plain.qcow2", "")
    assert first.sha256 in first.notes[0]
    again = cache.image(f"{server.url}/plain.qcow2", "")
    assert (again.loaded, again.notes) == (False, ())
    server.publish("/plain.qcow2", SECOND, sums=False)
    assert cache.image(f"{server.url}/plain.qcow2", "").path.read_bytes() == SECOND
    assert server.requests("/plain.qcow2") == [200, 304, 200]


def test_offline(server: ImageServer, cache: Cache) -> None:
    """When nobody answers, the version in the cache serves and a note says so; an empty cache cannot."""
    path = cache.image(server.url + IMG, "").path
    server.close()
    image = cache.image(server.url + IMG, "")
    assert (image.path, image.loaded) == (path, False)
    assert "is used as it is" in image.notes[0]
    with pytest.raises(StargateError, match="SHA256SUMS"):
        cache.image(f"{server.url}/other.img", "")


def test_a_damaged_cache(server: ImageServer, cache: Cache) -> None:
    """A file of another size, or a record that cannot be read, is as good as nothing."""
    image = cache.image(server.url + IMG, "")
    image.path.write_bytes(b"torn")
    assert cache.image(server.url + IMG, "").path.read_bytes() == FIRST
    record = next(path for path in cache.directory.iterdir() if path.suffix == ".json")
    record.write_text("{")
    assert cache.image(server.url + IMG, "").loaded is True


def test_two_at_once(server: ImageServer, cache: Cache) -> None:
    """Of several that want the same image, one loads it and the others wait."""
    server.faults.stalls = 1
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(cache.image(server.url + IMG, "").loaded)) for _ in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == [False, False, True]
    assert server.requests(IMG) == [200, 206]


def test_names_are_tame(server: ImageServer, cache: Cache) -> None:
    """Neither a path nor a secret of the address gets into the cache's names."""
    server.publish("/x%20y.img", FIRST, sums=False)
    image = cache.image(f"{server.url}/x%20y.img?sig=canary", "")
    assert image.path.name == f"x_y-{image.sha256[:16]}.img"
    assert not [path for path in cache.directory.iterdir() if "canary" in path.name + path.read_text(errors="replace")]


def test_files_of_this_host(cache: Cache, tmp_path: Path) -> None:
    """A path or file:// is used where it is, through links to the file itself, and checked when a checksum is given."""
    (tmp_path / "real.img").write_bytes(FIRST)
    (tmp_path / "link.img").symlink_to("real.img")
    for source in (str(tmp_path / "link.img"), f"file://{tmp_path}/real.img", f"file://localhost{tmp_path}/real.img"):
        image = cache.image(source, checksum(FIRST))
        assert (image.path, image.loaded) == (tmp_path / "real.img", False)
    assert cache.foretold(str(tmp_path / "real.img"), "") is False
    assert not cache.directory.exists()
    with pytest.raises(Invalid) as caught:
        cache.image(str(tmp_path / "real.img"), checksum(SECOND))
    assert caught.value.code == "ChecksumMismatch"
    assert (tmp_path / "real.img").exists()


@pytest.mark.parametrize("source", ["/nowhere/x.img", "/proc", "ftp://host/x.img", "", "file://elsewhere/x.img"])
def test_sources_that_are_none(cache: Cache, source: str) -> None:
    """What cannot be an image is named and not tried again."""
    with pytest.raises(StargateError) as caught:
        cache.image(source, "")
    assert (caught.value.code, caught.value.retryable) == ("ImageUnavailable", False)


def test_places() -> None:
    """The option comes first, then the environment, then the home directory."""
    assert cache_directory("/a/b", {}) == Path("/a/b")
    assert cache_directory(None, {"STARGATE_CACHE_DIR": "/c"}) == Path("/c/images")
    assert cache_directory("", {"HOME": "/home/u"}) == Path("/home/u/.cache/stargate/images")
    assert local_path("https://host/x") is None
    assert local_path("file:///a%20b") == Path("/a b")
