# SPDX-License-Identifier: Apache-2.0
"""`stargate-demo up|down`: from nothing to every sample Operation Succeeded, and back.

The order of steps and the words for the reader. How a part is started is `stack.py`'s and `local`'s.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ReconcilerError, UserError, WorldError
from ..kube import connect
from ..local.cli import Call
from ..local.flags import Joinable
from ..local.places import Places
from ..local.progress import Progress
from ..model import Operation, Phase
from ..watch import Store, Watches
from . import nodes
from .cluster import Cluster, checkout
from .stack import DATACENTERS, Endpoint, Stack
from .table import Screen

NEXT_STEPS = """
Everything is still running. Try:

  export KUBECONFIG={kubeconfig}
  {kubectl} get operations -A -o wide{nodes}
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
    reason = nodes.lacking(arguments.kubeconfig)
    image = None if reason else nodes.build_image()
    cluster = _cluster(arguments.kubeconfig, local, Joinable() if image else None)
    site = nodes.Site(checkout(), local.places.state / "demo" / "site", cluster.kubeconfig, local.progress)
    say("installing the CRDs")
    cluster.install_definitions()
    with ThreadPoolExecutor(1) as beside:
        key = beside.submit(site.make, image) if image else None
        metrics = _start(stack, cluster, site, str(arguments.speed))
        wanted = cluster.apply_samples()
        if image and key:
            wanted |= cluster.apply(nodes.manifests(key.result(), nodes.version(image)))
        _watched(cluster, wanted, arguments.timeout)
    if image:
        say(f"{len(nodes.WORKERS)} Nodes Ready {time.monotonic() - began:.0f} s after the beginning:")
        _show_nodes(cluster)
        say(f"a repave of {nodes.WORKERS[0]}: another disk, another Node")
        _watched(cluster, cluster.apply([nodes.joining(nodes.WORKERS[0], nodes.RENEWED)]), arguments.timeout)
        _show_nodes(cluster)
    print(_next_steps(cluster, stack, metrics.url, has_nodes=image is not None), flush=True)
    if reason:
        say(f"this was the part with datacenter APIs. For machines that become Nodes: {reason}")
    say(f"done: all Operations Succeeded, {time.monotonic() - began:.0f} s")
    return 0


def _start(stack: Stack, cluster: Cluster, site: nodes.Site, speed: str) -> Endpoint:
    stopped = stack.stop()
    if stopped:
        say(f"restarting {', '.join(stopped)}")
    say("starting two mock datacenters and the reconciler")
    endpoints = [stack.start_datacenter(name, speed) for name in DATACENTERS]
    flags = ("--vars-file", str(site.variables))
    return stack.start_daemon(cluster.kubeconfig, endpoints, flags=flags, environ=site.environ)


def _watched(cluster: Cluster, wanted: set[tuple[str, str]], seconds: float) -> None:
    ended = watch_until_ended(cluster.kubeconfig, wanted, seconds)
    failed = [operation for operation in ended if operation.phase is not Phase.SUCCEEDED]
    for operation in failed:
        say(f"{operation.namespace}/{operation.name} failed: {operation.status.get('message')}")
    if failed:
        raise WorldError(f"{len(failed)} of {len(ended)} Operations failed. The reconciler's log says more.")


def _show_nodes(cluster: Cluster) -> None:
    print(f"\n$ kubectl get nodes -o wide\n{cluster.run('get', 'nodes', '-o', 'wide')}", flush=True)


def _cluster(kubeconfig: str | None, local: Call, joinable: Joinable | None) -> Cluster:
    """Return the reader's cluster when a kubeconfig is given, else a local control plane that now runs."""
    if kubeconfig is not None:
        if not Path(kubeconfig).is_file():
            raise UserError(f"{kubeconfig} does not exist. Leave --kubeconfig out to get a local control plane.")
        return Cluster(str(replace(local, programs=("kubectl",)).obtain()["kubectl"]), str(Path(kubeconfig).resolve()))
    local = replace(local, joinable=joinable)
    programs, plane = local.obtain(), local.plane()
    with local.lock(), local.progress.step("starting the control plane"):
        plane.start(programs, joinable=joinable, settled=False)
    say(f"Kubernetes {plane.status().version} on {plane.status().url}")
    return Cluster(str(programs["kubectl"]), str(plane.kubeconfig))


def _next_steps(cluster: Cluster, stack: Stack, metrics: str, *, has_nodes: bool) -> str:
    kubectl = "kubectl" if shutil.which("kubectl") else cluster.kubectl
    return NEXT_STEPS.format(
        kubectl=kubectl,
        kubeconfig=cluster.kubeconfig,
        metrics=metrics,
        hello=stack.operations_directory() / "hello.yml",
        log=stack.log,
        nodes=f"\n  {kubectl} get nodes,servers -A -o wide" if has_nodes else "",
    )


def down(_: argparse.Namespace) -> int:
    """Stop everything that `up` has started, and remove its files."""
    local = _local()
    stopped = Stack(local.places.state / "demo", say).stop()
    kubeconfig = str(local.plane().kubeconfig)
    site = nodes.Site(checkout(), local.places.state / "demo" / "site", kubeconfig, local.progress)
    if site.take_down():
        stopped.append("machines")
    with local.lock():
        if local.plane().stop():
            stopped.append("control plane")
        local.plane().remove()
        shutil.rmtree(local.places.state / "demo", ignore_errors=True)
    say(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    parser = argparse.ArgumentParser(prog="stargate-demo", description="Datacenters on one machine, repaved.")
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
