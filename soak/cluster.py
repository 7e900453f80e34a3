# SPDX-License-Identifier: Apache-2.0
"""The API server as the harness itself speaks to it: directly, past all faults, with as little as possible.

One connection per thread, opened anew when it breaks. What the daemons see is `proxy.py`'s.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from bench.api import Upstream

Object = dict[str, Any]

NAMESPACE = "soak"
GROUP = "/apis/stargate.io/v1alpha1"
MERGE = "application/merge-patch+json"


class Refused(RuntimeError):
    """The API server said no; `code` is its HTTP status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def path(kind: str, name: str = "", part: str = "") -> str:
    """Return the API path of objects of a kind in the soak's namespace, of one of them, or of its sub-resource."""
    core = kind in ("secrets", "events", "nodes")
    base = f"/api/v1/namespaces/{NAMESPACE}/{kind}" if core else f"{GROUP}/namespaces/{NAMESPACE}/{kind}"
    if kind == "leases":
        base = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    return "/".join(part for part in (base, name, part) if part)


class Cluster:
    """Requests as admin."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._local = threading.local()

    def request(self, method: str, where: str, body: Object | None = None) -> Object:
        """Return the answer's object; raises Refused for any but 2xx."""
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": MERGE if method == "PATCH" else "application/json"}
        for attempt in (1, 2):
            connection = getattr(self._local, "connection", None) or self._upstream.connection()
            self._local.connection = connection
            try:
                connection.request(method, where, text, headers)
                response = connection.getresponse()
                content = response.read()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self._local.connection = None
                if attempt == 2:
                    raise
        if response.status >= 300:
            raise Refused(f"{method} {where}: HTTP {response.status}: {content[:300]!r}", response.status)
        return dict(json.loads(content))

    def create(self, kind: str, item: Object) -> Object:
        """Create an object; returns it as it was accepted."""
        return self.request("POST", path(kind), item)

    def find(self, kind: str, name: str) -> Object | None:
        """Return an object, None when it is not there."""
        try:
            return self.request("GET", path(kind, name))
        except Refused as error:
            if error.code == 404:
                return None
            raise

    def all(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return list(self.request("GET", path(kind))["items"])

    def merge(self, kind: str, name: str, patch: Mapping[str, Any]) -> bool:
        """Merge a patch into an object; returns whether it was there."""
        return self._if_there("PATCH", path(kind, name), dict(patch))

    def delete(self, kind: str, name: str) -> bool:
        """Delete an object; returns whether it was there."""
        return self._if_there("DELETE", path(kind, name), None)

    def _if_there(self, method: str, where: str, body: Object | None) -> bool:
        try:
            self.request(method, where, body)
        except Refused as error:
            if error.code in (404, 409):
                return False
            raise
        return True

    def watch(self, kind: str, version: str) -> Iterator[Object]:
        """Yield the events of a kind from a version on, until the API server closes the watch."""
        connection = self._upstream.connection(seconds=3700)
        try:
            connection.request("GET", f"{path(kind)}?watch=1&timeoutSeconds=3600&resourceVersion={version}")
            response = connection.getresponse()
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()
