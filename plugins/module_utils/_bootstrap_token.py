# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bootstrap tokens and what a cluster says of itself to those who join: made, read, and checked.

PRIVATE to the collection. Pure but for the random half of a token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_network
from typing import Any

try:
    import yaml
except ImportError:  # who reads cluster-info runs where ansible-core is, which brings it
    yaml = None  # type: ignore[assignment]  # never used then

from ansible_collections.stargate.core.plugins.module_utils._certificates import certificates
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError

GROUP = "system:bootstrappers:kubeadm:default-node-token"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH, SECRET_LENGTH = 6, 16
HTTPS_PORT, API_PORT = 443, 6443

Object = Mapping[str, Any]
_ENDPOINT = re.compile(r"(?P<scheme>https://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True)
class Token:
    """A bootstrap token; its secret half does not show when it is printed."""

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """Both halves, as kubeadm takes them."""
        return f"{self.id}.{self.secret}"

    @property
    def object_name(self) -> str:
        """The name of its Secret."""
        return secret_name(self.id)


@dataclass(frozen=True)
class ClusterInfo:
    """What kube-public/cluster-info says: the API server's URL, and the CA certificates (PEM)."""

    server: str
    ca: str


def token_id(node: str) -> str:
    """Return the public half of a Node's token.

    It is made from the name, so that an earlier token of the Node is found without the right to list Secrets.
    """
    number = int.from_bytes(hashlib.sha256(f"stargate:{node}".encode()).digest(), "big")
    digits = []
    for __ in range(ID_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(digits)


def new_token(node: str) -> Token:
    """Return a Node's next token."""
    return Token(token_id(node), "".join(secrets.choice(ALPHABET) for __ in range(SECRET_LENGTH)))


def secret_name(identifier: str) -> str:
    """Return the name of a token's Secret; raises Invalid for what is no public half of a token."""
    if len(identifier) != ID_LENGTH or not set(identifier) <= set(ALPHABET):
        raise Invalid(f'Failed to read the token id: "{identifier[:12]}" is not made of six of 0-9 and a-z.')
    return f"bootstrap-token-{identifier}"


def description(node: str) -> str:
    """Return what a token says of itself to people, in a form that no shell takes for anything else."""
    return f"stargate:node/{node}"


def manifest(token: Token, node: str, ttl: int, date: str) -> dict[str, Any]:
    """Return the Secret of a token that ends `ttl` seconds after an HTTP date, which is the API server's clock."""
    now = datetime.now(UTC)
    with suppress(ValueError, TypeError):
        now = parsedate_to_datetime(date).astimezone(UTC)
    data = {
        "token-id": token.id,
        "token-secret": token.secret,
        "description": description(node),
        "expiration": (now + timedelta(seconds=ttl)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": GROUP,
    }
    metadata = {"name": token.object_name, "namespace": "kube-system"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "bootstrap.kubernetes.io/token",
        "stringData": data,
    }


def cluster_info(config_map: Object | None) -> ClusterInfo:
    """Return what the ConfigMap says; raises StargateError when it is missing or says nothing."""
    try:
        kubeconfig = yaml.safe_load(((config_map or {}).get("data") or {})["kubeconfig"])
        cluster = kubeconfig["clusters"][0]["cluster"]
        ca = base64.b64decode(cluster.get("certificate-authority-data") or "").decode("ascii")
        if certificates(ca):
            return ClusterInfo(str(cluster["server"]), ca)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise _no_cluster_info() from error
    raise _no_cluster_info()


def is_signed(config_map: Object | None, token: Token) -> bool:
    """Whether cluster-info is signed with this very token, not with an earlier one of the same public half."""
    data = (config_map or {}).get("data") or {}
    header, __, rest = str(data.get(f"jws-kubeconfig-{token.id}", "")).partition(".")
    signature = rest.rpartition(".")[2]
    try:
        if json.loads(_unpadded(header)).get("alg") != "HS256":
            return False
        content = base64.urlsafe_b64encode(str(data.get("kubeconfig", "")).encode()).rstrip(b"=").decode()
        wanted = hmac.new(token.secret.encode(), f"{header}.{content}".encode(), hashlib.sha256).digest()
        return hmac.compare_digest(wanted, _unpadded(signature))
    except (ValueError, AttributeError):
        return False


def ca_mismatch(info: ClusterInfo, trusted: str) -> StargateError | None:
    """Return the failure that a CA is which our own connection does not trust; None when that is not known."""
    ours = set(certificates(trusted))
    if not ours or ours & set(certificates(info.ca)):
        return None
    return Invalid(
        "Failed to trust the cluster's CA: kube-public/cluster-info names another one than the kubeconfig. "
        "Renew cluster-info (kubeadm init phase bootstrap-token), or set verify_ca to false when the kubeconfig's "
        "server is a proxy.",
        code="CaMismatch",
    )


def endpoint(text: str) -> str:
    """Return host:port of an address or URL; a URL without a port has 443, an address without one 6443."""
    match = _ENDPOINT.fullmatch(text.strip())
    if not match or int(match["port"] or 1) not in range(1, 65536):
        raise Invalid(f'Failed to read the endpoint of the API server: "{text[:64]}" is not like 10.0.0.1:6443.')
    port = match["port"] or (HTTPS_PORT if match["scheme"] else API_PORT)
    return f"{match['host']}:{port}"


def dns_of(config_map: Object | None) -> tuple[str, str]:
    """Return the cluster's DNS domain and its DNS server as kubeadm sets it up; empty when kubeadm-config is silent."""
    try:
        found = yaml.safe_load(((config_map or {}).get("data") or {})["ClusterConfiguration"])["networking"]
        subnet = str(found.get("serviceSubnet") or "").split(",", maxsplit=1)[0]
        server = str(ip_network(subnet)[10]) if subnet else ""
        return str(found.get("dnsDomain") or ""), server
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError):
        return "", ""


def _no_cluster_info() -> StargateError:
    return Invalid(
        "Failed to read how the cluster is joined: the ConfigMap kube-public/cluster-info is missing or names no API "
        "server with its CA. kubeadm init phase bootstrap-token makes it.",
        code="ClusterInfoMissing",
    )


def _unpadded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(text) from error
