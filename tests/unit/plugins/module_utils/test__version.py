# SPDX-License-Identifier: Apache-2.0
"""Versions: what is read, in which order they are, and which one is picked.

Tables of texts in, versions out.
"""

from __future__ import annotations

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import Version, asked, found, newest


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.34", Version(1, 34)),
        ("v1.34", Version(1, 34)),
        ("1.34.2", Version(1, 34, 2)),
        (" v1.34.2\n", Version(1, 34, 2)),
        ("v1.35.0-rc.1", Version(1, 35, 0, "-rc.1")),
        ("v1.20.2+debian", Version(1, 20, 2)),
    ],
)
def test_asked(text: str, version: Version) -> None:
    """A person may write a version with or without its patch and its v."""
    assert asked(text) == version


@pytest.mark.parametrize("text", ["", "latest", "1", "1.34.x", "1.34.2.1", "1.3", "v1.14.9", "1.34; reboot"])
def test_asked_refuses(text: str) -> None:
    """What is no version, or one from before our time, is a user's mistake."""
    with pytest.raises(StargateError) as caught:
        asked(text)
    assert (caught.value.code, caught.value.retryable) == ("Invalid", False)


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ("Kubernetes v1.20.2", Version(1, 20, 2)),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1", Version(1, 6, 20)),
        ("containerd containerd.io 1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182", Version(1, 7, 24)),
        (
            "containerd github.com/containerd/containerd/v2 v2.1.0 061792f0ecf3684fb30a3a0eb006799b8c6638a7",
            Version(2, 1, 0),
        ),
        ("not found", None),
    ],
)
def test_found(words: str, version: Version | None) -> None:
    """The first version in what a program says of itself is its own."""
    assert found(words) == version


def test_order() -> None:
    """What comes before a release is less than the release, and numbers are compared as numbers."""
    tags = ["v1.9.9", "v1.34.0-alpha.1", "v1.34.0-rc.2", "v1.34.0-rc.10", "v1.34.0", "v1.34.10"]
    versions = [found(tag) for tag in reversed(tags)]
    assert [v.tag for v in sorted((v for v in versions if v), key=lambda v: v.order)] == tags


@pytest.mark.parametrize(
    ("wanted", "picked"), [("1.34", "v1.34.10"), ("1.34.2", "v1.34.2"), ("1.35.0-rc.1", "v1.35.0-rc.1")]
)
def test_newest(wanted: str, picked: str) -> None:
    """A minor version means its newest release; a version with its patch means itself."""
    known = [asked(text) for text in ("1.34.9", "1.34.10", "1.34.2", "1.35.0-rc.1", "1.33.9")]
    assert newest(asked(wanted), known, "here").tag == picked


@pytest.mark.parametrize("wanted", ["1.36", "1.34.3", "1.35"])
def test_newest_lists_what_there_is(wanted: str) -> None:
    """A version that is not there fails with those that are, a release candidate is not taken unasked."""
    with pytest.raises(StargateError, match=r"at here: it has v1\.34\.2, v1\.35\.0-rc\.1\.$") as caught:
        newest(asked(wanted), [asked("1.35.0-rc.1"), asked("1.34.2")], "here")
    assert caught.value.code == "VersionNotFound"


def test_newest_does_not_list_for_ever() -> None:
    """Only the newest of many are listed."""
    with pytest.raises(StargateError, match=r"v1\.30\.19 and 8 older ones"):
        newest(asked("1.31"), [Version(1, 30, patch) for patch in range(20)], "here")
    with pytest.raises(StargateError, match="it has none at all"):
        newest(asked("1.31"), [], "here")
