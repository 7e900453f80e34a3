# SPDX-License-Identifier: Apache-2.0
"""A mirror on loopback that does what it is told: serve, cut connections, answer with errors, be slow.

Only for tests, of whatever is fetched over HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """What a mirror has: bytes by path. `cut` paths end in the middle, `codes` are answered instead, `slow` trickle."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    codes: dict[str, int] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    port: int = 0


@contextmanager
def mirror(address: str = "127.0.0.1") -> Iterator[Mirror]:
    """Serve a mirror as long as the block runs."""
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            state.asked.append(self.path)
            body = state.files.get(self.path)
            code = state.codes.get(self.path, 404 if body is None else 200)
            self.send_response(code)
            body = body if code == 200 and body is not None else b"no"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.path in state.slow:
                for number in range(len(body)):
                    self.wfile.write(body[number : number + 1])
                    time.sleep(0.05)
                return
            self.wfile.write(body[: len(body) // 2] if self.path in state.cut else body)

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_args: None  # type: ignore[method-assign]  # clients that hang up are no news
    state.port = server.server_address[1]
    state.url = f"http://{address}:{state.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
