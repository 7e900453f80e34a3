# SPDX-License-Identifier: Apache-2.0
"""The one door to Kubernetes: list, watch, get, patch status, delete, Secret, Event.

Official client, synchronous. Its answers become plain dictionaries, its exceptions our few kinds. No decisions here.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.informer import SharedInformer
from yaml import YAMLError

from ansible_collections.stargate.core.plugins.module_utils import _bootstrap_token, _kubeconfig, _server
from ansible_collections.stargate.core.plugins.module_utils._kube_files import Hideout

from .errors import Busy, Conflict, Forbidden, Gone, UserError, WorldError
from .model import GROUP, VERSION, Credentials, Object

PLURALS = {"Server": "servers", "ProvisioningProfile": "provisioningprofiles", "Operation": "operations"}
DEFAULT_KUBECONFIG = "~/.kube/config"
TIMEOUT = (5, 60)
"""Seconds to connect, seconds to wait for an answer."""
PAGE = 500
"""Objects per page of a list."""
WATCH_SECONDS = 300
"""How long a watch is asked to last; the read times out 30 s later, which finds a connection that is half open."""

_JSON_PATCH = "application/json-patch+json"
_MERGE = "application/merge-patch+json"


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the client's exceptions into ours, with the doing in the sentence and the body cut short."""
    try:
        yield
    except ApiException as error:
        detail = f"{doing}: HTTP {error.status} {error.reason}"
        if error.status == 404:
            raise Gone(detail) from error
        if error.status == 409:
            raise Conflict(detail) from error
        if error.status in (401, 403):
            raise Forbidden(f"{detail}. Check the rights in deploy/rbac.yaml.") from error
        body = error.body if isinstance(error.body, str) else ""
        if error.status in (400, 422):
            raise UserError(f"{detail}: {body[:256]}") from error
        raise (Busy if error.status == 429 or (error.status or 0) >= 500 else WorldError)(detail) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise WorldError(f"{doing}: {str(error)[:256]}") from error


def connect(kubeconfig: str | None, context: str | None, *, connections: int = 16) -> Kube:
    """Return a client of the cluster that a kubeconfig names, or of the cluster that this pod runs in.

    Raises UserError when there is neither, or when the kubeconfig is wrong.
    """
    settings = client.Configuration()
    files = Hideout()  # its files are in memory and end with this process
    try:
        if kubeconfig is None and context is None and _in_cluster():
            config.load_incluster_config(client_configuration=settings)
        else:
            chosen = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
            _kubeconfig.load(chosen, context, settings, files)
    except (ConfigException, OSError, ValueError, TypeError, YAMLError) as error:
        files.close()
        where = kubeconfig or "KUBECONFIG or ~/.kube/config"
        raise UserError(
            f"Failed to read the kubeconfig {where}: {str(error)[:256]}. "
            "Give a valid one with --kubeconfig, or start one with `make control-plane`."
        ) from error
    settings.connection_pool_maxsize = connections
    settings.retries = urllib3.Retry(total=0)
    files.empty()
    return Kube(client.ApiClient(settings))


def _in_cluster() -> bool:
    try:
        config.load_incluster_config(client_configuration=client.Configuration())
    except ConfigException:
        return False
    return True


