# SPDX-License-Identifier: Apache-2.0
"""What a kubelet does for its Node in the API, without a machine: report, and end the pods that are told to end.

Real kubelets are in the tests on nspawn and QEMU machines.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, path_of

NODES, PODS = "/api/v1/nodes", "/api/v1/namespaces/{}/pods"
UNSAID = (
    "architecture",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)
Object = dict[str, Any]


class StandInKubelet:
    """A Node of a name that nobody else has, and its pods; `stop` ends it and removes both."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Nothing is registered yet."""
        self.cluster = cluster
        self.name = f"w-{secrets.token_hex(4)}"
        self._pods = PODS.format(namespace)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._end_pods)

    def register(self, version: str = "v1.20.2", *, address: str = "10.0.0.1", **annotations: str) -> Object:
        """Create the Node, ready."""
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "annotations": annotations}}
        self.cluster.create(NODES, "register", body)
        return self.report(version, address=address)

    def report(self, version: str = "v1.20.2", *, status: str = "True", message: str = "fine", **more: str) -> Object:
        """Say how the Node is."""
        condition = {"type": "Ready", "status": status, "message": message, "reason": "Test"}
        info = {"kubeletVersion": version, "bootID": more.get("boot_id", "b1")}
        reported: Object = {"conditions": [condition], "nodeInfo": {**dict.fromkeys(UNSAID, ""), **info}}
        if "address" in more:
            reported["addresses"] = [{"type": "InternalIP", "address": more["address"]}]
        return self.cluster.patch(f"{path_of(NODES, self.name)}/status", "report", {"status": reported})

    def node(self) -> Object | None:
        """Return the Node as it stands."""
        return self.cluster.find(path_of(NODES, self.name), "read")

    def pod(self, name: str, kind: str | None = "ReplicaSet") -> str:
        """Create a pod on the Node, of a controller of some kind or of none; returns namespace/name."""
        owner = {"apiVersion": "apps/v1", "kind": kind, "name": "c", "uid": "u", "controller": True}
        metadata = {"name": name, "labels": {"app": "web"}, "ownerReferences": [owner] if kind else []}
        spec = {"nodeName": self.name, "containers": [{"name": "c", "image": "i"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        made = self.cluster.create(self._pods, "create", body)
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
        self.cluster.patch(f"{path_of(self._pods, name)}/status", "run", {"status": ready})
        return f"{made['metadata']['namespace']}/{name}"

    def pods(self) -> set[str]:
        """Return the names of the pods on the Node."""
        found, _ = self.cluster.items(self._pods, "list", fieldSelector=f"spec.nodeName={self.name}")
        return {pod["metadata"]["name"] for pod in found}

    def start(self) -> StandInKubelet:
        """End, from now on, the pods that are told to end."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop; remove Node and pods."""
        self._stopping.set()
        if self._thread.ident:
            self._thread.join()
        for name in self.pods():
            self._kill(name)
        self.cluster.delete(path_of(NODES, self.name), "clean up")

    def _end_pods(self) -> None:
        while not self._stopping.wait(0.1):
            try:
                found, _ = self.cluster.items(self._pods, "list", fieldSelector=f"spec.nodeName={self.name}")
                for pod in (pod for pod in found if pod["metadata"].get("deletionTimestamp")):
                    self._kill(pod["metadata"]["name"])
            except StargateError:
                continue

    def _kill(self, name: str) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        self.cluster.ask("DELETE", path_of(self._pods, name), "kill", body=options, expected=(404,))
