# SPDX-License-Identifier: Apache-2.0
"""The two sockets: addresses, pages, and sentences for what is wrong with them.

What is on the pages is the daemon's and metrics.py's.
"""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from stargate_reconciler.errors import UserError
from stargate_reconciler.http import answer, parsed_address, serve
from stargate_reconciler.metrics import CONTENT_TYPE, Metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", None),
        (":8083", ("", 8083)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_parsed_address(text: str, expected: tuple[str, int] | None) -> None:
    """An address is HOST:PORT, :PORT, or 0 for none."""
    assert parsed_address(text) == expected


@pytest.mark.parametrize("text", ["", "8083", "host:", "host:http", ":65536", ":-1", ":²", "00"])
def test_malformed_addresses(text: str) -> None:
    """Anything else is the user's mistake, and said so with the text."""
    with pytest.raises(UserError, match="HOST:PORT") as caught:
        parsed_address(text)
    assert f"'{text}'" in str(caught.value)


def fetch(port: int, path: str) -> tuple[int, str, str]:
    """Return status, content type and body of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status, reply.headers["Content-Type"], reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_pages() -> None:
    """A page is found by its path, whatever the query; a check says ok, or what is wrong with 503."""
    problem = [""]
    port = serve("127.0.0.1:0", {"/readyz": answer(lambda: problem[0])}, "--flag")
    assert fetch(port, "/readyz?verbose") == (200, "text/plain", "ok\n")
    problem[0] = "not yet"
    assert fetch(port, "/readyz") == (503, "text/plain", "not yet\n")
    assert fetch(port, "/else") == (404, "text/plain", "not found\n")


def test_metrics_page() -> None:
    """Metrics are served in the text format, with gauges read at the moment of the scrape."""
    metrics = Metrics()
    now = [1.0]
    metrics.observe("runs", lambda: now[0])
    metrics.observe("objects", lambda: 7.0, kind="Server")
    port = serve("127.0.0.1:0", {"/metrics": lambda: (200, CONTENT_TYPE, metrics.text())}, "--flag")
    now[0] = 3.0
    code, kind, text = fetch(port, "/metrics")
    assert (code, kind) == (200, CONTENT_TYPE)
    assert "stargate_runs 3.0" in text
    assert 'stargate_objects{kind="Server"} 7.0' in text


def test_switched_off() -> None:
    """Address 0 serves nothing."""
    assert serve("0", {}, "--flag") == 0


def test_taken_address() -> None:
    """A port that somebody else has is the user's to change, by the flag that is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="--metrics-bind-address") as caught:
            serve(address, {}, "--metrics-bind-address")
    assert address in str(caught.value)
