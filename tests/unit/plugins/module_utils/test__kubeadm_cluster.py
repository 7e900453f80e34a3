# SPDX-License-Identifier: Apache-2.0
"""A cluster reached and made sure of, before a worker gives up anything for it.

The API server is a small one, with real TLS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plugins.api_server import TOKEN, Api, api
from tests.unit.plugins.certs import Authority

from ansible_collections.stargate.core.plugins.module_utils import _certificates as certificates
from ansible_collections.stargate.core.plugins.module_utils import _kubeadm_cluster as clusters
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._version import Version


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Return a cluster that is waited for half a second at most."""
    monkeypatch.setattr(clusters, "TOKEN_LAG", 0.5)
    with api(tmp_path) as made:
        yield made


def refused(join: dict[str, Any], token: str = TOKEN) -> StargateError:
    """Return why a cluster is not reached."""
    with pytest.raises(StargateError) as caught:
        clusters.reached(join, token)
    return caught.value


def test_reached(cluster: Api) -> None:
    """A cluster says its version and address, and has signed them with the token."""
    assert clusters.reached(cluster.join, TOKEN) == clusters.Cluster(
        cluster.endpoint, cluster.authority.pem, cluster.endpoint, is_signed=True, version=Version(1, 20, 2)
    )
    assert len(cluster.asked) == 2


def test_reached_by_hash(cluster: Api) -> None:
    """Without the CA itself the one that the cluster shows is taken, if its key has the hash."""
    hashes = sorted(certificates.key_hashes(cluster.authority.pem))
    found = clusters.reached({**cluster.join, "ca": "", "ca_hashes": hashes}, TOKEN)
    assert found.ca == cluster.authority.pem
    other = refused({**cluster.join, "ca": "", "ca_hashes": [f"sha256:{'0' * 64}"]})
    assert (other.code, other.retryable) == ("CaMismatch", False)
    cluster.shows = False
    assert refused({**cluster.join, "ca": "", "ca_hashes": hashes}).code == "ApiForbidden"


def test_hash_and_ca_that_differ(cluster: Api) -> None:
    """A CA and a hash that do not belong together are a mistake."""
    assert refused({**cluster.join, "ca_hashes": [f"sha256:{'0' * 64}"]}).code == "Invalid"


def test_another_ca(cluster: Api) -> None:
    """A server with a certificate of another CA is not spoken to."""
    error = refused({**cluster.join, "ca": Authority("other").pem})
    assert (error.code, error.retryable) == ("CaMismatch", False)
    assert cluster.asked == []


def test_a_ca_that_is_none(cluster: Api) -> None:
    """A text that is no CA is a mistake."""
    assert refused({**cluster.join, "ca": "-----BEGIN"}).code == "CertificateUnreadable"


def test_another_address(tmp_path: Path) -> None:
    """A certificate for another address is not accepted, and the reason is said."""
    with api(tmp_path, "10.9.9.9") as cluster:
        error = refused(cluster.join)
    assert error.code == "CaMismatch"
    assert "127.0.0.1" in error.details


def test_nobody_there(cluster: Api) -> None:
    """A server that does not answer may be there later."""
    error = refused({**cluster.join, "endpoint": "127.0.0.1:1"})
    assert (error.code, error.retryable) == ("ApiUnreachable", True)
    cluster.status = 503
    assert refused(cluster.join).code == "ApiUnreachable"


@pytest.mark.parametrize("token", ["abcdef.wrongwrongwrong0", "zzzzzz.0123456789abcdef"])
def test_a_token_that_is_not_known(cluster: Api, token: str) -> None:
    """A token that has expired, or never was, is found out at once; a new one may help."""
    error = refused(cluster.join, token)
    assert (error.code, error.retryable) == ("TokenExpired", True)
    assert token not in error.message + error.details


def test_a_token_that_was_just_made(cluster: Api) -> None:
    """A token that the server has not heard of yet is asked for again."""
    cluster.late = 1
    assert clusters.reached(cluster.join, TOKEN).is_signed


def test_without_a_token(cluster: Api) -> None:
    """In check mode there may be no token, and the cluster is reached all the same."""
    assert not clusters.reached(cluster.join, "").is_signed


@pytest.mark.parametrize("what", ["shows", "signs"])
def test_a_cluster_that_shows_nothing(cluster: Api, what: str) -> None:
    """Where strangers see nothing, or nothing is signed, the cluster is the one that was given."""
    setattr(cluster, what, False)
    found = clusters.reached(cluster.join, TOKEN)
    assert (found.server, found.is_signed) == (cluster.endpoint, False)


def test_another_door(cluster: Api) -> None:
    """Where the cluster calls itself by another address, that one has to lead there from here."""
    cluster.server = f"localhost:{cluster.port}"
    found = clusters.reached(cluster.join, TOKEN)
    assert found.server == f"localhost:{cluster.port}"
    with pytest.raises(StargateError, match="which cannot be reached from this machine") as caught:
        clusters.require_same_door(found)
    assert (caught.value.code, caught.value.retryable) == ("EndpointMismatch", False)
    cluster.server = f"https://127.0.0.1:{cluster.port}"
    clusters.require_same_door(clusters.reached(cluster.join, TOKEN))


def test_server_of(cluster: Api) -> None:
    """The cluster's own word on its address, or the one that is known when it does not answer."""
    cluster.server = "api.example.com:6443"
    assert clusters.server_of(cluster.endpoint, cluster.authority.pem) == "api.example.com:6443"
    cluster.shows = False
    assert clusters.server_of(cluster.endpoint, cluster.authority.pem) == cluster.endpoint
    assert clusters.server_of("127.0.0.1:1", "") == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("10.0.2.2:6443", ("10.0.2.2", 6443)),
        ("https://api.example.com:443/", ("api.example.com", 443)),
        ("[fd00::1]:6443", ("fd00::1", 6443)),
        ("10.0.2.2", None),
        ("10.0.2.2:0", None),
        ("10.0.2.2:99999", None),
        ("user@host:1", None),
        ("host:1/path", None),
    ],
)
def test_split(endpoint: str, place: tuple[str, int] | None) -> None:
    """An endpoint is a host and a port, and nothing else."""
    if place:
        assert clusters.split(endpoint) == place
        return
    with pytest.raises(StargateError, match="it is not like host:port"):
        clusters.split(endpoint)


@pytest.mark.parametrize(
    "kubeconfig",
    [
        "clusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://a:1\n  name: k\n",
        'clusters:\n- cluster: \n    server: "https://a:1"\n    certificate-authority-data: QUJD\n',
    ],
)
def test_kubeconfig_facts(kubeconfig: str) -> None:
    """Server and CA are found however they are written."""
    assert clusters.kubeconfig_facts(kubeconfig) == {"server": "https://a:1", "certificate-authority-data": "QUJD"}
