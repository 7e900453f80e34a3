# SPDX-License-Identifier: Apache-2.0
"""The CRDs on a real API server: every manifest that users have applies, and kubectl shows what it should.

The files alone are tests/unit/test_crds.py's. Namespaces are left behind: without a controller manager none ever ends.
"""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kubernetes import client

from stargate_reconciler import rules
from stargate_reconciler.kube import connect

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
SEEDS = sorted((ROOT / "tests/unit/fixtures/seeds").glob("*.yaml"))
EXAMPLES = sorted(path for path in (CRDS / "examples").glob("*.yaml") if path.stem != "namespaces")
NAMES = ("servers.stargate.io", "provisioningprofiles.stargate.io", "operations.stargate.io")
MOMENT = "2026-01-19T12:00:00Z"
ACCOUNT = "system:serviceaccount:stargate-system:stargate-reconciler"


class Kubectl(NamedTuple):
    """kubectl on one cluster. `strict` is the strictest --validate that it and the server have."""

    program: str
    kubeconfig: str
    cache: Path
    strict: str = "strict"
    server_minor: int = 0

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl with a discovery cache of its own, `given` on its standard input, for at most a minute."""
        command = [self.program, "--kubeconfig", self.kubeconfig, "--cache-dir", str(self.cache), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)

    def out(self, *arguments: str, given: str | None = None) -> str:
        """Return what kubectl prints, when it exits with 0."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def table(self, *arguments: str) -> list[list[str]]:
        """Return the table of `kubectl get` as rows of words."""
        return [line.split() for line in self.out("get", *arguments).splitlines()]


def _minor(version: Object) -> int:
    return int("".join(filter(str.isdigit, version["minor"])))


def _validation(versions: Object) -> str:
    minor = _minor(versions["clientVersion"])
    if minor >= 25:
        return "strict"
    warnings.warn(f"kubectl 1.{minor} has no --validate=strict, so these tests use --validate=true", stacklevel=2)
    return "true"


