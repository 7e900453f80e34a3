# SPDX-License-Identifier: Apache-2.0
"""Servers, Profiles and Operations as the daemon sees them, and what flows between its parts.

Frozen values made from API objects. No I/O and no decisions: those are `kube.py`'s and `plan.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _server

GROUP = "stargate.io"
VERSION = "v1alpha1"

Object = dict[str, Any]
"""An API object as JSON gives it."""

ServerKey = tuple[str, str]
"""Namespace and name of a Server: the queue's key."""


class Phase(StrEnum):
    """The phases of an Operation."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows this phase."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


def parsed_time(text: str | None) -> datetime | None:
    """Return an API timestamp (RFC 3339, UTC) as a datetime; None when there is none or it is malformed."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def formatted_time(moment: datetime) -> str:
    """Return a datetime as the API server writes it: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


@dataclass(frozen=True)
class Term:
    """In whose name a process acts: the uid of its Lease, and the number of its term; "" and 0 without a Lease."""

    authority: str = ""
    fence: int = 0


@dataclass(frozen=True)
class FormerNode:
    """The Node that a machine was before an Operation; no uid when it was none."""

    uid: str = ""
    cordoned: bool = False
    """Whether a person had cordoned it."""


@dataclass(frozen=True)
class Operation:
    """An Operation. `server`, `profile` and `act` are what was accepted at its start, whatever was edited since."""

    raw: Object = field(repr=False, compare=False)
    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created: datetime
    server: str
    profile: str
    act: str
    phase: Phase
    attempts: int
    failures: int
    job_requests: int
    cancel: bool
    edited: bool

    @classmethod
    def from_dict(cls, raw: Object) -> Operation:
        """Read an API object; odd or missing fields become empty ones, as the API server has validated the rest."""
        meta, spec, status = (_mapping(raw.get(part)) for part in ("metadata", "spec", "status"))
        wanted = {
            "server": _text(_mapping(spec.get("serverRef")).get("name")),
            "profile": _text(_mapping(spec.get("provisioningProfileRef")).get("name")),
            "operation": _text(spec.get("operation")),
        }
        begun = _mapping(status.get("acceptedSpec"))
        valid = {key: _text(begun.get(key)) for key in wanted} if begun else wanted
        phase = _text(status.get("phase"))
        return cls(
            raw=raw,
            namespace=_text(meta.get("namespace")),
            name=_text(meta.get("name")),
            uid=_text(meta.get("uid")),
            resource_version=_text(meta.get("resourceVersion")),
            generation=_number(meta.get("generation")),
            created=parsed_time(_text(meta.get("creationTimestamp"))) or datetime.fromtimestamp(0, UTC),
            server=valid["server"],
            profile=valid["profile"],
            act=valid["operation"],
            phase=Phase(phase) if phase in set(Phase) else Phase.PENDING,
            attempts=_number(status.get("attempts")),
            failures=_number(status.get("failures")),
            job_requests=_number(status.get("jobRequests")),
            cancel=spec.get("cancel") is True,
            edited=any(value and value != valid[key] for key, value in wanted.items()),
        )

    @property
    def key(self) -> ServerKey:
        """The queue's key: the Server this Operation acts on."""
        return self.namespace, self.server

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec as it now stands."""
        return _mapping(self.raw.get("spec"))

    @property
    def status(self) -> Mapping[str, Any]:
        """The status as last written."""
        return _mapping(self.raw.get("status"))

    @property
    def retry_limit(self) -> int:
        """How many failed attempts are followed by another one."""
        limit = self.spec.get("retryLimit")
        return limit if isinstance(limit, int) else 2

    def seconds(self, name: str) -> float | None:
        """Return a duration of the spec in seconds, None when it is not set; what is out of bounds is cut to them."""
        value = self.spec.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return float(min(max(value, 0), _server.LONGEST))

    def time(self, name: str) -> datetime | None:
        """Return a timestamp of the status, None when it is not set."""
        return parsed_time(_text(self.status.get(name)))

    @property
    def former_node(self) -> FormerNode | None:
        """The Node that the machine was when the Operation first started; None when nobody has looked yet."""
        found = self.status.get("formerNode")
        if not isinstance(found, Mapping):
            return None
        return FormerNode(_text(found.get("uid")), found.get("cordoned") is True)

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return a condition of the status, empty when it is not there."""
        conditions = self.status.get("conditions")
        for condition in conditions if isinstance(conditions, list) else []:
            if _mapping(condition).get("type") == kind:
                return _mapping(condition)
        return {}


