# SPDX-License-Identifier: Apache-2.0
"""An API server that gives the answers of a script, one after the other, and notes what it was asked.

For what a real one does seldom: refuse, throttle, fail, cut a connection. What it says when all is well is asked of a
real one, in tests/integration.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml


@dataclass(frozen=True)
class Reply:
    """One answer. `body` is JSON, or bytes as they are; with `cut` the connection ends in the middle of it."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class ScriptedApi:
    """The server; when its script has ended it answers with the last reply again."""

    def __init__(self, *replies: Reply) -> None:
        """Take the script."""
        self.script = list(replies)
        self.asked: list[Asked] = []
        script, asked = self.script, self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked.append(Asked(self.command, parts.path, dict(parse_qsl(parts.query)), body, headers))
                self.reply(script.pop(0) if len(script) > 1 else script[0])

            def reply(self, reply: Reply) -> None:
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content) + 10 * reply.cut))
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = self.close_connection or reply.cut

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def kubeconfig(self, directory: Path, **user: str) -> str:
        """Write a kubeconfig for it; returns its path."""
        path = directory / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "canary-token", **user}}],
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    @contextmanager
    def running(self) -> Iterator[ScriptedApi]:
        """Serve as long as the context lasts."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class Clock:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        """Begin at a thousand seconds."""
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds
        if seconds:
            self.slept.append(round(seconds, 3))
