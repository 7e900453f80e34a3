# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates of a local control plane, in the files and with the names that kubeadm uses.

Made with `cryptography`, which ansible-core needs anyway: a fresh Debian or Ubuntu may have neither openssl nor
kubeadm. EC keys (P-256): made in microseconds, understood by every supported Kubernetes.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stargate_reconciler.errors import UserError

_VALID = datetime.timedelta(days=365)
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH

# Where clients may find the API server; the first address of the Service range is the Service `kubernetes`.
SERVING_NAMES = (
    "127.0.0.1",
    "localhost",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class Authority:
    """A certificate authority and the directory in which it and what it signs are kept."""

    directory: Path
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def load_or_make(cls, directory: Path, name: str) -> Authority:
        """Return the authority kept as `<name>.crt` and `<name>.key`, made now when it is not there."""
        crt, key_file = directory / f"{name}.crt", directory / f"{name}.key"
        if crt.exists() and key_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise UserError(f"Failed to read {key_file}: it is not an EC key. Remove {directory} to make it anew.")
            return cls(directory, name, key, x509.load_pem_x509_certificate(crt.read_bytes()))
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"stargate-{name.replace('/', '-')}")])
        builder = _builder(subject, subject, key.public_key())
        usage = _key_usage(signs_certificates=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
        _write_pair(directory / name, key, certificate)
        return cls(directory, name, key, certificate)

    def sign(
        self, name: str, subject: str, *, groups: Sequence[str] = (), names: Sequence[str] = (), server: bool = False
    ) -> None:
        """Write `<name>.crt` and `<name>.key` for a client, or for a server (also as client) known under `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        common = x509.NameAttribute(NameOID.COMMON_NAME, subject)
        builder = _builder(x509.Name([*attributes, common]), self.certificate.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        usages = [_SERVER, _CLIENT] if server else [_CLIENT]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())
        _write_pair(self.directory / name, key, certificate)


def make_all(directory: Path, *, names: Sequence[str] = ()) -> None:
    """Make in `directory` (0700) every key and certificate of a control plane that is not there yet.

    The API server's is made anew when it lacks one of `names`, which come to its usual ones.
    """
    if (directory / "complete").exists():
        if missing := set(names) - served(directory / "apiserver.crt"):
            _serve(directory, [*served(directory / "apiserver.crt"), *sorted(missing)])
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (directory / "etcd").mkdir(exist_ok=True, mode=0o700)
    cluster = Authority.load_or_make(directory, "ca")
    _serve(directory, [*SERVING_NAMES, *names])
    cluster.sign("apiserver-kubelet-client", "kube-apiserver-kubelet-client", groups=["system:masters"])
    cluster.sign("admin", "kubernetes-admin", groups=["system:masters"])
    for name in ("kube-controller-manager", "kube-scheduler"):
        cluster.sign(name, f"system:{name}")
    Authority.load_or_make(directory, "front-proxy-ca").sign("front-proxy-client", "front-proxy-client")
    # An authority of its own: etcd holds every Secret, and who may join the cluster must not be able to read it.
    etcd = Authority.load_or_make(directory, "etcd/ca")
    etcd.sign("etcd/server", "etcd", names=("127.0.0.1", "localhost"), server=True)
    etcd.sign("apiserver-etcd-client", "kube-apiserver-etcd-client")
    key = ec.generate_private_key(ec.SECP256R1())
    _write(directory / "sa.key", _key_text(key))
    public = key.public_key()
    text = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write(directory / "sa.pub", text)
    _write(directory / "complete", b"")


def served(certificate: Path) -> set[str]:
    """Return the names and addresses for which a server's certificate is good."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def _serve(directory: Path, names: Sequence[str]) -> None:
    """Write the API server's certificate for these names."""
    authority = Authority.load_or_make(directory, "ca")
    authority.sign("apiserver", "kube-apiserver", names=list(dict.fromkeys(names)), server=True)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + _VALID)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    # SEC 1, the form in which kubeadm writes EC keys.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write_pair(stem: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write(stem.with_suffix(".key"), _key_text(key))
    _write(stem.with_suffix(".crt"), certificate.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
