# SPDX-License-Identifier: Apache-2.0
"""The world of a soak: etcd, kube-apiserver, hosts, and reconcilers behind proxies. What happens in it is elsewhere.

It is made inside the enclosure and goes with it.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.api import Upstream

from soak.cluster import NAMESPACE, Cluster, Object, path
from soak.daemons import ROOT, Daemon
from soak.hosts import Host, make_bridge, make_key
from soak.proxy import Proxy, Rule
from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.binaries import obtain
from stargate_reconciler.local.control_plane import ControlPlane
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.programs import NEEDED, Request

PROFILES = ("racks", "blades")
"""ProvisioningProfiles: hosts of each make runs of their own; most are of the first."""


def say(text: str) -> None:
    """Show a line of progress."""
    print(f"soak: {text}", flush=True)


def custom(kind: str, name: str, spec: Object) -> Object:
    """Return an object of ours."""
    return {"apiVersion": "stargate.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@dataclass
class World:
    """All of it, below one directory."""

    scratch: Path
    hosts: list[Host] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)
    environ: Mapping[str, str] = field(default_factory=dict)
    lease_seconds: float = 5.0

    def begin(self, hosts: int) -> None:
        """Start the cluster with the CRDs, and the hosts with their Servers."""
        self.plane = ControlPlane(self.scratch / "control-plane", bound=True)
        programs = obtain(Request(NEEDED, Places.read(os.environ)))
        try:
            self.plane.start(programs)
        except WorldError as error:  # a machine that is very busy
            say(f"{error} Trying once more.")
            self.plane.start(programs)
        port = self.plane.settings.port if self.plane.settings else 0
        self.upstream = Upstream(port, self.plane.directory / "pki")
        self.cluster = Cluster(self.upstream)
        kubectl = [str(programs["kubectl"]), f"--kubeconfig={self.plane.kubeconfig}"]
        for words in (["apply", "--validate=false", "-f", str(ROOT / "crds")], _ESTABLISHED):
            subprocess.run([*kubectl, *words], check=True, capture_output=True, timeout=60)
        self.cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        make_bridge()
        make_key(self.scratch / "key")
        for number in range(hosts):
            self.add_host(number)
        self.furnish()

    def add_host(self, number: int) -> None:
        """Make a host and switch it on."""
        public = (self.scratch / "key.pub").read_text(encoding="utf-8")
        host = Host(number, self.scratch / "hosts" / str(number), public)
        host.make()
        host.start()
        self.hosts.append(host)

    @property
    def key(self) -> str:
        """The private key that the hosts let in: the first of the secrets that must be seen nowhere."""
        return (self.scratch / "key").read_text(encoding="utf-8")

    def furnish(self) -> None:
        """Create the Secret, the ProvisioningProfiles and the Servers."""
        self.cluster.create("secrets", self.secret())
        for name in PROFILES:
            self.cluster.create("provisioningprofiles", self.profile(name))
        for host in self.hosts:
            self.cluster.create("servers", self.server(host))

    def secret(self) -> Object:
        """Return the Secret with the SSH credentials."""
        values = {"privateKey": self.key, "username": "root"}
        data = {name: base64.b64encode(text.encode()).decode() for name, text in values.items()}
        return {"metadata": {"name": "ssh"}, "data": data}

    def profile(self, name: str) -> Object:
        """Return a ProvisioningProfile."""
        return custom("ProvisioningProfile", name, {"osVersion": "2.0.0", "sshCredentialsSecretRef": "ssh"})

    def server(self, host: Host) -> Object:
        """Return the Server of a host."""
        spec = {"ipv4": host.address, "provider": "ssh", "provisioningProfile": PROFILES[host.number % 8 == 0]}
        return custom("Server", host.name, spec)

    def add_daemon(self, rule: Rule, *flags: str) -> Daemon:
        """Return a reconciler behind a proxy of its own, not started yet."""
        number = len(self.daemons)
        proxy = Proxy(number, self.upstream, rule)
        daemon = Daemon(number, proxy, self.scratch / f"daemon-{number}", self.lease_seconds, self.environ, flags)
        self.daemons.append(daemon)
        return daemon

    def leader(self) -> Daemon | None:
        """Return the reconciler that the Lease names, None when it does not run."""
        lease = self.cluster.find("leases", "stargate-reconciler") or {}
        holder = str(lease.get("spec", {}).get("holderIdentity") or "")
        pid = holder.rsplit("_", 2)[-2] if holder.count("_") >= 2 else "0"
        return next((d for d in self.daemons if d.pid and str(d.pid) == pid), None)

    def clear(self) -> None:
        """Delete every object of ours, and the Lease, for another scene on the same stage."""
        for kind in ("operations", "servers", "provisioningprofiles", "secrets", "leases", "events"):
            self.cluster.request("DELETE", path(kind))

    def end(self) -> None:
        """End everything; files go with the enclosure."""
        steps: list[Callable[[], object]] = [daemon.stop for daemon in self.daemons]
        steps += [host.cut_power for host in self.hosts]
        for step in [*steps, self.plane.stop]:
            step()
        shutil.rmtree(self.scratch, ignore_errors=True)


_ESTABLISHED = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]
