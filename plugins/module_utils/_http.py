# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON over HTTP: one request in, one answer out, or Unreachable.

PRIVATE to the collection. Retries, and what an answer means, belong to the client of each API. The token goes to
the configured address only: redirects are answers like any other, netrc is not read. Proxies come from the
environment as usual. (Ansible's open_url reads the system's certificates for each request, http:// included, which
takes 32 ms of CPU: ten times as much as the request.)
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, Invalid, Unreachable, clipped

LARGEST_ANSWER = 4 * 1024 * 1024
LARGEST_TOKEN = 64 * 1024


@dataclass(frozen=True)
class Endpoint:
    """Where an API is and how to speak to it. `timeout` is seconds per request."""

    url: str
    token: str = field(default="", repr=False)
    ca_file: str | None = None
    validate_certs: bool = True
    timeout: float = 30.0

    def __post_init__(self) -> None:
        """Refuse an address that cannot work, or that would carry a secret into messages."""
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise Invalid("Failed to use the url: it is not a URL. Give one like https://dc.example:8443.") from None
        if parts.username is not None or parts.password is not None:
            raise Invalid("Failed to use the url: it holds a user or a password. Put a bearer token into token_file.")
        if not sound or parts.query or parts.fragment or not self.url.isprintable() or " " in self.url:
            raise Invalid(f'Failed to use the url "{clipped(self.url)}": not http:// or https:// with a host alone.')
        if self.ca_file and not Path(self.ca_file).is_file():
            raise Invalid(f"Failed to read ca_file {self.ca_file}: no such file. Name a PEM file on the controller.")


@dataclass(frozen=True)
class Answer:
    """What came back: `body` is the JSON object ({} when there is none), `text` the same as it came."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case

    @property
    def said(self) -> str:
        """Return the other side's own words about an error, in JSON or in plain text."""
        return clipped(str(self.body.get("message") or self.text))


@dataclass(frozen=True)
class Call:
    """One request: `doing` completes the sentence "Failed to …", `wait` is seconds that the answer may take longer."""

    doing: str
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0


class Transport(Protocol):
    """Whoever can make a Call; tests bring their own."""

    url: str

    def send(self, call: Call, *, limit: float) -> Answer:
        """Return the answer, whatever its status, within about `limit` seconds; raises Unreachable or Invalid."""


class HTTP:
    """The Transport over the network."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Keep the endpoint; nothing is contacted."""
        self.url = endpoint.url.rstrip("/")
        self._endpoint = endpoint

    def send(self, call: Call, *, limit: float) -> Answer:
        """Return the answer, whatever its status, within about `limit` seconds; raises Unreachable or Invalid."""
        patience = max(0.1, min(self._endpoint.timeout + call.wait, limit))
        until = time.monotonic() + patience
        data = None if call.body is None else json.dumps(call.body).encode()
        url = self.url + call.path
        request = Request(url, data, self._headers(call), method=call.method)  # noqa: S310  # Endpoint checks it
        with self._explained(call), self._opener.open(request, timeout=patience) as response:
            return _answer(response, until)

    @cached_property
    def _opener(self) -> OpenerDirector:
        """Return what opens connections: without the handlers that follow redirects or turn answers into errors."""
        opener = OpenerDirector()
        opener.add_handler(ProxyHandler())
        opener.add_handler(HTTPHandler())
        if self.url.startswith("https:"):
            opener.add_handler(HTTPSHandler(context=_trust(self._endpoint)))
        return opener

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "stargate.core", **call.headers}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if self._endpoint.token:
            headers["Authorization"] = f"Bearer {self._endpoint.token}"
        return headers

    @contextmanager
    def _explained(self, call: Call) -> Iterator[None]:
        """Turn what can go wrong below into one sentence."""
        try:
            yield
        except URLError as error:  # before or while sending
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Invalid(
                    f"Failed to {call.doing}: the certificate of {self.url} is not trusted "
                    f"({error.reason.verify_message}). Name its authority in ca_file.",
                    code="CertificateInvalid",
                ) from error
            raise self._unreachable(call, error.reason, sent=False) from error
        except (OSError, HTTPException) as error:  # after sending
            raise self._unreachable(call, error, sent=True) from error

    def _unreachable(self, call: Call, cause: object, *, sent: bool) -> Unreachable:
        why = clipped(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)
        error = Unreachable(
            f"Failed to {call.doing}: no answer from {self.url} ({why}). "
            "Check that the API is up, that this host can reach it, and that the url is right.",
            details=why,
        )
        error.sent = sent
        return error


def read_token(path: str | None) -> str:
    """Return the bearer token in a file, "" without a file; raises Denied, naming the file and never its content."""
    if not path:
        return ""
    advice = "Put the token alone into the file and let the user that runs Ansible read it."
    try:
        with Path(path).open("rb") as file:
            token = file.read(LARGEST_TOKEN + 1).decode("ascii").strip()
    except OSError as error:
        text = f"Failed to read token_file {path}: {error.strerror}. {advice}"
        raise Denied(text, code="TokenUnreadable") from error
    except UnicodeDecodeError:
        token = ""
    if not token or len(token) > LARGEST_TOKEN or not token.isprintable() or " " in token:
        raise Denied(f"Failed to read token_file {path}: it holds no token. {advice}", code="TokenUnreadable")
    return token


def _trust(endpoint: Endpoint) -> ssl.SSLContext:
    """Return whom to believe; raises Invalid when ca_file holds no certificates."""
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
    except OSError as error:  # ssl.SSLError is one
        text = f"Failed to read ca_file {endpoint.ca_file}: it holds no certificates. Name a PEM file."
        raise Invalid(text, details=str(error)) from error
    if not endpoint.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _answer(response: Any, until: float) -> Answer:
    text = _read(response, until).decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = {}
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(int(response.status), body if isinstance(body, dict) else {}, text[:LARGEST_TOKEN], headers)


def _read(response: Any, until: float) -> bytes:
    """Read piece by piece, so that neither a large nor an endlessly slow answer holds us up."""
    found = b""
    while True:
        piece = response.read1(64 * 1024)
        if not piece:
            if response.length:  # read1 does not say so
                raise HTTPException("the answer broke off")
            return found
        found += piece
        if len(found) > LARGEST_ANSWER:
            raise HTTPException(f"the answer is larger than {LARGEST_ANSWER} bytes")
        if time.monotonic() > until:
            raise TimeoutError("the answer did not end in time")
