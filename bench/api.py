# SPDX-License-Identifier: Apache-2.0
"""The cluster as the benchmark speaks to it: raw HTTPS with as little time of its own as possible.

Creates many objects at once, and notes when an Operation is seen in a phase for the first time.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.objects import Object, path

THREADS = 6
FINAL = frozenset({"Succeeded", "Failed"})


class ApiError(RuntimeError):
    """The API server refused a request, or something that was waited for did not come."""


class Upstream:
    """Where a local API server is, and who we are to it: its admin."""

    def __init__(self, port: int, pki: Path) -> None:
        self.port = port
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def connection(self, seconds: float = 120) -> http.client.HTTPSConnection:
        """Return a new connection, on which an answer may take so many seconds."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self._context, timeout=seconds)


class Api:
    """One connection per thread to an API server, as admin."""

    def __init__(self, port: int, pki: Path) -> None:
        self._upstream = Upstream(port, pki)
        self._local = threading.local()
        self.namespaces: list[str] = []

    def connection(self) -> http.client.HTTPSConnection:
        """Return a new connection."""
        return self._upstream.connection(seconds=60)

    def request(self, method: str, where: str, body: Object | None = None) -> Object:
        """Return the answer's object; raises ApiError for any but 2xx."""
        if not hasattr(self._local, "connection"):
            self._local.connection = self.connection()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        text = None if body is None else json.dumps(body)
        self._local.connection.request(method, where, text, {"Content-Type": kind})
        response = self._local.connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise ApiError(f"{method} {where}: HTTP {response.status}: {content[:300]!r}")
        return dict(json.loads(content))

    def create(self, namespace: str, plural: str, items: Sequence[Object], *, threads: int = THREADS) -> None:
        """Create objects, several at once."""
        where = path(namespace, plural)
        if len(items) == 1:
            self.request("POST", where, items[0])
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda item: self.request("POST", where, item), items))

    def set_statuses(self, namespace: str, plural: str, statuses: Mapping[str, Object]) -> None:
        """Write the statuses of objects by name, several at once."""
        where = path(namespace, plural)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda pair: self._set_status(f"{where}/{pair[0]}/status", pair[1]), statuses.items()))

    def _set_status(self, where: str, status: Object) -> None:
        self.request("PATCH", where, {"status": status})

    def make_namespace(self, name: str) -> None:
        """Create a namespace."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.namespaces.append(name)

    def clear(self) -> None:
        """Delete our objects in the namespaces made so far, and think of these namespaces no more."""
        for name in self.namespaces:
            for plural in ("operations", "servers", "provisioningprofiles"):
                self.request("DELETE", path(name, plural))
        self.namespaces.clear()


@dataclass(frozen=True)
class Applied:
    """When Operations were applied, and when the last of them was in the wanted phase; monotonic times."""

    began: float
    reached: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From the first request until the last was seen in the phase."""
        return max(self.reached.values()) - self.began


class Phases:
    """A watch on the Operations of a namespace, open as a context: when each was first seen in which phase."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._where = path(namespace, "operations")
        self._api, self._namespace = api, namespace
        self._connection = api.connection()
        self._version = api.request("GET", f"{self._where}?limit=1")["metadata"]["resourceVersion"]
        self._changed = threading.Condition()
        self._seen: dict[str, dict[str, float]] = {}
        self._last: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = False

    def __enter__(self) -> Phases:
        """Begin to watch."""
        query = f"?watch=1&timeoutSeconds=1800&resourceVersion={self._version}"
        self._connection.timeout = 1900
        self._connection.request("GET", self._where + query)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._ended = True
        if self._connection.sock is not None:
            self._connection.sock.close()

    def _run(self) -> None:
        try:
            response = self._connection.getresponse()
            while line := response.readline():
                self._note(json.loads(line)["object"], time.monotonic())
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            if not self._ended:
                raise

    def _note(self, item: Object, moment: float) -> None:
        phase = (item.get("status") or {}).get("phase")
        with self._changed:
            self._last[item["metadata"]["name"]] = item.get("status") or {}
            if phase:
                self._seen.setdefault(item["metadata"]["name"], {}).setdefault(phase, moment)
                self._changed.notify_all()

    def apply(self, operations: Sequence[Object], phase: str, *, seconds: float) -> Applied:
        """Create Operations at once and wait until each was seen in `phase`."""
        began = time.monotonic()
        self._api.create(self._namespace, "operations", operations)
        names = [operation["metadata"]["name"] for operation in operations]
        return Applied(began, self.wait(names, phase, seconds=seconds))

    def wait(self, names: Iterable[str], phase: str, *, seconds: float) -> dict[str, float]:
        """Return when each Operation was first seen in `phase`; ApiError when one ended otherwise or time is up."""
        wanted, deadline = list(names), time.monotonic() + seconds
        with self._changed:
            while True:
                missing = [name for name in wanted if phase not in self._seen.get(name, {})]
                if not missing:
                    return {name: self._seen[name][phase] for name in wanted}
                self._refuse_failed(missing)
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise ApiError(f"{len(missing)} Operations are not {phase} in {seconds:.0f} s, as {missing[0]}")

    def _refuse_failed(self, names: Iterable[str]) -> None:
        for name in names:
            if FINAL & self._seen.get(name, {}).keys():
                raise ApiError(f"Operation {name} ended otherwise: {self._last[name].get('message')}")
