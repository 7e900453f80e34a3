# SPDX-License-Identifier: Apache-2.0
"""The table of rules: what breaks which, that the CRDs carry exactly it, and that CEL and predicate say the same.

What else the CRDs must be is tests/unit/test_crds.py's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stargate_reconciler import rules
from stargate_reconciler.rules import RULES, Rule

Object = dict[str, Any]

CRDS = Path(__file__).parents[3] / "crds"


def server(**spec: Any) -> Object:
    """Return a Server with this spec."""
    return {"metadata": {"name": "s1"}, "spec": spec}


def profile(**spec: Any) -> Object:
    """Return a ProvisioningProfile with this spec."""
    return {"metadata": {"name": "p1"}, "spec": spec}


def operation(status: Object | None = None, **spec: Any) -> Object:
    """Return an Operation that repaves s1 with the default retryLimit, changed by `spec`; None removes a field."""
    full = {"serverRef": {"name": "s1"}, "operation": "repave", "retryLimit": 2, **spec}
    kept = {key: value for key, value in full.items() if value is not None}
    return {"metadata": {"name": "o1"}, "spec": kept} | ({} if status is None else {"status": status})


P1, P2 = {"name": "p1"}, {"name": "p2"}

FINE: list[tuple[str, Object, Object | None]] = [
    ("Server", server(ipv4="100.x.x.x"), None),
    ("Server", server(mac="aa:bb:cc:dd:ee:01"), None),
    ("Server", server(bmc={"address": "10.0.0.9"}), server(ipv4="10.0.0.1")),
    ("Server", server(inventory={}), None),
    ("Server", server(ipv4="10.0.0.1", routerIP="10.0.0.2", routerPort=2221), None),
    ("ProvisioningProfile", profile(kubernetesVersion="1.34"), None),
    ("ProvisioningProfile", profile(osVersion="2.0.0", osImage="https://h/i.img"), None),
    ("ProvisioningProfile", profile(cloudInit="#cloud-config"), profile(cloudInitSecretRef="s")),
    ("ProvisioningProfile", profile(cloudInitSecretRef="s"), None),
    ("ProvisioningProfile", profile(customBootstrapScript="true"), None),
    ("ProvisioningProfile", profile(osVersion="2", osImage="https://h/i", osImageChecksum="sha256:0"), None),
    ("Operation", operation(), None),
    ("Operation", operation(), operation()),
    ("Operation", operation(cancel=True, ttlSecondsAfterFinished=5), operation()),
    ("Operation", operation(), operation(cancel=True, ttlSecondsAfterFinished=5)),
    ("Operation", operation(provisioningProfileRef=P1), operation(provisioningProfileRef=P1)),
    ("Operation", operation(activeDeadlineSeconds=9), operation(activeDeadlineSeconds=9)),
    ("Operation", operation({"phase": "Failed"}), operation({"phase": "Running"})),
    ("Operation", operation({"phase": "Running"}), operation({"phase": "Pending"})),
    ("Operation", operation({"phase": "Running"}), operation({})),
    ("Operation", operation({"phase": "Pending"}), operation()),
    ("Operation", operation({"phase": "Failed", "message": "new"}), operation({"phase": "Failed", "message": "old"})),
]
"""Kind, object, the object before (None at its creation): no rule is broken."""

BROKEN: list[tuple[str, Object, Object | None, str]] = [
    ("Server", server(), None, "spec.ipv4"),
    ("Server", server(provider="azure", routerIP="10.0.0.1"), None, "spec.ipv4"),
    ("Server", server(ipv4="10.0.0.1", routerPort=2221), None, "spec.routerPort"),
    ("ProvisioningProfile", profile(), None, "spec.kubernetesVersion"),
    ("ProvisioningProfile", profile(adminUsername="ubuntu"), None, "spec.osVersion"),
    ("ProvisioningProfile", profile(cloudInit="a", cloudInitSecretRef="b"), None, "spec.cloudInitSecretRef"),
    ("ProvisioningProfile", profile(osVersion="2", osImageChecksum="sha256:0"), None, "spec.osImageChecksum"),
    ("Operation", operation(serverRef={"name": "s2"}), operation(), "spec.serverRef"),
    ("Operation", operation(operation="reboot"), operation(), "spec.operation"),
    ("Operation", operation(provisioningProfileRef=P1), operation(), "spec.provisioningProfileRef"),
    ("Operation", operation(), operation(provisioningProfileRef=P1), "spec.provisioningProfileRef"),
    ("Operation", operation(provisioningProfileRef=P1), operation(provisioningProfileRef=P2), "provisioningProfileRef"),
    ("Operation", operation(activeDeadlineSeconds=9), operation(activeDeadlineSeconds=8), "spec.activeDeadlineSeconds"),
    ("Operation", operation(), operation(activeDeadlineSeconds=8), "spec.activeDeadlineSeconds"),
    ("Operation", operation(activeDeadlineSeconds=8), operation(), "spec.activeDeadlineSeconds"),
    ("Operation", operation(retryLimit=0), operation(), "spec.retryLimit"),
    ("Operation", operation(retryLimit=None), operation(), "spec.retryLimit"),
    ("Operation", operation({"phase": "Running"}), operation({"phase": "Failed"}), "status.phase"),
    ("Operation", operation({"phase": "Failed"}), operation({"phase": "Succeeded"}), "status.phase"),
    ("Operation", operation({}), operation({"phase": "Succeeded"}), "status.phase"),
]
"""Kind, object, the object before, what the one sentence names."""

PAIRS = FINE + [(kind, new, old) for kind, new, old, _ in BROKEN]


@pytest.mark.parametrize(("kind", "new", "old"), FINE)
def test_fine_objects_break_nothing(kind: str, new: Object, old: Object | None) -> None:
    """An object that is right gets no sentence."""
    assert rules.broken(kind, new, old=old) == []


@pytest.mark.parametrize(("kind", "new", "old", "named"), BROKEN)
def test_broken_objects_get_one_sentence_with_a_remedy(kind: str, new: Object, old: Object | None, named: str) -> None:
    """A broken object gets one sentence, which names the object, the field and what to do."""
    (sentence,) = rules.broken(kind, new, old=old)
    assert sentence.startswith(f"{kind} {new['metadata']['name']} is invalid: ")
    assert named in sentence
    assert any(verb in sentence for verb in ("Set ", "Create ", "Remove "))
    assert sentence.endswith(".")


@pytest.mark.parametrize("obj", [{}, {"metadata": None, "spec": None}, {"metadata": {}, "spec": [], "status": "x"}])
def test_odd_objects_are_left_to_the_schema(obj: Object) -> None:
    """What the schema refuses is neither judged nor a crash here, for an unknown kind neither."""
    assert [rules.broken(kind, obj, old=obj) for kind in ("Server", "ProvisioningProfile", "Operation", "Pod")] == [
        []
    ] * 4


def test_every_rule_is_broken_by_an_example() -> None:
    """The table of examples leaves no rule out."""
    asleep = [r.cel for r in RULES if all(r.kind != kind or r.holds(new, old) for kind, new, old in PAIRS)]
    assert asleep == []


def _carried(schema: Object, path: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    found = [(".".join(path), v["rule"], v["message"]) for v in schema.get("x-kubernetes-validations", [])]
    for name, child in schema.get("properties", {}).items():
        found += _carried(child, (*path, name))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += _carried(schema[key], (*path, key))
    return found


@pytest.mark.parametrize("kind", ["Server", "ProvisioningProfile", "Operation"])
def test_crds_carry_exactly_the_table(kind: str) -> None:
    """Each CRD has the CEL and the messages of the table, no more, no less, in its order."""
    crd = yaml.safe_load((CRDS / f"{kind.lower()}s.yaml").read_text())
    assert crd["spec"]["names"]["kind"] == kind
    (version,) = crd["spec"]["versions"]
    table = [(rule.path, rule.cel, rule.message) for rule in RULES if rule.kind == kind]
    assert _carried(version["schema"]["openAPIV3Schema"]) == table


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cel[:40])
def test_the_api_server_takes_the_wording(rule: Rule) -> None:
    """The API server refuses a rule or a message of more than one line, and a message of over 2,048 characters."""
    assert "\n" not in rule.cel + rule.message
    assert len(rule.message) < 2048


def _by_cel(rule: Rule, new: Object, *, old: Object | None) -> bool:
    """Judge as the API server does: not where the part is absent, changes only where both parts are there."""
    celpy = pytest.importorskip("celpy", reason="the package cel-python is not installed")
    part, before = new.get(rule.path), (old or {}).get(rule.path)
    if part is None or ("oldSelf" in rule.cel and before is None):
        return True
    environment = celpy.Environment()
    program = environment.program(environment.compile(rule.cel))
    values = {"self": celpy.json_to_cel(part), "oldSelf": celpy.json_to_cel(before)}
    return bool(program.evaluate(values))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cel[:40])
def test_cel_and_predicate_agree(rule: Rule) -> None:
    """For every example, the CEL says what the predicate says."""
    pairs = [(new, old) for kind, new, old in PAIRS if kind == rule.kind]
    assert [_by_cel(rule, new, old=old) for new, old in pairs] == [rule.holds(new, old) for new, old in pairs]
