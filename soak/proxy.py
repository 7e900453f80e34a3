# SPDX-License-Identifier: Apache-2.0
"""Between a daemon and the API server: passes requests on, or does to them what its rule says.

What is done when is `rules.py`'s and `points.py`'s; here is only how.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from bench.api import Upstream

from soak.cluster import MERGE

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"})
_GONE = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410}


@dataclass(frozen=True)
class Request:
    """One request of a daemon."""

    daemon: int
    method: str
    path: str
    body: bytes = field(repr=False)

    @property
    def is_write(self) -> bool:
        """Whether it would change something."""
        return self.method in WRITES

    @property
    def is_watch(self) -> bool:
        """Whether it opens a watch."""
        return "watch=" in self.path


@dataclass(frozen=True)
class Deed:
    """What is done to a request: `kind` as in `Handler`; `seconds` is for those that wait; counted as `name`."""

    kind: str = "pass"
    seconds: float = 0.0
    name: str = ""


PASS = Deed()


class Rule(Protocol):
    """Who says what is done."""

    def before(self, request: Request) -> Deed:
        """A request has come, and nothing has been passed on yet."""

    def after(self, request: Request, status: int) -> Deed:
        """The API server has answered, and the daemon knows nothing of it yet."""


class Proxy(ThreadingHTTPServer):
    """One daemon's way to the API server."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, daemon: int, upstream: Upstream, rule: Rule) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon = daemon
        self.upstream = upstream
        self.rule = rule
        self.lists: dict[str, bytes] = {}
        self.injected: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        self._refused_until = 0.0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()

    @property
    def url(self) -> str:
        """What a daemon's kubeconfig names."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def cut_off(self, seconds: float) -> None:
        """End all connections and refuse new ones for a while: this daemon alone does not reach the API server."""
        self._refused_until = time.monotonic() + seconds
        self.end_connections()

    def end_connections(self) -> None:
        """End all connections, watches too."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class's signature
        """Whether a connection is let in."""
        return time.monotonic() >= self._refused_until

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, known so that it can be ended."""
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: connections that break are what this is for."""


class Drop(Exception):
    """The connection to the daemon ends here."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a daemon, request after request."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    server: Proxy

    def setup(self) -> None:
        """Open nothing yet."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream: http.client.HTTPSConnection | None = None

    def finish(self) -> None:
        """Close the way to the API server too."""
        if self._upstream is not None:
            self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""

    def __getattr__(self, name: str) -> Any:
        """Serve every method alike."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.server.daemon, self.command, self.path, body)
        try:
            if self._done_before(request, self.server.rule.before(request)):
                self.close_connection = self.close_connection or request.is_watch
                return
            self._pass_on(request)
        except (Drop, OSError, http.client.HTTPException):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _done_before(self, request: Request, deed: Deed) -> bool:
        """Do what is to be done before a request is passed on; returns whether it has been answered."""
        if deed.kind == "stale" and request.path not in self.server.lists:
            return False
        self._count(deed)
        match deed.kind:
            case "refuse":
                raise Drop
            case "wait":
                time.sleep(deed.seconds)
            case "touch":
                self._touch(request)
            case "429" | "500":
                self._answer(int(deed.kind), _failure(int(deed.kind)))
                return True
            case "gone":
                self._answer(200, json.dumps({"type": "ERROR", "object": _GONE}).encode() + b"\n")
                return True
            case "stale":
                self._answer(200, self.server.lists[request.path])
                return True
        return False

    def _count(self, deed: Deed) -> None:
        if deed.name:
            self.server.injected[deed.name] += 1

    def _touch(self, request: Request) -> None:
        """Change the object that a write is about, so that the write meets a conflict of the API server's own."""
        target = request.path.split("?")[0].removesuffix("/status")
        mark = json.dumps({"metadata": {"annotations": {"soak/touched": str(time.monotonic_ns())}}})
        connection = self._connect()
        connection.request("PATCH", target, mark, {"Content-Type": MERGE})
        connection.getresponse().read()

    def _connect(self) -> http.client.HTTPSConnection:
        if self._upstream is None:
            self._upstream = self.server.upstream.connection(seconds=3700)
        return self._upstream

    def _pass_on(self, request: Request) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        connection = self._connect()
        connection.request(request.method, request.path, request.body or None, headers)
        response = connection.getresponse()
        if request.is_watch and response.status == 200:
            self._stream(request, response)
            return
        content = response.read()
        deed = self.server.rule.after(request, response.status)
        self._count(deed)
        if deed.kind == "lose":
            raise Drop
        time.sleep(deed.seconds)
        if request.method == "GET" and '"items":' in content[:4096].decode(errors="ignore"):
            self.server.lists[request.path] = content
        self._answer(response.status, content, response.headers.get("Content-Type", "application/json"))

    def _answer(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _stream(self, request: Request, response: http.client.HTTPResponse) -> None:
        """Pass a watch on, line by line, until the rule ends it."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for line in _lines(response):
            deed = self.server.rule.after(request, 200)
            self._count(deed)
            time.sleep(deed.seconds)
            if deed.kind == "lose":
                raise Drop
            self._chunk(line)
            if deed.kind == "close":
                break
        self._chunk(b"")
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while line := response.readline():
        yield line


def _failure(code: int) -> bytes:
    reason = {429: "TooManyRequests", 500: "InternalError"}[code]
    message = "soak: too many requests" if code == 429 else "soak: etcd leader changed"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return json.dumps({**status, "message": message, "reason": reason, "code": code}).encode()
