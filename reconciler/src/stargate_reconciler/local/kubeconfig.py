# SPDX-License-Identifier: Apache-2.0
"""Kubeconfigs with everything inside: address, authority, client certificate and key, readable by their owner only.

Written for this control plane alone; a user's own kubeconfig is neither read nor changed.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import yaml


def write(path: Path, *, url: str, pki: Path, user: str) -> None:
    """Write the kubeconfig of the client whose certificate is `<pki>/<user>.crt`, mode 0600, atomically."""
    name = "stargate"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": _data(pki / "ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _data(pki / f"{user}.crt"),
                    "client-key-data": _data(pki / f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(document, file, sort_keys=False)
    temporary.replace(path)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
