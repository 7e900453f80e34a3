# SPDX-License-Identifier: Apache-2.0
"""The local API server, asked as its administrator: plain requests, with the certificates that lie beside it.

Only what starting a control plane needs; everybody else uses kubectl or the official client.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stargate_reconciler.errors import WorldError

MANAGER = "stargate-control-plane"
_PLURALS = {
    "ConfigMap": "configmaps",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}


@dataclass(frozen=True)
class Api:
    """An API server on an address and port whose keys are in `pki`."""

    address: str
    port: int
    pki: Path

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a request; 0 and the reason when there is no answer."""
        try:
            return self._ask("GET", path)
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Create an object, or make its fields what the manifest says and leave all others (server-side apply)."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        body = json.dumps(manifest).encode()
        try:
            status, text = self._ask("PATCH", f"{path_of(manifest)}?fieldManager={MANAGER}&force=true", body)
        except (OSError, http.client.HTTPException) as error:
            status, text = 0, str(error)
        if status not in (200, 201):
            raise WorldError(f"Failed to apply {kind} {name}: {text[:256].strip()} ({status}).")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        connection = http.client.HTTPSConnection(self.address, self.port, context=context, timeout=5)
        headers = {} if body is None else {"Content-Type": "application/apply-patch+yaml"}
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")


def path_of(manifest: Mapping[str, Any]) -> str:
    """Return where the API serves an object."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{space}/{_PLURALS[manifest['kind']]}/{metadata['name']}"
