# SPDX-License-Identifier: Apache-2.0
"""The objects that a user writes for machines that become Nodes: a Secret, profiles, Operations.

Pure dictionaries; who applies them is not known here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

API_VERSION = "stargate.io/v1alpha1"
SECRET = "machines-ssh"  # noqa: S105 - the name of a Secret
USER = "ubuntu"


def ssh_secret(namespace: str, private_key: bytes) -> Object:
    """Return the Secret with the key that opens the machines."""
    encoded = base64.b64encode(private_key).decode()
    metadata = {"name": SECRET, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"privateKey": encoded}}


def profile(namespace: str, name: str, spec: Mapping[str, Any]) -> Object:
    """Return a ProvisioningProfile with the Secret and the user of the machines; `spec` says the rest."""
    ours = {"adminUsername": USER, "sshCredentialsSecretRef": SECRET}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "ProvisioningProfile", "metadata": metadata, "spec": {**ours, **spec}}


def operation(namespace: str, name: str, spec: Mapping[str, Any]) -> Object:
    """Return an Operation; `spec` has server, profile and operation, and may have more of the real spec."""
    rest = {key: value for key, value in spec.items() if key not in ("server", "profile")}
    references = {
        "serverRef": {"name": spec["server"]},
        "provisioningProfileRef": {"name": spec["profile"]},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "Operation", "metadata": metadata, "spec": {**references, **rest}}
