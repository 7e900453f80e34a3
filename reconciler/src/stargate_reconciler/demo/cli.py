# SPDX-License-Identifier: Apache-2.0
"""`stargate-demo up|down`: from nothing to every sample Operation Succeeded, and back.

The order of steps and the words for the reader. How a part is started is `stack.py`'s and `local`'s.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from ..catalogue import built_in
from ..errors import ReconcilerError, UserError, WorldError
from ..kube import connect
from ..local.cli import Call
from ..local.places import Places
from ..local.progress import Progress
from ..model import Operation, Phase
from ..watch import Store, Watches
from .stack import DATACENTERS, Stack
from .table import Screen

SAMPLES = ("namespaces.yaml", "profiles.yaml", "servers.yaml", "operation-repave.yaml", "operations.yaml")
DEFINITIONS = ("servers.yaml", "provisioningprofiles.yaml", "operations.yaml")


NEXT_STEPS = """
Everything is still running. Try:

  export KUBECONFIG={kubeconfig}
  {kubectl} get operations -A -o wide
  {kubectl} get servers -A
  {kubectl} explain operations.spec
  {kubectl} describe server server-001 -n dc-west
  .venv/bin/ansible-inventory -i inventories/demo/servers.stargate.yml --graph
  curl -s {metrics} | grep ^stargate_operations

Add an operation of your own, a playbook in a directory, and run it (paste all of it):

cat > {hello} <<'EOF'
- name: Say hello
  hosts: all
  gather_facts: false
  tasks:
    - name: Say hello
      ansible.builtin.debug: {{msg: "hello, {{{{ stargate_name }}}}"}}
EOF
{kubectl} apply -f - <<'EOF'
apiVersion: stargate.io/v1alpha1
kind: Operation
metadata: {{name: hello-server-002, namespace: dc-west}}
spec:
  serverRef: {{name: server-002}}
  operation: hello
EOF
{kubectl} wait --for=condition=Complete operation/hello-server-002 -n dc-west

