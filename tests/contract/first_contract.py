# SPDX-License-Identifier: Apache-2.0
"""A datacenter API of the first contract, as small as it was: no idempotency keys, no long polls, errors in plain text.

Only for proving that clients fall back; how it answers is not judged here.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FirstContract(ThreadingHTTPServer):
    """Jobs run for `duration` seconds and then succeed; `losses` submissions are carried out but not answered."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, duration: float = 0.3) -> None:
        """Listen on a free port of loopback and serve in a thread."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.duration = duration
        self.losses = 0
        self.jobs: dict[str, float] = {}
        self.polls: list[float] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FirstContract

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Keep quiet."""

    def do_POST(self) -> None:
        """Start a job, whatever is asked for."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/repave":
            self._text(404, "404 page not found")
            return
        job = f"job-{time.time_ns()}"
        self.server.jobs[job] = time.monotonic()
        if self.server.losses:
            self.server.losses -= 1
            self.close_connection = True
        else:
            self._json(202, {"jobId": job, "status": "accepted"})

    def do_GET(self) -> None:
        """Answer /health and /jobs/{id}."""
        path = self.path.partition("?")[0]
        if path == "/health":
            self._json(200, {"status": "healthy"})
        elif path.removeprefix("/jobs/") in self.server.jobs:
            self._job(path.removeprefix("/jobs/"))
        else:
            self._text(404, "Job not found")

    def _job(self, job: str) -> None:
        self.server.polls.append(time.monotonic())
        ended = time.monotonic() - self.server.jobs[job] > self.server.duration
        phase, message = ("succeeded", "Repave completed successfully") if ended else ("running", "Installing OS")
        self._json(200, {"jobId": job, "phase": phase, "message": message})

    def _json(self, status: int, body: dict[str, str]) -> None:
        self._send(status, json.dumps(body), content_type="application/json")

    def _text(self, status: int, body: str) -> None:
        self._send(status, body + "\n", content_type="text/plain; charset=utf-8")

    def _send(self, status: int, body: str, *, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
