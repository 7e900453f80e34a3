# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as a worker sees it before and after it is a member: reached over TLS with the cluster's CA, pinned.

PRIVATE to the collection. Asks, and changes nothing; only the standard library is used.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _certificates as certificates
from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, Invalid, StargateError, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._version import Version, found

PATIENCE = 10.0  # seconds for one answer
TOKEN_LAG = 3.0  # seconds in which a token that was just made may not be known yet
CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"


@dataclass(frozen=True)
class Cluster:
    """What was found out of a cluster."""

    endpoint: str  # as the machine was told to reach it
    ca: str  # PEM
    server: str  # as the cluster says that it is to be reached
    is_signed: bool  # whether what the cluster shows to strangers is signed with the token
    version: Version | None = None


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    body: dict[str, Any]


class Door:
    """The way to one API server. Without a CA its certificate is not verified, which is only fit for a first look."""

    def __init__(self, endpoint: str, ca: str = "", *, client_certificate: str = "") -> None:
        """Keep how to get there; a client certificate is a file with its key."""
        self.endpoint = endpoint
        self._context = _context(ca, client_certificate)

    def get(self, path: str, *, token: str = "") -> Answer:
        """Ask for a path."""
        # These cost more than the rest of the module, which often ends before it needs them.
        import http.client
        import ssl

        host, port = split(self.endpoint)
        try:
            connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=self._context)
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            body = response.read(1 << 20)
            connection.close()
        except ssl.SSLCertVerificationError as error:
            raise Denied(
                f"Failed to reach the API server {self.endpoint}: its certificate is not valid for this cluster and "
                f"address: {error.verify_message}.",
                code="CaMismatch",
                details=error.verify_message,
            ) from error
        except (OSError, http.client.HTTPException) as error:
            cause = str(error) or type(error).__name__
            text = f"Failed to reach the API server {self.endpoint}: {cause}."
            raise Unreachable(text, code="ApiUnreachable", details=cause) from error
        return Answer(response.status, _document(body))


def reached(join: Mapping[str, Any], token: str) -> Cluster:
    """Return what a cluster is, with its CA made sure of; fails when the token is not good for it."""
    endpoint, hashes = join["endpoint"], set(join["ca_hashes"] or [])
    ca = join["ca"] or _ca_by_hash(endpoint, hashes)
    if hashes and not hashes & certificates.key_hashes(ca):
        raise Invalid(f"Failed to trust {endpoint}: the CA that was given has none of the hashes that were given.")
    door = Door(endpoint, ca)
    version = found(str(_welcomed(door, token).body.get("gitVersion", "")))
    shown = _shown(door)
    until = time.monotonic() + TOKEN_LAG
    signature = f"jws-kubeconfig-{token.partition('.')[0]}"
    while token and shown and signature not in shown and time.monotonic() < until:
        time.sleep(0.3)
        shown = _shown(door)
    server = _address(kubeconfig_facts(shown.get("kubeconfig", "")))
    return Cluster(endpoint, ca, server or endpoint, signature in shown, version)


def server_of(endpoint: str, ca: str) -> str:
    """Return how a cluster says that it is to be reached, the endpoint itself when it does not say."""
    with suppress(StargateError):
        return _address(kubeconfig_facts(_shown(Door(endpoint, ca)).get("kubeconfig", ""))) or endpoint
    return endpoint


def require_same_door(cluster: Cluster) -> None:
    """Refuse a cluster whose own word on its address leads nowhere from here: kubeadm takes that address."""
    if cluster.server == cluster.endpoint:
        return
    try:
        Door(cluster.server, cluster.ca).get("/version")
    except StargateError as error:
        raise Invalid(
            f"Failed to join by {cluster.endpoint}: the cluster says that it is at {cluster.server}, which cannot be "
            "reached from this machine. Correct the server in the ConfigMap kube-public/cluster-info.",
            code="EndpointMismatch",
            details=error.details,
        ) from error


def split(endpoint: str) -> tuple[str, int]:
    """Return host and port of an endpoint."""
    match = re.fullmatch(r"(?:https://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})/?", endpoint)
    if not match or not 0 < int(match[2]) < 65536:
        raise Invalid(f"Failed to read the endpoint {endpoint[:80]!r}: it is not like host:port.")
    return match[1].strip("[]"), int(match[2])


def _welcomed(door: Door, token: str) -> Answer:
    """Return the answer to the first question, asked in the token's name."""
    until = time.monotonic() + TOKEN_LAG
    answer = door.get("/version", token=token)
    while answer.status == 401 and token and time.monotonic() < until:
        time.sleep(0.3)
        answer = door.get("/version", token=token)
    if answer.status == 401 and token:
        raise Denied(
            f"Failed to join {door.endpoint}: the cluster does not know the token, or does not know it any more.",
            code="TokenExpired",
            retryable=True,
        )
    if answer.status >= 500:
        text = f"Failed to reach the API server {door.endpoint}: it answers with HTTP {answer.status}."
        raise Unreachable(text, code="ApiUnreachable")
    return answer


def _ca_by_hash(endpoint: str, hashes: set[str]) -> str:
    """Return the CA that the cluster shows to everybody, if its key has one of the hashes."""
    ca = kubeconfig_facts(_shown(Door(endpoint)).get("kubeconfig", "")).get("certificate-authority-data", "")
    pem = base64.b64decode(ca).decode(errors="replace") if ca else ""
    if not pem:
        text = f"Failed to find the CA of {endpoint}: it shows no kube-public/cluster-info. Give the CA itself."
        raise Denied(text, code="ApiForbidden")
    if not hashes & certificates.key_hashes(pem):
        text = f"Failed to trust {endpoint}: its CA has another key than the one that is pinned."
        raise Denied(text, code="CaMismatch")
    return pem


def _context(ca: str, client_certificate: str) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not ca:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if ca:
            context.load_verify_locations(cadata=ca)
        if client_certificate:
            context.load_cert_chain(client_certificate)
    except (OSError, ValueError) as error:
        text = "Failed to read a certificate: the cluster's CA, or the kubelet's own, is damaged."
        raise Invalid(text, code="CertificateUnreadable", details=str(error)) from error
    return context


def _shown(door: Door) -> dict[str, str]:
    """Return what the cluster shows to strangers, {} when it shows nothing."""
    data = door.get(CLUSTER_INFO).body.get("data")
    return data if isinstance(data, dict) else {}


def _address(facts: Mapping[str, str]) -> str:
    return facts.get("server", "").removeprefix("https://").rstrip("/")


def kubeconfig_facts(kubeconfig: str) -> dict[str, str]:
    """Return server and CA of a kubeconfig with one cluster, without a YAML parser, which a worker may not have."""
    pairs = re.findall(r"^\s*(?:- )?(server|certificate-authority-data):\s*[\"']?([^\s\"']+)", kubeconfig, re.MULTILINE)
    return dict(pairs)


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