class Kube:
    """Calls on one cluster. Every method raises Gone, Conflict, Forbidden, UserError or WorldError, nothing else."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self.api_client = api_client
        self._objects = client.CustomObjectsApi(api_client)
        self._core = client.CoreV1Api(api_client)

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self.api_client.configuration.host)

    def check(self) -> None:
        """Raise unless the API server answers and knows our three kinds."""
        with _translated(f"Failed to reach the Kubernetes API at {self.address}"):
            client.VersionApi(self.api_client).get_code(_request_timeout=TIMEOUT)
        for kind, plural in PLURALS.items():
            try:
                with _translated(f"Failed to list {plural}.{GROUP}"):
                    self._objects.list_cluster_custom_object(GROUP, VERSION, plural, limit=1, _request_timeout=TIMEOUT)
            except Gone as error:
                raise UserError(
                    f"The cluster at {self.address} does not know the kind {kind}. Run `make install-crds` first."
                ) from error
            except Forbidden:
                continue

    def patch_status(
        self, kind: str, namespace: str, name: str, patch: Object, *, version: str | None = None
    ) -> Object:
        """Merge `patch` into an object's status and return the object.

        With `version` the write is refused with Conflict unless the object still has that resourceVersion.
        """
        body: Object = {"status": patch}
        if version is not None:
            body["metadata"] = {"resourceVersion": version}
        with _translated(f"Failed to write the status of {kind} {namespace}/{name}"):
            answer: Object = self._objects.patch_namespaced_custom_object_status(
                GROUP,
                VERSION,
                namespace,
                PLURALS[kind],
                name,
                body,
                _content_type=_MERGE,
                _request_timeout=TIMEOUT,
            )
        return answer

    def operation(self, namespace: str, name: str) -> Object | None:
        """Return an Operation as it stands in the cluster, None when there is none."""
        if not _server.is_name(name):
            return None
        try:
            with _translated(f"Failed to read Operation {namespace}/{name}"):
                found: Object = self._objects.get_namespaced_custom_object(
                    GROUP, VERSION, namespace, PLURALS["Operation"], name, _request_timeout=TIMEOUT
                )
        except Gone:
            return None
        return found

    def create_operation(self, operation: Object) -> bool:
        """Create an Operation; returns False when there is one of this name already."""
        namespace, name = operation["metadata"]["namespace"], operation["metadata"]["name"]
        try:
            with _translated(f"Failed to create Operation {namespace}/{name}"):
                self._objects.create_namespaced_custom_object(
                    GROUP, VERSION, namespace, PLURALS["Operation"], operation, _request_timeout=TIMEOUT
                )
        except Conflict:
            return False
        return True

    def delete_operation(self, namespace: str, name: str, uid: str) -> None:
        """Delete an Operation, provided that it is still the one with this uid; absent is fine."""
        options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=uid))
        try:
            with _translated(f"Failed to delete Operation {namespace}/{name}"):
                self._objects.delete_namespaced_custom_object(
                    GROUP, VERSION, namespace, PLURALS["Operation"], name, body=options, _request_timeout=TIMEOUT
                )
        except (Gone, Conflict):
            return

    def credentials(self, namespace: str, name: str) -> Credentials | None:
        """Return what a Secret gives; None when it is absent, may not be read, or has no privateKey and no userData."""
        if not _server.is_name(name):
            return None
        try:
            with _translated(f"Failed to read Secret {namespace}/{name}"):
                secret = self._core.read_namespaced_secret(name, namespace, _request_timeout=TIMEOUT)
        except (Gone, Forbidden):
            return None
        data = secret.data or {}
        try:
            texts = {key: base64.b64decode(value).decode() for key, value in data.items()}
        except (ValueError, binascii.Error):
            return None
        key = texts.get("privateKey") or texts.get("ssh-privatekey", "")
        found = Credentials(key, texts.get("username", "").strip(), texts.get("userData", ""))
        return found if found.private_key or found.user_data else None

    def node(self, name: str) -> Object | None:
        """Return a Node as it stands in the cluster, None when there is none."""
        if not _server.is_name(name):
            return None
        try:
            with _translated(f"Failed to read Node {name}"):
                answer = self._core.read_node(name, _preload_content=False, _request_timeout=TIMEOUT)
        except Gone:
            return None
        found: Object = json.loads(answer.data)
        return found

    def uncordon(self, name: str, annotation: str, value: str) -> None:
        """Make a Node schedulable, and take away the annotation that says who cordoned it, if it still says so.

        Raises UserError when it says something else by now.
        """
        path = f"/metadata/annotations/{annotation.replace('/', '~1')}"
        steps = [
            {"op": "test", "path": path, "value": value},
            {"op": "remove", "path": path},
            {"op": "add", "path": "/spec/unschedulable", "value": False},
        ]
        with _translated(f"Failed to uncordon Node {name}"):
            self._core.patch_node(name, steps, _content_type=_JSON_PATCH, _request_timeout=TIMEOUT)

    def revoke_token(self, node: str) -> None:
        """Delete the bootstrap token with which a Node was to join; one that is not there, or not ours, is fine.

        Raises WorldError when the API server does not answer.
        """
        name = _bootstrap_token.secret_name(_bootstrap_token.token_id(node))
        try:
            with _translated(f"Failed to revoke the bootstrap token of Node {node}"):
                self._core.delete_namespaced_secret(name, "kube-system", _request_timeout=TIMEOUT)
        except (Gone, Forbidden):
            return

    def create_event(self, namespace: str, body: Object) -> None:
        """Create a core/v1 Event."""
        with _translated(f"Failed to create an Event in {namespace}"):
            self._core.create_namespaced_event(namespace, body, _request_timeout=TIMEOUT)

    def watcher(self, kind: str, namespace: str | None) -> Watcher:
        """Return a watcher, not started, of all objects of a kind in one namespace, or in all (None)."""
        return Watcher(self._objects, kind, namespace)


class Watcher:
    """The official SharedInformer for custom resources, with the mends it needs.

    It lists in pages, asks for bookmarks, ends half-open connections, waits between failures (0.2 s doubling to 5 s).
    After a lost watch it lists again and reports what was deleted meanwhile. Handlers run on its one thread.
    """

    def __init__(self, objects: client.CustomObjectsApi, kind: str, namespace: str | None) -> None:
        self._objects = objects
        self.kind = kind
        self.namespace = namespace
        self.synced = threading.Event()
        self.on_error: Callable[[Exception], None] = lambda error: None
        self._delay = 0.2
        self._stopping = False
        self._informer = SharedInformer(self._list_or_watch)
        logging.getLogger("kubernetes.informer").setLevel(logging.CRITICAL)
        self._informer.add_event_handler("ERROR", self._slow_down)

    def start(self, changed: Callable[[Object], object], deleted: Callable[[Object], object]) -> None:
        """Call `changed` for each object that is there or changes, `deleted` for each that goes; returns at once."""
        self._informer.add_event_handler("ADDED", changed)
        self._informer.add_event_handler("MODIFIED", changed)
        self._informer.add_event_handler("DELETED", deleted)
        self._informer.start()

    def stop(self) -> None:
        """Ask the thread to end, without waiting for a watch that is quiet."""
        self._stopping = True
        stopper = threading.Thread(target=self._informer.stop, daemon=True)
        stopper.start()
        stopper.join(1.0)

    def _call(self, **options: Any) -> Any:
        plural = PLURALS[self.kind]
        if self.namespace is None:
            return self._objects.list_cluster_custom_object(GROUP, VERSION, plural, **options)
        return self._objects.list_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, **options)

    def _list_or_watch(self, **options: Any) -> Any:
        """List everything, or open a watch when asked with watch=True.

        :rtype: object
        """
        if options.get("watch"):
            self.synced.set()
            options.setdefault("timeout_seconds", WATCH_SECONDS)
            opened = self._call(allow_watch_bookmarks=True, _request_timeout=(5, WATCH_SECONDS + 30), **options)
            self._delay = 0.2
            return opened
        items: list[Object] = []
        page: Object = {}
        while not items or page["metadata"].get("continue"):
            token = page.get("metadata", {}).get("continue")
            more = {"_continue": token} if token else {}
            page = self._call(limit=PAGE, _request_timeout=TIMEOUT, **more)
            items.extend(trimmed(item) for item in page["items"])
            if not page["items"]:
                break
        self._delay = 0.2
        return SimpleNamespace(
            items=items, metadata=SimpleNamespace(resource_version=page["metadata"]["resourceVersion"])
        )

    def _slow_down(self, error: Exception) -> None:
        if self._stopping:
            return
        self.on_error(error)
        time.sleep(self._delay)
        self._delay = min(5.0, self._delay * 2)


def trimmed(item: Object) -> Object:
    """Take from an object what nobody here reads and what weighs most: managed fields and the last applied manifest."""
    meta = item.get("metadata", {})
    meta.pop("managedFields", None)
    annotations = meta.get("annotations")
    if annotations:
        annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return item
