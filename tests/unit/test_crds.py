# SPDX-License-Identifier: Apache-2.0
"""The CRDs as files: structural, described everywhere, and strict enough to know every field of every manifest.

What an API server makes of them is tests/integration/test_manifests.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CRDS = {
    crd["spec"]["names"]["kind"]: crd
    for crd in map(yaml.safe_load, (p.read_text() for p in (ROOT / "crds").glob("*.yaml")))
}
MANIFESTS = sorted([*(ROOT / "tests/unit/fixtures/seeds").glob("*.yaml"), *(ROOT / "crds/examples").glob("*.yaml")])

TYPES = {"object", "array", "string", "integer", "number", "boolean"}
KEYS = {
    *("type", "format", "description", "default", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("maxItems", "maxProperties", "required", "properties", "items", "additionalProperties"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
}
"""What our schemas are made of. All of it may stand in a structural schema of Kubernetes 1.20."""

COLUMNS = {
    "Server": ["State", "OS", "IPv4", "+Profile", "+Provider", "+Node", "+Operation", "+Age"],
    "ProvisioningProfile": ["K8sVersion", "OSVersion", "Ready"],
    "Operation": ["Server", "Operation", "Phase", "Age", "+Stage", "+Attempts", "+Message"],
}
"""The columns of kubectl get, with a plus before those that only -o wide shows."""

NAMES = {
    "Server": ("servers", ["srv"]),
    "ProvisioningProfile": ("provisioningprofiles", ["pp"]),
    "Operation": ("operations", ["op"]),
}


def schema_of(kind: str) -> Object:
    """Return the schema of a kind's only version."""
    (version,) = CRDS[kind]["spec"]["versions"]
    schema: Object = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield each node of a schema with its path."""
    yield path or ".", schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


ALL_NODES = [(f"{kind} {path}", node) for kind in sorted(CRDS) for path, node in nodes(schema_of(kind))]


def closed(schema: Object) -> Object:
    """Return the schema with unknown fields forbidden, as strict field validation forbids them."""
    strict = {key: value for key, value in schema.items() if not key.startswith("x-")}
    if "properties" in schema:
        strict["properties"] = {name: closed(child) for name, child in schema["properties"].items()}
        strict["additionalProperties"] = False
    if "items" in schema:
        strict["items"] = closed(schema["items"])
    return strict


def manifests(path: Path) -> list[Object]:
    """Return the objects of our kinds that a file holds."""
    return [obj for obj in yaml.safe_load_all(path.read_text()) if obj["apiVersion"] == "stargate.io/v1alpha1"]


def complaints(obj: Object) -> list[str]:
    """Return what the strict schema of its kind has against an object: paths and messages."""
    validator = Draft7Validator(closed(schema_of(obj["kind"])))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(obj)]


@pytest.mark.parametrize(("path", "node"), ALL_NODES)
def test_schema_is_structural(path: str, node: Object) -> None:
    """Every node has a type and only keys that a structural schema may have; objects say what is in them."""
    assert set(node) <= KEYS
    assert node["type"] in TYPES
    assert ("items" in node) == (node["type"] == "array")
    assert not {"properties", "additionalProperties"} <= set(node)
    assert set(node.get("required", [])) <= set(node.get("properties", {}))
    if node["type"] == "object" and not path.endswith(" .metadata"):
        assert node.get("properties") or node.get("additionalProperties")


@pytest.mark.parametrize(("path", "node"), [pair for pair in ALL_NODES if not pair[0].endswith(" .metadata")])
def test_every_field_is_described(path: str, node: Object) -> None:
    """Each field has a description of whole words that ends; metadata has Kubernetes' own and may have no other."""
    text = node["description"]
    assert len(text.split()) >= 3
    assert text.endswith(".")
    assert "\n" not in text
    if "default" in node:
        assert "efault" in text, "the default is said"


def test_metadata_is_left_to_kubernetes() -> None:
    """The API server forbids anything but the type beside an object's metadata."""
    assert [schema_of(kind)["properties"]["metadata"] for kind in sorted(CRDS)] == [{"type": "object"}] * 3


@pytest.mark.parametrize(("path", "node"), [pair for pair in ALL_NODES if " .spec" in pair[0]])
def test_what_a_user_writes_is_bounded(path: str, node: Object) -> None:
    """Every string, list and map of a spec has a limit, which keeps objects small and the rules' estimated cost low."""
    limit = {"string": {"maxLength", "enum"}, "array": {"maxItems"}, "integer": {"maximum"}}.get(node["type"])
    assert limit is None or limit & set(node)
    assert "additionalProperties" not in node or "maxProperties" in node


