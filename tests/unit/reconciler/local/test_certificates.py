# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates: who signs whom, under which names, for how long, and who may read the files.

Verified by the TLS of the standard library, not by the library that made them.
"""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stargate_reconciler.errors import UserError
from stargate_reconciler.local import certificates


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of a control plane's keys and certificates."""
    directory = tmp_path_factory.mktemp("certificates") / "pki"
    certificates.make_all(directory)
    return directory


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Let two contexts shake hands in memory; returns the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    two = client.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (two, one, two, one):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return one


def contexts(pki: Path, server: str, client: str, *, authority: str = "ca") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context that asks for a client's certificate, and the client's."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pki / f"{server}.crt", pki / f"{server}.key")
    serving.load_verify_locations(pki / f"{authority}.crt")
    serving.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.create_default_context(cafile=str(pki / f"{authority}.crt"))
    calling.load_cert_chain(pki / f"{client}.crt", pki / f"{client}.key")
    return serving, calling


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "10.96.0.1", "kubernetes.default.svc"])
def test_clients_trust_the_server_and_it_trusts_them(pki: Path, name: str) -> None:
    """An administrator and the API server believe each other, under every name that it serves."""
    peer: dict[str, Any] = handshake(*contexts(pki, "apiserver", "admin"), name).getpeercert() or {}
    assert dict(pair[0] for pair in peer["subject"]) == {
        "organizationName": "system:masters",
        "commonName": "kubernetes-admin",
    }


def test_other_names_are_not_served(pki: Path) -> None:
    """The serving certificate is good for its own names only."""
    with pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|mismatch"):
        handshake(*contexts(pki, "apiserver", "admin"), "127.0.0.2")


def test_etcd_has_an_authority_of_its_own(pki: Path) -> None:
    """The API server gets into etcd; a certificate of the cluster's authority does not."""
    handshake(*contexts(pki, "etcd/server", "apiserver-etcd-client", authority="etcd/ca"), "127.0.0.1")
    with pytest.raises(ssl.SSLError):
        handshake(*contexts(pki, "etcd/server", "admin", authority="etcd/ca"), "127.0.0.1")


def test_files_are_private(pki: Path) -> None:
    """Only the owner reads keys, and looks into the directories."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in pki.rglob("*.key")}
    assert set(modes.values()) == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (pki, pki / "etcd")} == {0o700}


def test_certificates_hold_a_year(pki: Path) -> None:
    """Each is valid now and for a year, clocks a little apart allowed."""
    now = datetime.datetime.now(datetime.UTC)
    for path in pki.rglob("*.crt"):
        one = x509.load_pem_x509_certificate(path.read_bytes())
        assert one.not_valid_before_utc < now - datetime.timedelta(minutes=4), path
        assert 364 <= (one.not_valid_after_utc - now).days <= 365, path


def test_made_once(pki: Path) -> None:
    """A second call changes nothing, so that kubeconfigs stay good."""
    before = {path: path.read_bytes() for path in pki.rglob("*") if path.is_file()}
    certificates.make_all(pki)
    assert {path: path.read_bytes() for path in pki.rglob("*") if path.is_file()} == before


def test_interrupted_making_is_finished(tmp_path: Path) -> None:
    """Where an earlier call was cut off the authority is kept and the rest is made."""
    kept = certificates.Authority.load_or_make(tmp_path, "ca").certificate
    certificates.make_all(tmp_path)
    assert certificates.Authority.load_or_make(tmp_path, "ca").certificate == kept
    handshake(*contexts(tmp_path, "apiserver", "admin"), "localhost")


def test_foreign_authority(tmp_path: Path, pki: Path) -> None:
    """A key of another kind is refused with the way out."""
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    (tmp_path / "ca.key").write_bytes(ED25519)
    with pytest.raises(UserError, match="it is not an EC key"):
        certificates.Authority.load_or_make(tmp_path, "ca")


def test_service_account_keys_fit(pki: Path) -> None:
    """The public key is that of the private one."""
    private = serialization.load_pem_private_key((pki / "sa.key").read_bytes(), password=None)
    public = serialization.load_pem_public_key((pki / "sa.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key() == public


ED25519 = (
    b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    b"-----END PRIVATE KEY-----\n"
)


def test_names_come_later(tmp_path: Path) -> None:
    """A name that is missing gives the API server a new certificate with all of them, under the same authority."""
    certificates.make_all(tmp_path)
    authority = (tmp_path / "ca.crt").read_bytes()
    certificates.make_all(tmp_path, names=["10.0.2.2"])
    certificates.make_all(tmp_path, names=["api.test"])
    wanted = {*certificates.SERVING_NAMES, "10.0.2.2", "api.test"}
    assert certificates.served(tmp_path / "apiserver.crt") == wanted
    before = (tmp_path / "apiserver.crt").read_bytes()
    certificates.make_all(tmp_path, names=["10.0.2.2", "api.test"])
    assert (tmp_path / "apiserver.crt").read_bytes() == before
    assert (tmp_path / "ca.crt").read_bytes() == authority
    handshake(*contexts(tmp_path, "apiserver", "admin"), "10.0.2.2")
