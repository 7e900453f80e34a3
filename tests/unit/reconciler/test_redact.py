# SPDX-License-Identifier: Apache-2.0
"""Foreign text made fit: what is or looks secret is gone, what is left is one short line.

The secrets here are made up.
"""

from __future__ import annotations

import pytest

from stargate_reconciler.redact import LIMIT, masked, redacted

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nshort\n-----END OPENSSH PRIVATE KEY-----\n"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0aaaa.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words", "plain words"),
        ("two\nlines\tand  spaces ", "two lines and spaces"),
        ("bell\x07 and \x1b[31mred", "bell and [31mred"),
        (f"before {KEY} after", "before [redacted] after"),
        (f"cut off {KEY[:60]}", "cut off [redacted]"),
        (repr(KEY), "'[redacted]\\n'"),
        ("-----BEGIN RSA PRIVATE KEY----- x", "[redacted]"),
        ("join --token abcdef.0123456789abcdef now", "join --token [redacted] now"),
        ("version 1.34.2 of abcdef.0123456789abcde", "version 1.34.2 of abcdef.0123456789abcde"),
        ("up --authkey=tskey-auth-kAb-12 --ssh", "up --authkey=[redacted] --ssh"),
        (f"token {JWT}.", "token [redacted]."),
        ("Authorization: Bearer abc.def~123456", "Authorization: Bearer [redacted]"),
        ("bearer of news", "bearer of news"),
        ("password=hunter2 user=me", "password=[redacted] user=me"),
        ("Password: hunter2", "Password: [redacted]"),
        ('{"password": "hunter 2", "user": "me"}', '{"password": [redacted], "user": "me"}'),
        ("{'sudo_password': 'hunter 2'}", "{'sudo_password': [redacted]}"),
        ("bytes \udcff lost", "bytes lost"),
        ("", ""),
    ],
)
def test_what_looks_secret(text: str, expected: str) -> None:
    """Keys, tokens and passwords are taken out by their shape, control characters and line ends too."""
    assert redacted(text).replace("  ", " ") == expected


@pytest.mark.parametrize(
    ("secrets", "text", "expected"),
    [
        (["s3cret"], "it is s3cret", "it is [redacted]"),
        (["s3cret", "s3cret-long"], "s3cret-long s3cret", "[redacted] [redacted]"),
        (["abc"], "abc", "abc"),
        ([KEY], "saw b3BlbnNzaC1rZXktdjEAAAAA there", "saw [redacted] there"),
        ([KEY], "this is short", "this is short"),
        ([""], "nothing", "nothing"),
    ],
)
def test_what_is_secret(secrets: list[str], text: str, expected: str) -> None:
    """Known secrets go, the longest first, and every long line of them; what is too short to be one stays."""
    assert redacted(text, secrets) == expected


@pytest.mark.parametrize("text", ["x" * 2000, "é" * 900, "\N{SNOWMAN}" * 700, "word " * 400])
@pytest.mark.parametrize("limit", [64, LIMIT])
def test_limit_counts_bytes(text: str, limit: int) -> None:
    """A long text is cut to the limit in bytes, at a whole character, and says so."""
    short = redacted(text, limit=limit)
    assert limit - 8 <= len(short.encode()) <= limit
    assert short.endswith(" ...")


def test_limit_is_reached_without_a_mark() -> None:
    """A text of exactly the limit is left as it is."""
    assert redacted("x" * LIMIT) == "x" * LIMIT


def test_secret_at_the_cut_does_not_leak() -> None:
    """What is secret is taken out before the text is cut."""
    assert "s3cret" not in redacted("x" * (LIMIT - 3) + "s3cret", ["s3cret"])


def test_masked_keeps_lines() -> None:
    """A traceback keeps its lines, without its secrets."""
    assert masked("one\n  password=x\n") == "one\n  password=[redacted]\n"