@pytest.mark.parametrize(("path", "node"), [pair for pair in ALL_NODES if pair[1]["type"] == "array"])
def test_lists_say_how_they_merge(path: str, node: Object) -> None:
    """Conditions are a map by type, which is then required; other lists are replaced whole."""
    wanted = ("map", ["type"]) if path.endswith(".conditions") else ("atomic", None)
    assert (node["x-kubernetes-list-type"], node.get("x-kubernetes-list-map-keys")) == wanted
    if wanted[0] == "map":
        assert "type" in node["items"]["required"]


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_names_versions_and_columns(kind: str) -> None:
    """Group, names, version, status sub-resource and printer columns are those that users type and read."""
    crd = CRDS[kind]
    plural, short = NAMES[kind]
    names, (version,) = crd["spec"]["names"], crd["spec"]["versions"]
    assert crd["apiVersion"] == "apiextensions.k8s.io/v1"
    assert crd["metadata"]["name"] == f"{plural}.{crd['spec']['group']}" == f"{plural}.stargate.io"
    assert (names["plural"], names["shortNames"], names["categories"]) == (plural, short, ["stargate"])
    assert crd["spec"]["scope"] == "Namespaced"
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    assert ["+" * column.get("priority", 0) + column["name"] for column in columns] == COLUMNS[kind]


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_columns_show_declared_fields(kind: str) -> None:
    """Each column's path leads to a field of the schema with the column's type."""
    declared = {path: node["type"] for path, node in nodes(schema_of(kind))}
    for column in CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        if column["name"] != "Age":
            assert declared[column["jsonPath"]] == column["type"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_validate_with_unknown_fields_forbidden(path: Path) -> None:
    """Every manifest that users have, statuses and placeholders included, fits the schema with no field unknown."""
    assert {obj["metadata"]["name"]: complaints(obj) for obj in manifests(path) if complaints(obj)} == {}


def test_fixtures_hold_every_kind() -> None:
    """The fixtures hold all the manifests that they should, counted so that none gets lost."""
    found = [obj["kind"] for path in MANIFESTS for obj in manifests(path)]
    assert {kind: found.count(kind) for kind in NAMES} == {"Server": 8, "ProvisioningProfile": 9, "Operation": 20}


REFUSED = [
    ("Server", {"mac": "aa:bb:cc:dd:ee"}, "mac"),
    ("Server", {"mac": "aa:bb:cc:dd:ee:01", "provider": "aws"}, "provider"),
    ("Server", {"ipv4": "10.0.0.1", "routerIP": "-oProxyCommand=x"}, "routerIP"),
    ("Server", {"ipv4": "10.0.0.1", "routerIP": "r;reboot"}, "routerIP"),
    ("Server", {"ipv4": "10.0.0.1", "sshPort": 0}, "sshPort"),
    ("Server", {"ipv4": "10.0.0.1", "nodeName": "$(reboot)"}, "nodeName"),
    ("Server", {"ipv4": "10.0.0.1", "podCIDR": "10.0.0.0"}, "podCIDR"),
    ("Server", {"ipv4": "10.0.0.1", "provisioningProfile": "../x"}, "provisioningProfile"),
    ("Server", {"ipv4": "10.0.0.1", "sshHostKeys": ["* ssh-ed25519 AAAA"]}, "sshHostKeys"),
    ("Server", {"ipv4": "x" * 254}, "ipv4"),
    ("Server", {"bmc": {"credentialSecretRef": "s"}}, "bmc"),
    ("Server", {"ipv4": "10.0.0.1", "hostname": "x"}, "hostname"),
    ("ProvisioningProfile", {"kubernetesVersion": 1.3}, "kubernetesVersion"),
    ("ProvisioningProfile", {"kubernetesVersion": "1.34; reboot"}, "kubernetesVersion"),
    ("ProvisioningProfile", {"kubernetesVersion": "2.0"}, "kubernetesVersion"),
    ("ProvisioningProfile", {"osVersion": "{{ lookup('pipe', 'id') }}"}, "osVersion"),
    ("ProvisioningProfile", {"osVersion": "2", "osImage": "ftp://h/i.img"}, "osImage"),
    ("ProvisioningProfile", {"osVersion": "2", "adminUsername": "root; id"}, "adminUsername"),
    ("ProvisioningProfile", {"osVersion": "2", "containerRuntime": "docker"}, "containerRuntime"),
    ("ProvisioningProfile", {"osVersion": "2", "controlPlane": {"mode": "tailscale"}}, "controlPlane"),
    ("ProvisioningProfile", {"osVersion": "2", "repave": {"strategy": "wipe"}}, "repave"),
    ("ProvisioningProfile", {"cloudInit": "x" * 262145}, "cloudInit"),
    ("Operation", {"operation": "repave"}, "serverRef"),
    ("Operation", {"serverRef": {"name": "s"}}, "operation"),
    ("Operation", {"serverRef": {"name": "s"}, "operation": "../repave"}, "operation"),
    ("Operation", {"serverRef": {"name": "s"}, "operation": "Repave"}, "operation"),
    ("Operation", {"serverRef": {"name": "a\nb"}, "operation": "repave"}, "serverRef"),
    ("Operation", {"serverRef": {"name": "s"}, "operation": "repave", "retryLimit": 101}, "retryLimit"),
    (
        "Operation",
        {"serverRef": {"name": "s"}, "operation": "repave", "activeDeadlineSeconds": 0},
        "activeDeadlineSeconds",
    ),
    ("Operation", {"serverRef": {"name": "s"}, "operation": "repave", "ttlSecondsAfterFinished": 10**12}, "ttlSeconds"),
]


@pytest.mark.parametrize(("kind", "spec", "named"), REFUSED)
def test_bad_specs_are_refused(kind: str, spec: Object, named: str) -> None:
    """A malformed, unknown or dangerous value gets exactly one complaint, which names its field."""
    obj = {"apiVersion": "stargate.io/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    (complaint,) = complaints(obj)
    assert named in complaint
