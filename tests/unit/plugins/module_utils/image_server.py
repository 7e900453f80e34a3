# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on loopback for large files: it can cut, stall, lie, forget ranges, and change what it serves.

Only for tests of images.
"""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Faults:
    """What the server does wrong; `cuts` and `errors` count down."""

    cuts: int = 0
    cut_after: int = 1000
    errors: int = 0
    status: int = 503
    stalls: int = 0
    wrong_range: bool = False
    knows_ranges: bool = True
    says_length: bool = True
    claims: int | None = None
    kind: str = "application/octet-stream"


@dataclass
class Seen:
    """One request."""

    path: str
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0


class ImageServer:
    """Serves `files` (path to content), with an ETag unless `tagged` is off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults = Faults()
        self.tagged = True
        self.seen: list[Seen] = []
        self.free = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):  # clients that are killed hang up
                    outer.answer(self)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def publish(self, path: str, content: bytes, *, sums: bool = True) -> None:
        """Serve a file, and list its digest beside it."""
        self.files[path] = content
        if sums:
            directory, _, name = path.rpartition("/")
            line = f"{hashlib.sha256(content).hexdigest()} *{name}\n"
            self.files[f"{directory}/SHA256SUMS"] = line.encode()

    def requests(self, path: str) -> list[int]:
        """Return the statuses of the answers for a path."""
        return [seen.status for seen in self.seen if seen.path == path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        seen = Seen(handler.path.partition("?")[0], {k.lower(): v for k, v in handler.headers.items()})
        self.seen.append(seen)
        content = self.files.get(seen.path)
        image = not seen.path.endswith("SUMS")
        if image and self.faults.errors:
            self.faults.errors -= 1
            seen.status = self.faults.status
        elif content is None:
            seen.status = 404
        if seen.status or content is None:
            handler.send_error(seen.status)
            return
        self._send(handler, seen, content)

    def _send(self, handler: BaseHTTPRequestHandler, seen: Seen, content: bytes) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        start = self._start(seen, tag)
        seen.status = 304 if seen.headers.get("if-none-match") == tag else 206 if start else 200
        handler.send_response(seen.status)
        if self.tagged:
            handler.send_header("ETag", tag)
        if seen.status == 304:
            handler.end_headers()
            return
        body, faults = content[start:], self.faults
        if start:
            shift = 7 if faults.wrong_range else 0
            handler.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if faults.says_length:
            handler.send_header("Content-Length", str(faults.claims or len(body)))
        handler.send_header("Content-Type", faults.kind)
        handler.end_headers()
        self._write(handler, body, image=not seen.path.endswith("SUMS"))

    def _write(self, handler: BaseHTTPRequestHandler, body: bytes, *, image: bool) -> None:
        faults = self.faults
        if image and (faults.cuts or faults.stalls):
            handler.wfile.write(body[: faults.cut_after])
            handler.wfile.flush()
            if faults.stalls:
                faults.stalls -= 1
                self.free.wait(10)
            else:
                faults.cuts -= 1
            return
        handler.wfile.write(body)

    def _start(self, seen: Seen, tag: str) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
        fresh = seen.headers.get("if-range") in (None, tag)
        return int(match[1]) if match and fresh and self.faults.knows_ranges else 0

    def close(self) -> None:
        """Stop serving."""
        self.free.set()
        self._server.shutdown()
        self._server.server_close()
