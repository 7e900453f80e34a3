# SPDX-License-Identifier: Apache-2.0
"""The mock datacenter on a socket: threads per connection, bearer token, TLS, and faults that happen on the way.

What a path answers is decided in `routes.py`.
"""

from __future__ import annotations

import hmac
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stargate_reconciler.mock_dc.book import JobBook, Refused
from stargate_reconciler.mock_dc.routes import Answer, Request, Routes, error_answer
from stargate_reconciler.mock_dc.settings import Settings

LARGEST_BODY = 1024 * 1024
MOST_DISCARDED = 16 * LARGEST_BODY
IDLE_SECONDS = 75
PUBLIC = ("/health", "/healthz", "/readyz", "/metrics", "/openapi.json")


class MockDatacenter(ThreadingHTTPServer):
    """One mock datacenter: `start()` serves in the background, `stop()` answers who waits, saves and ends."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, settings: Settings, *, say: Callable[[str], None] = lambda line: None) -> None:
        """Bind the address and load the state; OSError or StateError say what is wrong with either."""
        self._token = settings.token_file.read_text(encoding="utf-8").strip() if settings.token_file else ""
        if settings.token_file and not self._token:
            raise OSError(f"token file {settings.token_file} is empty")
        self._tls = _tls(settings)
        self._places = threading.BoundedSemaphore(settings.max_connections)
        self._count = itertools.count(1)
        super().__init__((settings.host, settings.port), _Handler)
        try:
            self.book = JobBook(settings, say=say)
        except Exception:
            self.server_close()
            raise
        self.routes = Routes(self.book, dc_name=settings.dc_name, admin=settings.admin)

    @property
    def url(self) -> str:
        """Return the URL that it listens on."""
        host, port = self.server_address[:2]
        return f"{'https' if self._tls else 'http'}://{host!s}:{port}"

    def start(self) -> None:
        """Serve in a thread of its own. Whoever connected since the making of this object is served now."""
        self.book.start()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="accept", daemon=True).start()

    def stop(self) -> None:
        """Stop accepting, answer the long polls, save the state."""
        self.shutdown()
        self.book.close()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without asking the name service for our own name, as the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the connection to a thread, or close it when there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, TLS handshake included, so that a slow client holds up only itself."""
        try:
            if self._tls:
                request.settimeout(10)
                request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:
            self.shutdown_request(request)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away."""

    def fault(self) -> Answer | None:
        """Return what happens to this request instead of an answer: an error, a drop (status 0), or None."""
        faults, number = self.book.faults, next(self._count)
        if faults.latency_ms:
            time.sleep(faults.latency_ms / 1000)
        if faults.drop_every and number % faults.drop_every == 0:
            return Answer(0)
        if faults.throttle_every and number % faults.throttle_every == 0:
            after = str(faults.retry_after_seconds)
            return error_answer(429, "TooManyRequests", message="Too many requests", Retry_After=after)
        if faults.unavailable_every and number % faults.unavailable_every == 0:
            return error_answer(503, "Unavailable", message="Out of order on purpose")
        return None

    def refusal(self, request: Request) -> Answer | None:
        """Return the answer to a request without the right token, None when it may pass."""
        if not self._token or request.path in PUBLIC:
            return None
        given = request.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return None
        text = "The bearer token is wrong" if given else "A bearer token is needed"
        return error_answer(401, "Unauthorized", message=text, WWW_Authenticate="Bearer")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stargate-mock-dc"
    sys_version = ""
    timeout = IDLE_SECONDS
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True
    server: MockDatacenter

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Say nothing per request; jobs have their own lines."""

    def _serve(self) -> None:
        started = time.monotonic()
        answer, route = self._answer()
        if answer.status == 0:
            self.close_connection = True
            return
        try:
            self._send(answer)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        labels = (self.command, route or "other", answer.status)
        self.server.routes.metrics.observe(labels, time.monotonic() - started)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815  # names of the base class

    def _discard(self, size: int) -> None:
        """Read what nobody wants: a connection that is closed on a client that still sends loses it the answer."""
        while size > 0 and (chunk := self.rfile.read(min(size, 1 << 16))):
            size -= len(chunk)

    def _answer(self) -> tuple[Answer, str]:
        length = self.headers.get("Content-Length") or "0"
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return error_answer(411, "LengthRequired", message="Content-Length is needed"), ""
        if int(length) > LARGEST_BODY:
            self.close_connection = True
            self._discard(min(int(length), MOST_DISCARDED))
            return error_answer(413, "TooLarge", message=f"The body is larger than {LARGEST_BODY} bytes"), ""
        body = self.rfile.read(int(length))
        headers = {name.title(): value for name, value in self.headers.items()}
        request = Request.of(self.command, self.path, headers=headers, body=body)
        if request.path not in PUBLIC and not request.path.startswith("/admin/"):
            fault = self.server.fault()
            if fault:
                return fault, ""
        refusal = self.server.refusal(request)
        return (refusal, "") if refusal else self.server.routes.answer(request)

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Type", answer.content_type)
        if answer.follow:
            self.close_connection = True
            self.send_header("Connection", "close")
        elif answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if answer.follow:
            self._follow(answer.follow)

    def _follow(self, job_id: str) -> None:
        sent, ended = 0, False
        while not ended:
            try:
                lines, ended = self.server.book.log(job_id)
            except Refused:
                return
            self.wfile.write("".join(f"{line}\n" for line in lines[sent:]).encode())
            self.wfile.flush()
            sent = len(lines)
            if not ended:
                self.server.book.wait(job_id, 0.2)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
