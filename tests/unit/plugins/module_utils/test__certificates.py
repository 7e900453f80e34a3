# SPDX-License-Identifier: Apache-2.0
"""Certificates read without a library, against certificates that a library has made.

The hash is compared with the library's own encoding of the public key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.plugins.certs import Authority

from ansible_collections.stargate.core.plugins.module_utils import _certificates as certificates
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid

JUNK = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def test_key_hashes() -> None:
    """Each certificate of a bundle has the hash of its public key."""
    bundle = [Authority("one"), Authority("a much longer name of an authority, to have lengths of two bytes")]
    keys = [ca.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for ca in bundle]
    assert certificates.key_hashes("text\n" + "".join(ca.pem for ca in bundle)) == {
        "sha256:" + hashlib.sha256(key).hexdigest() for key in keys
    }
    assert certificates.key_hashes("no certificate") == set()


@pytest.mark.parametrize(("name", "node"), [("system:node:w1.dc-west", "w1.dc-west"), ("kubelet", "")])
def test_node_name(tmp_path: Path, name: str, node: str) -> None:
    """A kubelet's certificate names its Node; its private key beside it does not disturb."""
    assert certificates.node_name(Authority().issue(name, tmp_path / "kubelet.pem").read_text()) == node


@pytest.mark.parametrize("body", ["MAA=", "AAAA", "MIIB", "MAUwAwIBAQ==", "x"])
def test_junk(body: str) -> None:
    """What is no certificate is refused with a sentence."""
    with pytest.raises(Invalid, match="Failed to read a certificate"):
        certificates.key_hashes(JUNK.format(body))
