# SPDX-License-Identifier: Apache-2.0
"""The Servers, ProvisioningProfiles and Operations of the benchmark, of the size that real ones have.

They are plain dictionaries; putting them into a cluster is `api.py`'s.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

GROUP = "/apis/stargate.io/v1alpha1"
MOMENT = "2026-01-01T00:00:00Z"


def path(namespace: str, plural: str) -> str:
    """Return the API path of a namespace's objects of a kind."""
    return f"{GROUP}/namespaces/{namespace}/{plural}"


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "stargate.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def server(number: int, *, provider: str = "dc-api", **spec: Any) -> Object:
    """Return the Server of a number."""
    high, low = divmod(number, 250)
    usual = {
        "provider": provider,
        "mac": f"02:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        "ipv4": f"10.{high // 250}.{high % 250}.{low + 1}",
        "inventory": {
            "sku": "GPU-8xH100",
            "location": f"rack-{number // 20}-slot-{number % 20}",
            "serialNumber": f"SN-{number:06d}",
        },
    }
    return _object("Server", f"server-{number:05d}", {**usual, **spec})


def profile(name: str = "os-2-0-0", **spec: Any) -> Object:
    """Return a ProvisioningProfile."""
    image = {"osVersion": "2.0.0", "osImage": "https://images.example.com/os-2.0.0.img"}
    return _object("ProvisioningProfile", name, {**image, **spec})


def operation(name: str, number: int, *, act: str = "repave", of_profile: str = "os-2-0-0") -> Object:
    """Return an Operation on the Server of a number."""
    spec = {
        "serverRef": {"name": f"server-{number:05d}"},
        "provisioningProfileRef": {"name": of_profile},
        "operation": act,
    }
    return _object("Operation", name, spec)


def _condition(kind: str, message: str) -> Object:
    return {
        "type": kind,
        "status": "True",
        "reason": "Succeeded",
        "message": message,
        "lastTransitionTime": MOMENT,
        "observedGeneration": 1,
    }


def ready_status(number: int) -> Object:
    """Return the status of a Server that was repaved."""
    message = f"Repave completed by Operation repave-{number:05d}."
    return {
        "state": "ready",
        "os": "2.0.0",
        "currentOS": "2.0.0",
        "appliedProvisioningProfile": "os-2-0-0",
        "lastUpdated": MOMENT,
        "message": message,
        "conditions": [_condition("Provisioned", message)],
    }


def finished_status(number: int) -> Object:
    """Return the status of an Operation that has succeeded."""
    message = "Repave completed successfully"
    return {
        "phase": "Succeeded",
        "attempts": 1,
        "runID": f"repave-20260101-000000-{number:06x}",
        "startTime": MOMENT,
        "completionTime": MOMENT,
        "message": message,
        "dcJobID": f"job-{number:08d}",
        "observedGeneration": 1,
        "acceptedSpec": {"server": f"server-{number:05d}", "profile": "os-2-0-0", "operation": "repave"},
        "result": {"os": "2.0.0"},
        "conditions": [_condition("Complete", message), _condition("ReferencesResolved", "All were found.")],
    }
