# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three questions about certificates that the standard library does not answer: which, whose key, in whose name.

PRIVATE to the collection. Pure. Nothing is verified here; that is what TLS does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s*(.*?)\s*-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION = 0x30, 0xA0
_NODE = b"system:node:"


def certificates(pem: str) -> list[bytes]:
    """Return the certificates (DER) in a text."""
    try:
        return [base64.b64decode(block) for block in _BLOCK.findall(pem)]
    except binascii.Error as error:
        raise Invalid("Failed to read a certificate: it is not base64.") from error


def key_hashes(pem: str) -> set[str]:
    """Return the hash of each certificate's public key, as kubeadm writes it."""
    return {"sha256:" + hashlib.sha256(_public_key(der)).hexdigest() for der in certificates(pem)}


def node_name(pem: str) -> str:
    """Return the Node in whose name a kubelet's client certificate is, "" when there is none."""
    for der in certificates(pem):
        at = der.rfind(_NODE)
        if at > 0 and der[at - 1] >= len(_NODE):
            return der[at + len(_NODE) : at + der[at - 1]].decode("ascii", errors="replace")
    return ""


def _public_key(der: bytes) -> bytes:
    """Return a certificate's SubjectPublicKeyInfo: the sixth field, the optional version not counted."""
    try:
        start, _end = _inside(der, 0)
        at, _end = _inside(der, start)
        if der[at] == _VERSION:
            at = _inside(der, at)[1]
        for _field in ("serial number", "signature", "issuer", "validity", "subject"):
            at = _inside(der, at)[1]
        key = der[at : _inside(der, at)[1]] if der[at] == _SEQUENCE else b""
    except (IndexError, ValueError):
        key = b""
    if not key:
        raise Invalid("Failed to read a certificate: it is not one of X.509.")
    return key


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the element at `at` begins and ends."""
    length, start = der[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if not length or start + length > len(der):
        raise ValueError
    return start, start + length
