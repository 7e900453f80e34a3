# SPDX-License-Identifier: Apache-2.0
"""The command lines of etcd, kube-apiserver, kube-controller-manager and kube-scheduler: settings in, words out.

Only flags that Kubernetes 1.20 and the newest share, but for those which turn off the old plain-text ports.
Nothing is started here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stargate_reconciler.errors import UserError
from stargate_reconciler.local.ports import ADDRESS

SERVICE_RANGE = "10.96.0.0/12"
CLUSTER = "stargate"
ANY = "0.0.0.0"  # noqa: S104 - only where somebody asks for it
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
_INSECURE_PORTS_UNTIL = (1, 24)  # --insecure-port and --port are gone from this version on


@dataclass(frozen=True)
class Joinable:
    """How machines reach the API server: `advertise` is its address for them, `bind` where it listens.

    The default is what QEMU's user network and slirp4netns make of this machine's loopback.
    """

    advertise: str = "10.0.2.2"
    bind: str = ADDRESS
    sans: tuple[str, ...] = ()  # further names in its certificate

    @property
    def names(self) -> tuple[str, ...]:
        """Every name and address under which it is known beside the usual ones."""
        bind = () if self.bind == ANY else (self.bind,)
        return tuple(dict.fromkeys((self.advertise, *bind, Joinable.advertise, *self.sans)))


@dataclass(frozen=True)
class Settings:
    """What a control plane was started with, kept beside it as long as it exists."""

    port: int
    etcd_port: int
    peer_port: int
    version: str  # of kube-apiserver, "1.20.2"
    controllers: bool = False
    programs: Mapping[str, str] = field(default_factory=dict)
    joinable: Joinable | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The processes in the order in which they are started."""
        return ("etcd", "kube-apiserver", *(CONTROLLERS if self.controllers else ()))

    @property
    def url(self) -> str:
        """Where the API is served for this machine."""
        return f"https://{self.address}:{self.port}"

    @property
    def address(self) -> str:
        """The address at which this machine reaches the API server."""
        return ADDRESS if self.joinable is None or self.joinable.bind == ANY else self.joinable.bind

    @property
    def endpoint(self) -> str:
        """The address and port at which machines reach the API server; "" when none can join."""
        return f"{self.joinable.advertise}:{self.port}" if self.joinable else ""

    def save(self, path: Path) -> None:
        """Write the settings to a file, atomically."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Settings | None:
        """Return the settings in a file; None when it is missing or broken."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (joinable := values.get("joinable")) is not None:
                values["joinable"] = Joinable(**joinable | {"sans": tuple(joinable["sans"])})
            return cls(**values)
        except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError):
            return None


def command(name: str, settings: Settings, directory: Path) -> list[str]:
    """Return the command line of one process whose files are below `directory`."""
    if name not in settings.programs:
        raise UserError(f"Failed to start {name}: where its program is was not said.")
    flags = {
        "etcd": _etcd,
        "kube-apiserver": _apiserver,
        "kube-controller-manager": _controller_manager,
        "kube-scheduler": _scheduler,
    }[name](settings, directory)
    return [settings.programs[name], *(f"--{flag}={value}" for flag, value in flags.items())]


def has_insecure_ports(version: str) -> bool:
    """Return whether a Kubernetes of this version would open a plain-text port unless told not to."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) < _INSECURE_PORTS_UNTIL


def _etcd(settings: Settings, directory: Path) -> dict[str, object]:
    client, peer = f"https://{ADDRESS}:{settings.etcd_port}", f"https://{ADDRESS}:{settings.peer_port}"
    pki = directory / "pki" / "etcd"
    return {
        "name": "default",
        "data-dir": directory / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "cert-file": pki / "server.crt",
        "key-file": pki / "server.key",
        "client-cert-auth": "true",
        "trusted-ca-file": pki / "ca.crt",
        "peer-cert-file": pki / "server.crt",
        "peer-key-file": pki / "server.key",
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": pki / "ca.crt",
        "heartbeat-interval": 20,  # milliseconds; a lone member need not wait a second before it elects itself
        "election-timeout": 200,
        "unsafe-no-fsync": "true",  # for trying and testing: a power cut may cost the data
    }


def _apiserver(settings: Settings, directory: Path) -> dict[str, object]:
    pki = directory / "pki"
    flags: dict[str, object] = {
        **_addresses(settings),
        "secure-port": settings.port,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        "etcd-servers": f"https://{ADDRESS}:{settings.etcd_port}",
        "etcd-cafile": pki / "etcd" / "ca.crt",
        "etcd-certfile": pki / "apiserver-etcd-client.crt",
        "etcd-keyfile": pki / "apiserver-etcd-client.key",
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "service-cluster-ip-range": SERVICE_RANGE,
        "max-requests-inflight": 1000,
        "max-mutating-requests-inflight": 500,
    }
    if not settings.controllers:  # nobody makes the service accounts that this plugin would wait for
        flags["disable-admission-plugins"] = "ServiceAccount"
    if has_insecure_ports(settings.version):
        flags["insecure-port"] = 0
    return flags


def _addresses(settings: Settings) -> dict[str, object]:
    if settings.joinable is not None:
        return {"bind-address": settings.joinable.bind, "advertise-address": settings.joinable.advertise}
    return {
        "bind-address": ADDRESS,
        "advertise-address": ADDRESS,  # else a machine without a network has no address to advertise
        "endpoint-reconciler-type": "none",  # a loopback address is no legal endpoint of the Service kubernetes
    }


def _controller_manager(settings: Settings, directory: Path) -> dict[str, object]:
    pki = directory / "pki"
    return _serving_nothing(settings) | {
        "kubeconfig": directory / "kube-controller-manager.kubeconfig",
        "root-ca-file": pki / "ca.crt",
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "service-account-private-key-file": pki / "sa.key",
        "use-service-account-credentials": "true",
        "controllers": "*,bootstrapsigner,tokencleaner",
        "allocate-node-cidrs": "false",  # or its node controller waits ten seconds
        "service-cluster-ip-range": SERVICE_RANGE,
        "cluster-name": CLUSTER,
    }


def _scheduler(settings: Settings, directory: Path) -> dict[str, object]:
    return _serving_nothing(settings) | {"kubeconfig": directory / "kube-scheduler.kubeconfig"}


def _serving_nothing(settings: Settings) -> dict[str, object]:
    flags: dict[str, object] = {"bind-address": ADDRESS, "secure-port": 0, "leader-elect": "false"}
    return flags | ({"port": 0} if has_insecure_ports(settings.version) else {})
