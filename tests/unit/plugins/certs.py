# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests: an authority, and what it signs.

Only for tests, so the keys are short-lived and of a small curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Authority:
    """A CA with a key of its own."""

    name: str = "test-ca"

    @cached_property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key."""
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The CA's own certificate."""
        return self._signed(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return self.certificate.public_bytes(PEM).decode()

    def issue(self, common_name: str, path: Path, address: str = "127.0.0.1") -> Path:
        """Write a certificate with its key to a file."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        certificate = self._signed(common_name, key, names).public_bytes(PEM)
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(certificate + private)
        return path

    def _signed(
        self, common_name: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes")] if ":" in common_name else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )
        return builder.add_extension(extension, critical=False).sign(self.key, hashes.SHA256())
