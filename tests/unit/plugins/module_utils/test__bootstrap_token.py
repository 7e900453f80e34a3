# SPDX-License-Identifier: Apache-2.0
"""Bootstrap tokens and cluster-info: what is made, what is believed, what is refused.

Tokens that a real cluster signs are in tests/integration/test_join_token.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

import pytest
import yaml

from ansible_collections.stargate.core.plugins.module_utils import _bootstrap_token
from ansible_collections.stargate.core.plugins.module_utils._bootstrap_token import Token
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from stargate_reconciler.local import certificates

Object = dict[str, Any]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return two CA certificates."""
    found = []
    for name in ("one", "two"):
        directory = tmp_path_factory.mktemp(name)
        certificates.make_all(directory)
        found.append((directory / "ca.crt").read_text(encoding="ascii"))
    return found


def config_map(ca: str, server: str = "https://10.0.2.2:6443", **more: str) -> Object:
    """Return a ConfigMap cluster-info."""
    data = base64.b64encode(ca.encode()).decode()
    kubeconfig = {"clusters": [{"name": "", "cluster": {"server": server, "certificate-authority-data": data}}]}
    return {"data": {"kubeconfig": yaml.safe_dump(kubeconfig), **more}}


def signature(text: str, secret: str, algorithm: str = "HS256") -> str:
    """Return a detached JWS as the controller bootstrapsigner makes it."""

    def plain(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = plain(json.dumps({"alg": algorithm, "kid": "abcdef"}).encode())
    digest = hmac.new(secret.encode(), f"{header}.{plain(text.encode())}".encode(), hashlib.sha256).digest()
    return f"{header}..{plain(digest)}"


def test_tokens() -> None:
    """A Node's tokens share the public half, which no other Node has; the other half is new each time, never shown."""
    first, second = _bootstrap_token.new_token("w1"), _bootstrap_token.new_token("w1")
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", first.text)
    assert first.id == second.id == _bootstrap_token.token_id("w1")
    assert first.secret != second.secret
    assert first.secret not in repr(first)
    assert len({_bootstrap_token.token_id(f"worker-{number}") for number in range(2000)}) == 2000


@pytest.mark.parametrize("identifier", ["", "abcde", "abcdefg", "ABCDEF", "../abc", "abc.ef"])
def test_token_ids(identifier: str) -> None:
    """What is no public half of a token never becomes part of a path."""
    assert _bootstrap_token.secret_name("abc123") == "bootstrap-token-abc123"
    with pytest.raises(Invalid):
        _bootstrap_token.secret_name(identifier)


def test_manifest() -> None:
    """The Secret is one that kubeadm would make, and ends by the clock of the API server."""
    made = _bootstrap_token.manifest(Token("abcdef", "s" * 16), "w1", 900, "Sat, 21 Nov 2026 13:00:00 GMT")
    assert (made["metadata"], made["type"]) == (
        {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "bootstrap.kubernetes.io/token",
    )
    assert made["stringData"] == {
        "token-id": "abcdef",
        "token-secret": "s" * 16,
        "description": "stargate:node/w1",
        "expiration": "2026-11-21T13:15:00Z",
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }
    later = _bootstrap_token.manifest(Token("abcdef", "s"), "w1", 900, "no date")["stringData"]["expiration"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", later)


def test_cluster_info(authorities: list[str]) -> None:
    """The API server and the CA are read from the kubeconfig in it."""
    info = _bootstrap_token.cluster_info(config_map(authorities[0]))
    assert (info.server, info.ca) == ("https://10.0.2.2:6443", authorities[0])


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"data": {}},
        {"data": {"kubeconfig": "a: ["}},
        {"data": {"kubeconfig": "clusters: []"}},
        {"data": {"kubeconfig": "text"}},
        config_map(""),
        config_map("no certificate"),
    ],
)
def test_no_cluster_info(found: Object | None) -> None:
    """Without a usable cluster-info nothing is made, and the remedy is said."""
    with pytest.raises(StargateError, match="bootstrap-token") as raised:
        _bootstrap_token.cluster_info(found)
    assert raised.value.code == "ClusterInfoMissing"


def test_signatures(authorities: list[str]) -> None:
    """Only a signature with this very secret over this very text counts."""
    token = Token("abcdef", "s" * 16)
    text = config_map(authorities[0])["data"]["kubeconfig"]
    good = signature(text, token.secret)
    bad = [
        signature(text, "t" * 16),
        signature(text + "#", token.secret),
        signature(text, token.secret, "none"),
        good[:-2],
        f"e30{good[good.index('..') :]}",
        "....",
        "W10..x",
        "ä..ä",
        "",
    ]
    verdicts = [
        _bootstrap_token.is_signed(config_map(authorities[0], **{"jws-kubeconfig-abcdef": jws}), token)
        for jws in (good, *bad)
    ]
    assert verdicts == [True, *[False] * len(bad)]
    assert not _bootstrap_token.is_signed(None, token)


def test_authorities(authorities: list[str]) -> None:
    """One CA in common is enough, as while CAs are changed; none is refused; a connection without one says nothing."""
    first, second = authorities
    info = _bootstrap_token.cluster_info(config_map(first))
    assert _bootstrap_token.ca_mismatch(info, first + second) is None
    assert _bootstrap_token.ca_mismatch(info, "") is None
    refusal = _bootstrap_token.ca_mismatch(info, second)
    assert refusal is not None
    assert (refusal.code, refusal.retryable) == ("CaMismatch", False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.0.2.2:6443", "10.0.2.2:6443"),
        ("https://10.0.2.2:6443/", "10.0.2.2:6443"),
        ("https://api.example.com", "api.example.com:443"),
        ("api.example.com", "api.example.com:6443"),
        ("https://[fd00::1]:6443", "[fd00::1]:6443"),
        ("", None),
        ("http://10.0.2.2:6443", None),
        ("10.0.2.2:99999", None),
        ("10.0.2.2:0", None),
        ("a b", None),
        ("https://host/path", None),
    ],
)
def test_endpoints(text: str, wanted: str | None) -> None:
    """Addresses and URLs become host:port; anything else is refused."""
    if wanted is None:
        with pytest.raises(Invalid):
            _bootstrap_token.endpoint(text)
    else:
        assert _bootstrap_token.endpoint(text) == wanted


@pytest.mark.parametrize(
    ("configuration", "wanted"),
    [
        ("networking: {dnsDomain: cluster.local, serviceSubnet: 10.96.0.0/12}", ("cluster.local", "10.96.0.10")),
        ("networking: {dnsDomain: x, serviceSubnet: 'fd00::/108,10.0.0.0/16'}", ("x", "fd00::a")),
        ("networking: {}", ("", "")),
        ("networking: {serviceSubnet: 10.0.0.0/30}", ("", "")),
        ("networking: {serviceSubnet: nonsense}", ("", "")),
        ("text", ("", "")),
        ("a: [", ("", "")),
    ],
)
def test_dns(configuration: str, wanted: tuple[str, str]) -> None:
    """The DNS of the cluster is where kubeadm puts it; what is not said stays empty."""
    assert _bootstrap_token.dns_of({"data": {"ClusterConfiguration": configuration}}) == wanted
    assert _bootstrap_token.dns_of(None) == ("", "")
