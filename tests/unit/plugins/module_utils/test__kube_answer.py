# SPDX-License-Identifier: Apache-2.0
"""What answers and broken connections mean, where a scripted server cannot show it.

The rest is in test__kube.py.
"""

from __future__ import annotations

import ssl

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._kube_answer import Answer, read, unanswered


def wrapped(cause: Exception) -> Exception:
    """Return an exception as the client raises it: the cause somewhere below."""
    error = OSError("(0)\nReason: SSLError")
    error.__context__ = ValueError()
    error.__context__.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        wrapped(ssl.SSLCertVerificationError("self signed certificate")),
        OSError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate"),
    ],
)
def test_distrust(error: Exception) -> None:
    """A certificate that is not trusted is nobody's outage, however deep it is buried."""
    failure = unanswered(error, "read x", "https://api")
    assert (type(failure), failure.code, failure.retryable) == (Denied, "CertificateInvalid", False)


def test_silence() -> None:
    """A connection that breaks is said by its innermost words; without any, by its kind."""
    long = OSError("HTTPSConnectionPool(<object at 0x7f>): Max retries (Caused by x): Connection refused")
    assert "api: Connection refused. Is" in unanswered(long, "read x", "https://api").message
    silent = unanswered(TimeoutError(), "read x", "https://api")
    assert (type(silent), silent.details) == (Unreachable, "TimeoutError")


@pytest.mark.parametrize(
    ("content", "headers", "wanted"),
    [
        (b'{"message":"m."}', {}, Answer(429, {"message": "m."})),
        (b"[1]", {}, Answer(429, {"message": "[1]"})),
        (b"{}", {"Retry-After": "7", "Date": "d"}, Answer(429, {}, 7.0, "d")),
        (b'{"details":{"retryAfterSeconds":10}}', {}, Answer(429, {"details": {"retryAfterSeconds": 10}}, 10.0)),
        (b"{}", {"Retry-After": "Sat, 21 Nov 2026 13:00:00 GMT"}, Answer(429, {})),
    ],
)
def test_read(content: bytes, headers: dict[str, str], wanted: Answer) -> None:
    """What the server says of waiting is in a header or in the body; what is no object is a message."""
    assert read(429, content, headers) == wanted


def test_message() -> None:
    """An answer without words is told by its reason, or its number."""
    assert [Answer(500, body).message for body in ({"message": "m."}, {"reason": "R"}, {})] == ["m", "R", "HTTP 500"]
