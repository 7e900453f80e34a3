# SPDX-License-Identifier: Apache-2.0
"""HTTP requests over loopback: who gets the token, what an answer is, and what no answer is.

What a datacenter's answers mean is test__dc_api.py's.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.stargate.core.plugins.module_utils import _http
from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, Invalid, StargateError, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._http import HTTP, Answer, Call, Endpoint, read_token
from stargate_reconciler.mock_dc.server import MockDatacenter
from stargate_reconciler.mock_dc.settings import Settings

GET = Call("ask", "GET", "/health")


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Return what serves raw bytes to whoever connects, and gives the URL."""
    listeners = []

    def begin(raw: bytes, pause: float = 0.0) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                for piece in raw.splitlines(keepends=True) if pause else [raw]:
                    connection.sendall(piece)
                    time.sleep(pause)

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield begin
    for listener in listeners:
        listener.close()


def certificate(directory: Path) -> tuple[Path, Path]:
    """Return (certificate, key) for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mock")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "cert.pem").write_bytes(signed.public_bytes(encoding))
    (directory / "key.pem").write_bytes(key.private_bytes(encoding, private, serialization.NoEncryption()))
    return directory / "cert.pem", directory / "key.pem"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}', Answer(200, {"a": 1}, '{"a": 1}')),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204)),
        (b"HTTP/1.1 500 Oh\r\n\r\nbroken", Answer(500, {}, "broken")),
        (
            b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            Answer(302, {}, "", {"location": "http://127.0.0.1:1/"}),
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", Answer(200, {}, "[1]")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 50_000, Answer(200, {}, "[" * 50_000)),
    ],
)
def test_every_status_is_an_answer(serve: Callable[[bytes], str], raw: bytes, expected: Answer) -> None:
    """Errors and redirects are answers like any other; a body that is no JSON object is text."""
    assert HTTP(Endpoint(serve(raw))).send(GET, limit=5) == expected


@pytest.mark.parametrize("raw", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_half_an_answer_is_none(serve: Callable[[bytes], str], raw: bytes) -> None:
    """A connection that ends early, or speaks something else, is no answer, but the request was sent."""
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1.*Check") as caught:
        HTTP(Endpoint(serve(raw))).send(GET, limit=5)
    assert (caught.value.sent, caught.value.retryable) == (True, True)


def test_an_endless_answer_ends(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a slow trickle nor a flood holds us up."""
    slow = serve(b"HTTP/1.1 200 OK\r\n\r\n" + b"x\n" * 100, pause=0.1)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="in time"):
        HTTP(Endpoint(slow, timeout=0.5)).send(GET, limit=60)
    assert time.monotonic() - started < 3
    monkeypatch.setattr(_http, "LARGEST_ANSWER", 1000)
    with pytest.raises(Unreachable, match="larger than"):
        HTTP(Endpoint(serve(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000))).send(GET, limit=5)


def test_nobody_there_means_not_sent() -> None:
    """A refused connection is known not to have carried the request."""
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        HTTP(Endpoint("http://127.0.0.1:9")).send(GET, limit=5)
    assert caught.value.sent is False


def test_the_token_goes_to_the_url_only() -> None:
    """A redirect to another host is not followed, and the token is in no text of ours."""
    seen: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/x")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}", token="canary-token")
    assert HTTP(endpoint).send(GET, limit=5).status == 307
    assert seen == ["Bearer canary-token"]
    assert "canary" not in repr(endpoint)
    server.shutdown()
    server.server_close()


def test_certificates_are_checked(tmp_path: Path) -> None:
    """Only the authority in ca_file is trusted, unless checking is switched off."""
    cert, key = certificate(tmp_path)
    dc = MockDatacenter(Settings(port=0, tls_cert=cert, tls_key=key))
    dc.start()
    assert HTTP(Endpoint(dc.url, ca_file=str(cert))).send(GET, limit=5).status == 200
    assert HTTP(Endpoint(dc.url, validate_certs=False)).send(GET, limit=5).status == 200
    with pytest.raises(Invalid, match="ca_file") as caught:
        HTTP(Endpoint(dc.url)).send(GET, limit=5)
    assert (caught.value.code, caught.value.retryable) == ("CertificateInvalid", False)
    with pytest.raises(Invalid, match="no certificates"):
        HTTP(Endpoint(dc.url, ca_file=str(key))).send(GET, limit=5)
    dc.stop()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "dc-west",
        "ftp://dc",
        "http://",
        "http://user:canary@dc",
        "http://dc?x=1",
        "http://dc/#x",
        "http://[::",
        "http://d c",
    ],
)
def test_an_impossible_url_is_refused(url: str) -> None:
    """An address that cannot work, or would show a password, is refused before anything is sent."""
    with pytest.raises(Invalid) as caught:
        Endpoint(url)
    assert "canary" not in str(caught.value)


def test_a_missing_ca_file_is_refused() -> None:
    """The sentence names the file."""
    with pytest.raises(Invalid, match="/nowhere"):
        Endpoint("https://dc", ca_file="/nowhere")


@pytest.mark.parametrize("content", [b"", b"\n", b"canary one\n", b"can\nary", b"canary\xff", b"x" * 70_000])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """What could not be sent is refused by the file's name, without its content."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(Denied, match=str(tmp_path)) as caught:
        read_token(str(tmp_path / "token"))
    assert caught.value.code == "TokenUnreadable"
    assert "canary" not in caught.value.message + caught.value.details


def test_token_files(tmp_path: Path) -> None:
    """White space around the token is not part of it; no file means no token; a missing file is named."""
    (tmp_path / "token").write_text(" abc\n")
    assert read_token(str(tmp_path / "token")) == "abc"
    assert read_token(None) == ""
    with pytest.raises(StargateError, match="No such file"):
        read_token(str(tmp_path / "none"))
