# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster: the official client's connection, plain JSON over it, its failures as our few kinds.

PRIVATE to the collection, whose only importer of `kubernetes` this is, but for _kubeconfig.py and the inventory
plugin. What an answer means is known to _kube_answer.py. The client's typed models stay unused: they cost half a second
of CPU, JSON nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Invalid,
    StargateError,
    Unavailable,
    Unreachable,
    clipped,
)
from ansible_collections.stargate.core.plugins.module_utils._kube_answer import Answer, read, refused, unanswered
from ansible_collections.stargate.core.plugins.module_utils._kube_files import Hideout
from ansible_collections.stargate.core.plugins.module_utils._kubeconfig import load

NO_ANSWER: tuple[type[Exception], ...] = (OSError,)
# At the top on purpose. Ansible loads an action once before it forks, so that this costs a run 0.2 s of CPU; in a
# function it would cost that for each task on each host.
try:
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    NO_ANSWER += (ApiException, HTTPError)
except ImportError:
    config = None

NOT_JSON: tuple[type[Exception], ...] = (ValueError,)

CONNECTION_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "str", "default": ""},
    "context": {"type": "str", "default": ""},
    "unreachable_after": {"type": "float", "default": 60.0},
}
DENIALS = (401, 403)
DENIED_SECONDS, DENIED_AFTER_OUTAGE_SECONDS = 3.0, 30.0
"""How long a denial has to stand: a server that has just started denies what it allows until it has read its rules."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
PAGE = 500
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
MERGE_PATCH = "application/merge-patch+json"
DEFAULT_KUBECONFIG = "~/.kube/config"

Object = dict[str, Any]


def path_of(root: str, *names: str) -> str:
    """Return a path of the API with the names quoted: `path_of("/api/v1/nodes", name)`."""
    return "/".join([root, *(quote(name, safe="") for name in names)])


@dataclass(frozen=True)
class Connection:
    """The official client with the credentials of one kubeconfig, and the certificates (PEM) that this trusts."""

    client: Any
    ca: str
    files: Hideout

    def close(self) -> None:
        """Close the connections and forget the credentials' files."""
        self.client.close()
        self.files.close()


def connected(kubeconfig: str, context: str, environ: Mapping[str, str]) -> Connection:
    """Return a connection to the cluster of a kubeconfig, of KUBECONFIG, of this pod, or of ~/.kube/config.

    Nobody is asked yet. Raises Invalid with what is wrong with the kubeconfig.
    """
    if config is None:
        raise Invalid(
            "Failed to speak to the cluster: the Python package kubernetes is missing. "
            f"Install it: {sys.executable} -m pip install kubernetes",
            code="PackageMissing",
        )
    chosen = kubeconfig or environ.get("KUBECONFIG", "")
    settings = type.__call__(Configuration)  # the class may hand out somebody's default
    files = Hideout()
    try:
        if not chosen and "KUBERNETES_SERVICE_HOST" in environ:
            config.load_incluster_config(client_configuration=settings)
        else:
            _load(chosen or DEFAULT_KUBECONFIG, context, settings, files)
        ca = Path(settings.ssl_ca_cert).read_text(encoding="ascii", errors="replace") if settings.ssl_ca_cert else ""
        settings.retries = False
        return Connection(ApiClient(settings), ca, files)
    except Exception as error:  # files, parsers and credential plugins raise kinds of their own
        files.close()
        raise Invalid(
            f"Failed to load the kubeconfig {chosen or DEFAULT_KUBECONFIG}: "
            f"{clipped(str(error)).rstrip('.') or type(error).__name__}. "
            "Set kubeconfig, or KUBECONFIG, to a file that kubectl can use, and context to one of its contexts.",
            code="KubeconfigInvalid",
        ) from error


def _load(chosen: str, context: str, settings: Any, files: Hideout) -> None:
    paths = [str(Path(path).expanduser()) for path in chosen.split(os.pathsep) if path]
    if not any(Path(path).exists() for path in paths):
        raise FileNotFoundError(f"there is no file {chosen}")
    load(os.pathsep.join(paths), context or None, settings, files)


