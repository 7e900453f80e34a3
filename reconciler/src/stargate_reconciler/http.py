# SPDX-License-Identifier: Apache-2.0
"""The two listening sockets of the daemon: /metrics, and /healthz with /readyz.

GET only, no state, nothing else is ever served.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .errors import UserError

Page = Callable[[], tuple[int, str, bytes]]
"""Returns HTTP status, content type and body."""


def parsed_address(text: str) -> tuple[str, int] | None:
    """Return (host, port) of `HOST:PORT` or `:PORT`; None for `0`, which switches the server off.

    Raises UserError for anything else.
    """
    if text == "0":
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"'{text}' is no address to listen on. Write HOST:PORT or :PORT, or 0 to switch it off.")
    return host.strip("[]"), int(port)


def serve(address: str, pages: Mapping[str, Page], flag: str) -> int:
    """Serve `pages` by path on a background thread; returns the port (0 when switched off).

    Raises UserError when the address is malformed or taken; `flag` is what the sentence tells the user to change.
    """
    place = parsed_address(address)
    if place is None:
        return 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            code, kind, body = page() if page else (404, "text/plain", b"not found\n")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

    try:
        server = Server(place, Handler)
    except OSError as error:
        raise UserError(
            f"Failed to listen on {address}: {error.strerror}. Choose another address with {flag}."
        ) from error
    threading.Thread(target=server.serve_forever, name=f"http-{address}", daemon=True).start()
    return int(server.server_address[1])


def answer(check: Callable[[], str]) -> Page:
    """Return a page that says ok, or 503 with the sentence that `check` returns."""

    def page() -> tuple[int, str, bytes]:
        problem = check()
        return (503, "text/plain", f"{problem}\n".encode()) if problem else (200, "text/plain", b"ok\n")

    return page