@pytest.fixture(scope="module")
def kubectl(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Yield kubectl on a cluster with the CRDs and the namespaces of all manifests; delete our objects at the end."""
    first = Kubectl(control_plane.kubectl, control_plane.kubeconfig, tmp_path_factory.mktemp("first"))
    versions = json.loads(first.out("version", "-o", "json"))
    server = _minor(versions["serverVersion"])
    # An older server's own schema does not know x-kubernetes-validations: it would drop them, kubectl refuses them.
    validate = _validation(versions) if server >= 25 else "false"
    first.out("apply", f"--validate={validate}", "-f", str(CRDS))
    first.out("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in NAMES))
    names = {obj["metadata"].get("namespace") for path in SEEDS for obj in yaml.safe_load_all(path.read_text())}
    wanted = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names - {None, "kube-system"}
    ]
    first.out("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}))
    first.out("apply", "-f", str(CRDS / "examples/namespaces.yaml"))
    cache = tmp_path_factory.mktemp("second")  # a cache that has not seen the cluster before the CRDs
    made = first._replace(cache=cache, strict=_validation(versions), server_minor=server)
    yield made
    made.out("delete", "--ignore-not-found", *(f"--filename={path}" for path in (*SEEDS, *EXAMPLES)))


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl) -> dict[Path, subprocess.CompletedProcess[str]]:
    """Apply every seed and example, strictly validated, each once; return how it went."""
    return {path: kubectl.run("apply", f"--validate={kubectl.strict}", "-f", str(path)) for path in (*SEEDS, *EXAMPLES)}


@pytest.fixture(scope="module")
def objects(kubectl: Kubectl, applied: Any) -> client.CustomObjectsApi:
    """Return a client that can write statuses, which kubectl of all versions cannot."""
    return client.CustomObjectsApi(connect(kubectl.kubeconfig, None).api_client)


def merged(objects: client.CustomObjectsApi, what: str, **status: Any) -> Object:
    """Merge into the status of `what`, plural/name, in dc-west, as the reconciler does; return the status as stored."""
    plural, name = what.split("/")
    answer: Object = objects.patch_namespaced_custom_object_status(
        *("stargate.io", "v1alpha1", "dc-west", plural, name, {"status": status}),
        _content_type="application/merge-patch+json",
    )
    return answer["status"]


def condition(kind: str, status: str) -> Object:
    """Return a condition as the reconciler writes them."""
    text = {"reason": "Tested", "message": "It is so.", "lastTransitionTime": MOMENT}
    return {"type": kind, "status": status, "observedGeneration": 1, **text}


@pytest.mark.parametrize("path", [*SEEDS, *EXAMPLES], ids=lambda path: path.stem)
def test_every_manifest_applies_under_strict_validation(path: Path, applied: Any) -> None:
    """Each manifest is taken as it is, with one line for each of its objects."""
    done = applied[path]
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == sum(1 for _ in yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("part", ["spec", "status"])
def test_an_unknown_field_is_refused(kubectl: Kubectl, part: str) -> None:
    """Validation is really strict here: a field that no schema has is refused by name."""
    obj: Object = {"apiVersion": "stargate.io/v1alpha1", "kind": "Server", "metadata": {"name": "odd"}}
    obj |= {"spec": {"ipv4": "10.0.0.1"}, "status": {}}
    obj[part]["hostname"] = "x"
    done = kubectl.run("apply", f"--validate={kubectl.strict}", "-f", "-", given=json.dumps(obj))
    assert done.returncode != 0
    assert "hostname" in done.stderr


def test_get_servers_shows_the_columns_that_users_know(kubectl: Kubectl, objects: client.CustomObjectsApi) -> None:
    """A repaved Server shows state, OS and address; -o wide shows the rest behind them."""
    status = {"state": "ready", "currentOS": "2.0.0", "os": "2.0.0", "nodeName": "n1", "activeOperation": "o1"}
    status["appliedProvisioningProfile"] = "os-2-0-0"
    merged(objects, "servers/server-001", **status)
    header, row, *_ = kubectl.table("servers", "-n", "dc-west")
    assert header == ["NAME", "STATE", "OS", "IPV4"]
    assert row == ["server-001", "ready", "2.0.0", "10.0.1.5"]
    header, row, *_ = kubectl.table("srv", "-n", "dc-west", "-o", "wide")
    assert header[4:] == ["PROFILE", "PROVIDER", "NODE", "OPERATION", "AGE"]
    assert row[4:8] == ["os-2-0-0", "dc-api", "n1", "o1"]


def test_get_operations_shows_the_columns_that_users_know(kubectl: Kubectl, objects: client.CustomObjectsApi) -> None:
    """A running Operation shows server, operation, phase and age; -o wide shows the rest behind them."""
    merged(objects, "operations/repave-server-001", phase="Running", stage="Join", attempts=1)
    header, row, *_ = kubectl.table("operations.stargate.io", "-n", "dc-west")
    assert header == ["NAME", "SERVER", "OPERATION", "PHASE", "AGE"]
    assert row[:4] == ["repave-server-001", "server-001", "repave", "Running"]
    header, row, *_ = kubectl.table("op", "-n", "dc-west", "-o", "wide")
    assert header[5:] == ["STAGE", "ATTEMPTS", "MESSAGE"]
    assert row[5:7] == ["Join", "1"]


def test_get_profiles_shows_the_columns_that_users_know(kubectl: Kubectl, applied: Any) -> None:
    """A profile shows its versions."""
    assert kubectl.table("pp", "-n", "dc-west")[0] == ["NAME", "K8SVERSION", "OSVERSION", "READY"]


def test_the_category_lists_all_kinds(kubectl: Kubectl, applied: Any) -> None:
    """kubectl get stargate lists Servers, ProvisioningProfiles and Operations together."""
    names = kubectl.out("get", "stargate", "-n", "dc-east", "-o", "name").split()
    kinds = {name.split("/")[0] for name in names}
    assert kinds == {f"{kind}.stargate.io" for kind in ("server", "provisioningprofile", "operation")}


STATUS = {
    "phase": "Pending",
    "stage": "BackOff",
    "attempts": 2,
    "failures": 1,
    "runID": "r1",
    "message": "Tries again.",
    "startTime": MOMENT,
    "completionTime": MOMENT,
    "retryAfter": MOMENT,
    "dcJobID": "job-1",
    "observedGeneration": 1,
    "acceptedSpec": {"server": "server-002", "profile": "os-2-0-0", "operation": "repave"},
    "result": {"os": "2.0.0", "nodeName": "n1", "podCIDR": "10.244.1.0/24"},
    "conditions": [condition("Complete", "False"), condition("Reconciling", "True")],
}


def test_no_status_field_is_dropped(objects: client.CustomObjectsApi) -> None:
    """All that the reconciler writes is declared, or the API server would drop it without a word."""
    assert merged(objects, "operations/repave-server-002", **STATUS) == STATUS


def test_a_merge_patch_replaces_the_conditions(objects: client.CustomObjectsApi) -> None:
    """A patch with a whole list of conditions puts it in place of the old one, though the list is a map by type."""
    merged(objects, "operations/repave-server-002", conditions=[condition("A", "True"), condition("B", "True")])
    after = merged(objects, "operations/repave-server-002", conditions=[condition("B", "False")])
    assert after["conditions"] == [condition("B", "False")]


EXPLAINED = {
    "op.spec": ("retryLimit", "Default 2", "ttlSecondsAfterFinished", "seconds"),
    "op.status": ("acceptedSpec", "conditions", "final"),
    "srv.spec": ("routerIP", "Default 22", "provider"),
    "srv.spec.maintenance": ("autoRepave", "Default never", "Default 300"),
    "pp.spec": ("kubernetesVersion", "quotation marks"),
    "pp.spec.controlPlane.aks": ("clusterDNS", "10.0.0.10"),
    "pp.spec.nodeTaints": ("effect", "NoExecute"),
}


@pytest.mark.parametrize("path", EXPLAINED)
def test_explain_reads_well(kubectl: Kubectl, path: str) -> None:
    """kubectl explain finds the short names, and says defaults and units; no field is left without a word."""
    text = " ".join(kubectl.out("explain", path).split())
    assert [word for word in EXPLAINED[path] if word not in text] == []
    assert "<no description>" not in text


def test_defaults_are_filled_in(kubectl: Kubectl, applied: Any) -> None:
    """What the schema gives a default is there although the manifest did not say it."""
    answer = kubectl.out("get", "op", "repave-server-001", "-n", "dc-west", "-o", "jsonpath={.spec.retryLimit}")
    assert answer == "2"


def test_an_edit_is_refused_where_the_api_server_can(kubectl: Kubectl, applied: Any) -> None:
    """A changed spec is refused with the rule's sentence from 1.25 on; an older server takes it, and the rules tell."""
    name = ("op", "repave-server-001", "-n", "dc-east")
    before = json.loads(kubectl.out("get", *name, "-o", "json"))
    done = kubectl.run("patch", *name, "--type=merge", "-p", '{"spec": {"operation": "reboot"}}')
    if kubectl.server_minor >= 25:
        assert "spec.operation of an Operation cannot be changed" in done.stderr
        return
    (sentence,) = rules.broken("Operation", json.loads(kubectl.out("get", *name, "-o", "json")), old=before)
    assert "spec.operation of an Operation cannot be changed" in sentence


def test_cancel_may_be_set_later(kubectl: Kubectl, applied: Any) -> None:
    """What may be changed can be changed, on any server."""
    patch = '{"spec": {"cancel": true, "ttlSecondsAfterFinished": 60}}'
    kubectl.out("patch", "op", "repave-server-002", "-n", "dc-west", "--type=merge", "-p", patch)


RIGHTS = [
    ("yes", "list", "servers.stargate.io", "azure-dc"),
    ("yes", "watch", "provisioningprofiles.stargate.io", "azure-dc"),
    ("yes", "delete", "operations.stargate.io", "dc-west"),
    ("yes", "patch", "operations.stargate.io/status", "dc-west"),
    ("yes", "patch", "servers.stargate.io/status", "dc-west"),
    ("yes", "create", "events", "dc-west"),
    ("yes", "create", "leases.coordination.k8s.io", "stargate-system"),
    ("yes", "update", "leases.coordination.k8s.io/stargate-reconciler", "stargate-system"),
    ("yes", "get", "secrets", "dc-west"),
    ("no", "list", "secrets", "dc-west"),
    ("no", "get", "secrets", "azure-dc"),
    ("no", "get", "leases.coordination.k8s.io/other", "stargate-system"),
    ("no", "create", "leases.coordination.k8s.io", "dc-west"),
    ("no", "patch", "operations.stargate.io", "dc-west"),
    ("no", "delete", "servers.stargate.io", "dc-west"),
    ("no", "create", "pods", "dc-west"),
    ("yes", "patch", "nodes", "default"),
    ("no", "create", "nodes", "default"),
    ("yes", "create", "pods/eviction", "dc-west"),
    ("no", "delete", "pods", "dc-west"),
    ("yes", "create", "secrets", "kube-system"),
    ("no", "get", "secrets", "kube-system"),
    ("no", "list", "secrets", "kube-system"),
    ("yes", "watch", "configmaps/cluster-info", "kube-public"),
    ("no", "get", "configmaps/other", "kube-public"),
]


@pytest.fixture(scope="module")
def rights(kubectl: Kubectl) -> Kubectl:
    """Give the reconciler's account the rights that we ship."""
    kubectl.out("apply", f"--validate={kubectl.strict}", "-f", str(ROOT / "reconciler/deploy/rbac.yaml"))
    return kubectl


@pytest.mark.parametrize(("answer", "verb", "what", "namespace"), RIGHTS)
def test_the_shipped_rights_are_the_least(rights: Kubectl, answer: str, verb: str, what: str, namespace: str) -> None:
    """The reconciler's account may do what it needs, and nothing beside it."""
    kind, _, rest = what.partition("/")
    question = [verb, kind, f"--subresource={rest}"] if rest in ("status", "eviction") else [verb, what]
    said = rights.run("auth", "can-i", *question, "-n", namespace, f"--as={ACCOUNT}").stdout
    assert said.strip() == answer