class Cluster:
    """Requests to the API server. Every method raises StargateErrors only.

    A request without a usable answer is made again, with growing pauses, for `unreachable_after` seconds at most; so
    each one has to be fit to be made twice.
    """

    def __init__(self, connection: Connection, unreachable_after: float, clock: Any = time) -> None:
        """Take over the connection; `clock` has monotonic and sleep."""
        self._connection = connection
        self._patience = unreachable_after
        self.clock = clock
        self._was_out = False

    @classmethod
    def of(cls, params: Mapping[str, Any], environ: Mapping[str, str]) -> Cluster:
        """Return the cluster that the options of CONNECTION_SPEC name."""
        connection = connected(params.get("kubeconfig") or "", params.get("context") or "", environ)
        return cls(connection, float(params.get("unreachable_after") or 0.0))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._connection.client.configuration.host)

    @property
    def ca(self) -> str:
        """The certificates (PEM) that the kubeconfig trusts; "" when it leaves that to the system."""
        return self._connection.ca

    def get(self, path: str, doing: str, **query: Any) -> Object:
        """Return an object; raises NotFound when there is none. `doing` completes "Failed to"."""
        return self.ask("GET", path, doing, query=query).body

    def find(self, path: str, doing: str) -> Object | None:
        """Return an object, None when there is none."""
        answer = self.ask("GET", path, doing, expected=(404,))
        return None if answer.status == 404 else answer.body

    def items(self, path: str, doing: str, **query: Any) -> tuple[list[Object], str]:
        """Return all objects of a list, page by page, and the resource version that they have together."""
        found: list[Object] = []
        token: str | None = None
        while True:
            page = self.get(path, doing, limit=PAGE, **query, **({"continue": token} if token else {}))
            metadata = page.get("metadata") or {}
            found.extend(page.get("items") or ())
            token = metadata.get("continue")
            if not token:
                return found, str(metadata.get("resourceVersion", ""))

    def create(self, path: str, doing: str, body: Object) -> Object:
        """Create an object and return it; raises Conflict when there is one of that name."""
        return self.ask("POST", path, doing, body=body).body

    def patch(self, path: str, doing: str, body: Object) -> Object:
        """Send a merge patch and return the object. With metadata.resourceVersion in it, raises Conflict."""
        return self.ask("PATCH", path, doing, body=body).body

    def delete(self, path: str, doing: str, uid: str = "") -> bool:
        """Delete an object, of this uid only when given; returns whether it was there."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            options["preconditions"] = {"uid": uid}
        return self.ask("DELETE", path, doing, body=options, expected=(404, 409)).status < 300

    def ask(self, method: str, path: str, doing: str, *, body: Object | None = None, **options: Any) -> Answer:
        """Return the answer to a request. Options: `query`; `expected`, the statuses that are no failure."""
        expected: Sequence[int] = options.pop("expected", ())
        started, pause = self.clock.monotonic(), SHORTEST_PAUSE
        while True:
            answer: Answer | None = None
            try:
                answer = self._once(method, path, doing, body=body, **options)
                if answer.status < 300 or (answer.status in expected and answer.status not in DENIALS):
                    self._was_out = False
                    return answer
                raise refused(answer, doing, self.address)
            except StargateError as error:
                is_over = self.clock.monotonic() - started + pause > self._patience_for(error)
                if is_over and answer is not None and answer.status in expected:
                    return answer
                if is_over:
                    raise
                self.clock.sleep(max(pause, min(getattr(error, "retry_after", None) or 0.0, LONGEST_PAUSE)))
                pause = min(pause * 2, LONGEST_PAUSE)

    def _patience_for(self, error: StargateError) -> float:
        """Return for how many seconds a request that has failed so is made again."""
        if error.code in ("Unauthorized", "Forbidden"):
            return min(DENIED_AFTER_OUTAGE_SECONDS if self._was_out else DENIED_SECONDS, self._patience)
        if not isinstance(error, Unreachable | Unavailable) or error.code == "Expired":
            return 0.0
        self._was_out = True
        return self._patience

    def watch(self, path: str, doing: str, *, seconds: int, **query: Any) -> Iterator[Object]:
        """Yield the events of a watch until the server ends it, after `seconds`; tries once.

        A connection that is cut ends it with Unreachable; an event of the type ERROR is the caller's to read.
        """
        options = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": seconds}
        response = self._sent("GET", path, doing, query=options, seconds=seconds + READ_SECONDS)
        try:
            if response.status != 200:
                raise refused(_answer(response), doing, self.address)
            for line in _lines(response.response):
                yield json.loads(line)
        except NO_ANSWER + NOT_JSON as error:
            raise self._outage(error, doing) from error
        finally:
            response.response.close()

    def _outage(self, error: BaseException, doing: str) -> StargateError:
        self._was_out = True
        return unanswered(error, doing, self.address)

    def _once(self, method: str, path: str, doing: str, *, body: Object | None, **options: Any) -> Answer:
        response = self._sent(method, path, doing, body=body, query=options.get("query") or {})
        try:
            return _answer(response)
        except NO_ANSWER as error:
            raise self._outage(error, doing) from error

    def _sent(self, method: str, path: str, doing: str, **options: Any) -> Any:
        """Return the response, its body unread."""
        client = self._connection.client
        headers = {"Accept": "application/json"}
        if options.get("body") is not None:
            headers["Content-Type"] = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            request = client.param_serialize(
                method,
                path,
                query_params=list((options.get("query") or {}).items()),
                header_params=headers,
                body=options.get("body"),
                auth_settings=["BearerToken"],
            )
            return client.call_api(*request, _request_timeout=(CONNECT_SECONDS, options.get("seconds", READ_SECONDS)))
        except NO_ANSWER as error:
            raise self._outage(error, doing) from error


def _answer(response: Any) -> Answer:
    return read(response.status, response.read() or b"", response.headers)


def _lines(response: Any) -> Iterator[bytes]:
    """Yield the lines of a body as they come."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