@dataclass(frozen=True)
class Server:
    """A Server, with the parts that decisions need."""

    raw: Object = field(repr=False, compare=False)
    namespace: str
    name: str
    resource_version: str
    provider: str
    profile: str
    state: str
    active_operation: str

    @classmethod
    def from_dict(cls, raw: Object) -> Server:
        """Read an API object; odd or missing fields become empty ones."""
        meta, spec, status = (_mapping(raw.get(part)) for part in ("metadata", "spec", "status"))
        return cls(
            raw=raw,
            namespace=_text(meta.get("namespace")),
            name=_text(meta.get("name")),
            resource_version=_text(meta.get("resourceVersion")),
            provider=_text(spec.get("provider")),
            profile=_text(spec.get("provisioningProfile")),
            state=_text(status.get("state")),
            active_operation=_text(status.get("activeOperation")),
        )

    @property
    def status(self) -> Mapping[str, Any]:
        """The status as last written."""
        return _mapping(self.raw.get("status"))


@dataclass(frozen=True)
class Profile:
    """A ProvisioningProfile, with the parts that decisions need."""

    raw: Object = field(repr=False, compare=False)
    namespace: str
    name: str
    secret: str
    user_data_secret: str
    version: str

    @classmethod
    def from_dict(cls, raw: Object) -> Profile:
        """Read an API object; odd or missing fields become empty ones."""
        meta, spec = _mapping(raw.get("metadata")), _mapping(raw.get("spec"))
        return cls(
            raw=raw,
            namespace=_text(meta.get("namespace")),
            name=_text(meta.get("name")),
            secret=_text(spec.get("sshCredentialsSecretRef")),
            user_data_secret=_text(spec.get("cloudInitSecretRef")),
            version=_text(spec.get("kubernetesVersion")),
        )


def profile_name(operation: Operation, server: Server | None) -> str:
    """Return the name of the Profile that applies: the Operation's, else the Server's, else empty."""
    return operation.profile or (server.profile if server else "")


@dataclass(frozen=True)
class Credentials:
    """What a Secret gives: for SSH, or a new machine's cloud-init. Never printed."""

    private_key: str = field(repr=False, default="")
    username: str = ""
    user_data: str = field(repr=False, default="")


@dataclass(frozen=True)
class Job:
    """One Operation ready to run on its Server."""

    operation: Operation
    server: Server
    profile: Profile | None
    playbook: str
    credentials: Credentials | None = field(repr=False, default=None)
    user_data: str = field(repr=False, default="")
    former_node: FormerNode | None = None

    @property
    def group(self) -> tuple[str, str, str]:
        """Jobs of one group can share a run: namespace, playbook, Profile."""
        return self.server.namespace, self.playbook, self.profile.name if self.profile else ""


class Outcome(StrEnum):
    """How a run ended on one host."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    EMPTY = "empty"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Result:
    """What a run says of one host: the only thing that comes back from Ansible."""

    outcome: Outcome
    reason: str = ""
    message: str = ""
    task: str = ""
    retryable: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)
    host_keys: tuple[str, ...] = ()
    job_ended: bool = False
    """Whether the failure is that of the datacenter's job itself, so that another attempt needs another job."""
    node_ready: bool | None = None
    """Whether the machine's Node was seen to be Ready; None when nobody looked."""
