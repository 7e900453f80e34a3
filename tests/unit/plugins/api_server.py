# SPDX-License-Identifier: Apache-2.0
"""The little of an API server that a worker asks before and after it joins, over real TLS on loopback.

Only for tests. The real one answers in tests/integration/test_worker_roles.py.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.unit.plugins.certs import Authority

TOKEN = "abcdef.0123456789abcdef"


@dataclass
class Api:
    """What a cluster knows and shows. `late` is how many questions go by before it knows its tokens."""

    authority: Authority
    port: int = 0
    version: str = "v1.20.2"
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    late: int = 0
    status: int = 0  # answered to everything instead, when set
    shows: bool = True  # cluster-info, to strangers
    signs: bool = True
    server: str = ""  # as cluster-info has it, when it is another
    nodes: dict[str, str] = field(default_factory=dict)  # name -> uid
    asked: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    @property
    def join(self) -> dict[str, Any]:
        """How it is joined."""
        return {"endpoint": self.endpoint, "token": TOKEN, "ca": self.authority.pem, "ca_hashes": []}

    @property
    def kubeconfig(self) -> str:
        """The kubeconfig in cluster-info, and that of a kubelet."""
        ca = base64.b64encode(self.authority.pem.encode()).decode()
        server = self.server or self.endpoint
        cluster = f"- cluster:\n    certificate-authority-data: {ca}\n    server: https://{server}\n  name: x\n"
        return f"apiVersion: v1\nclusters:\n{cluster}kind: Config\n"

    def answer(self, path: str, token: str, client: str) -> tuple[int, dict[str, Any]]:
        """Return status and body for a question."""
        self.asked.append(path)
        if self.status:
            return self.status, {}
        if path.startswith("/api/v1/nodes/"):
            name = path.rpartition("/")[2]
            uid = self.nodes.get(name)
            if client != f"system:node:{name}":
                return 401, {}
            return (200, {"metadata": {"uid": uid}}) if uid else (404, {})
        if path.endswith("/cluster-info"):
            signature = {f"jws-kubeconfig-{token.partition('.')[0]}": "jws" for token in self.tokens if self.signs}
            return (200, {"data": {"kubeconfig": self.kubeconfig, **signature}}) if self.shows else (403, {})
        if token and (token not in self.tokens or self.late > 0):
            self.late -= 1
            return 401, {}
        return 200, {"gitVersion": self.version}


@contextmanager
def api(directory: Path, address: str = "127.0.0.1") -> Iterator[Api]:
    """Serve a cluster as long as the block runs; its certificate is for `address`."""
    state = Api(Authority())

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            subject = (self.connection.getpeercert() or {}).get("subject", ())
            names = dict(pair for part in subject for pair in part)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, document = state.answer(self.path, token, names.get("commonName", ""))
            body = json.dumps(document).encode() if status == 200 else b"no JSON"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state.authority.issue("kube-apiserver", directory / "server.pem", address))
    context.load_verify_locations(cadata=state.authority.pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_args: None  # type: ignore[method-assign]  # clients that do not trust it hang up
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