The reconciler's log: {log}
Stop everything:      make demo-down
"""


def say(text: str) -> None:
    """Write a line of progress."""
    print(f"demo: {text}", file=sys.stderr, flush=True)


def _local() -> Call:
    return Call(places=Places.read(os.environ), progress=Progress(sys.stderr, prefix="demo"))


def _checkout() -> Path:
    return built_in().parent.parent


class Cluster:
    """kubectl against the demo's cluster."""

    def __init__(self, kubectl: str, kubeconfig: str) -> None:
        self.kubectl = kubectl
        self.kubeconfig = kubeconfig

    def run(self, *arguments: str) -> None:
        """Run kubectl; raises WorldError with what it said."""
        command = [self.kubectl, "--kubeconfig", self.kubeconfig, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise WorldError(f"Failed to run kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[:512]}")

    def install_definitions(self) -> None:
        """Install the three CRDs and wait until they are served.

        Without kubectl's own validation: servers before 1.25 do not know x-kubernetes-validations and ignore it.
        """
        files = [part for name in DEFINITIONS for part in ("-f", str(_checkout() / "crds" / name))]
        self.run("apply", "--validate=false", *files)
        names = [f"crd/{Path(name).stem}.stargate.io" for name in DEFINITIONS]
        self.run("wait", "--for=condition=Established", "--timeout=60s", *names)

    def apply_samples(self) -> set[tuple[str, str]]:
        """Apply the samples, their Operations anew; returns the Operations' namespaces and names."""
        samples = _checkout() / "crds" / "examples"
        operations = [samples / name for name in SAMPLES if name.startswith("operation")]
        for path in (path for path in operations if self._has(samples / SAMPLES[0])):
            self.run("delete", "--ignore-not-found", "-f", str(path))
        for name in SAMPLES:
            self.run("apply", "-f", str(samples / name))
        items = [item for path in operations for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
        return {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}

    def _has(self, path: Path) -> bool:
        command = [self.kubectl, "--kubeconfig", self.kubeconfig, "get", "-f", str(path)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def watch_until_ended(kubeconfig: str, wanted: set[tuple[str, str]], seconds: float) -> list[Operation]:
    """Show the Operations until all have ended; returns them. Raises WorldError when time is up."""
    store = Store(lambda key: None)
    watches = Watches(connect(kubeconfig, None), sorted({namespace for namespace, _ in wanted}), lambda *_: None)
    watches.start(store)
    watches.wait(30)
    screen, deadline = Screen(sys.stdout), time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            found = sorted(store.named(wanted), key=lambda o: (o.namespace, o.name))
            screen.draw(found, datetime.now(UTC))
            if len(found) == len(wanted) and all(operation.phase.is_final for operation in found):
                return found
            time.sleep(0.2)
    finally:
        watches.stop()
    raise WorldError(f"Not every Operation ended within {seconds:.0f} s. Look at `kubectl get operations -A -o wide`.")


def up(arguments: argparse.Namespace) -> int:
    """Start everything, apply the samples, watch them, say what to try next."""
    began = time.monotonic()
    local = _local()
    stack = Stack(local.places.state / "demo", say)
    cluster = _cluster(arguments.kubeconfig, local)
    say("installing the CRDs")
    cluster.install_definitions()
    stopped = stack.stop()
    if stopped:
        say(f"restarting {', '.join(stopped)}")
    say("starting two mock datacenters and the reconciler")
    endpoints = [stack.start_datacenter(name, str(arguments.speed)) for name in DATACENTERS]
    metrics = stack.start_daemon(cluster.kubeconfig, endpoints)
    say("applying sample Servers, ProvisioningProfiles and Operations")
    wanted = cluster.apply_samples()
    ended = watch_until_ended(cluster.kubeconfig, wanted, arguments.timeout)
    failed = [operation for operation in ended if operation.phase is not Phase.SUCCEEDED]
    if failed:
        for operation in failed:
            say(f"{operation.namespace}/{operation.name} failed: {operation.status.get('message')}")
        say(f"FAILED: {len(failed)} of {len(ended)} Operations. The reconciler's log: {stack.log}")
        return 1
    print(_next_steps(cluster, stack, metrics.url), flush=True)
    say(f"done: all {len(ended)} Operations Succeeded, {time.monotonic() - began:.0f} s")
    return 0


def _cluster(kubeconfig: str | None, local: Call) -> Cluster:
    """Return the reader's cluster when a kubeconfig is given, else a local control plane that now runs."""
    if kubeconfig is not None:
        if not Path(kubeconfig).is_file():
            raise UserError(f"{kubeconfig} does not exist. Leave --kubeconfig out to get a local control plane.")
        return Cluster(str(replace(local, programs=("kubectl",)).obtain()["kubectl"]), str(Path(kubeconfig).resolve()))
    programs, plane = local.obtain(), local.plane()
    with local.lock(), local.progress.step("starting etcd and kube-apiserver"):
        plane.start(programs)
    say(f"Kubernetes {plane.status().version} on {plane.status().url}")
    return Cluster(str(programs["kubectl"]), str(plane.kubeconfig))


def _next_steps(cluster: Cluster, stack: Stack, metrics: str) -> str:
    kubectl = "kubectl" if shutil.which("kubectl") else cluster.kubectl
    return NEXT_STEPS.format(
        kubectl=kubectl,
        kubeconfig=cluster.kubeconfig,
        metrics=metrics,
        hello=stack.operations_directory() / "hello.yml",
        log=stack.log,
    )


def down(_: argparse.Namespace) -> int:
    """Stop everything that `up` has started, and remove its files."""
    local = _local()
    stopped = Stack(local.places.state / "demo", say).stop()
    with local.lock():
        if local.plane().stop():
            stopped.append("control plane")
        local.plane().remove()
        shutil.rmtree(local.places.state / "demo", ignore_errors=True)
    say(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    parser = argparse.ArgumentParser(prog="stargate-demo", description="Two datacenters on one machine, repaved.")
    commands = parser.add_subparsers(required=True, metavar="up|down")
    start = commands.add_parser("up", help="start everything, repave the sample servers, leave it running")
    start.add_argument("--kubeconfig", help="use this cluster instead of a local control plane")
    start.add_argument("--speed", type=float, default=3.0, help="time scale of the mock datacenters (%(default)s)")
    start.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for the Operations (%(default)s)")
    start.set_defaults(act=up)
    commands.add_parser("down", help="stop everything").set_defaults(act=down)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 when something failed, 2 for a mistake of the user, 130 after Ctrl-C."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.act(parsed))
    except UserError as error:
        say(str(error))
        return 2
    except ReconcilerError as error:
        say(f"FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make demo-down` stops what runs")
        return 130


if __name__ == "__main__":
    sys.exit(main())
