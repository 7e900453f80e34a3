# SPDX-License-Identifier: Apache-2.0
"""What is done to a Server object, given what is there; a person's edits survive.

Against a real API server: tests/integration/test_server_module.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._server_object import (
    SITE_ANNOTATION,
    Change,
    absent,
    merged,
    present,
    told,
)

WANTED = {
    "metadata": {"name": "w", "namespace": "dc"},
    "spec": {"mac": "52:54:00:00:00:01", "ipv4": "192.168.100.11", "provider": "qemu", "nodeName": "w"},
}


def server(site: str = "r", **spec: Any) -> dict[str, Any]:
    """Return a Server as it may be found."""
    annotations = {SITE_ANNOTATION: site} if site else None
    return {"metadata": {"name": "w", "annotations": annotations}, "spec": {**WANTED["spec"], **spec}}


def test_a_new_one_is_marked() -> None:
    """A Server that we make carries the site's name, one without a site carries none."""
    change = present(None, WANTED, "r")
    assert change.verb == "create"
    assert change.body["metadata"] == {"name": "w", "namespace": "dc", "annotations": {SITE_ANNOTATION: "r"}}
    assert "annotations" not in present(None, WANTED, "").body["metadata"]
    assert merged(None, change) == {"spec": WANTED["spec"], "site": "r"}


def test_facts_are_corrected_and_edits_kept() -> None:
    """Where the machine is, we know better; what a person has set or added stays."""
    found = server(ipv4="10.0.0.1", nodeName="mine", inventory={"sku": "x"}, provisioningProfile="p")
    change = present(found, WANTED, "r")
    assert change == Change("patch", {"spec": {"ipv4": "192.168.100.11"}})
    after = merged(found, change)["spec"]
    assert (after["nodeName"], after["inventory"], after["ipv4"]) == ("mine", {"sku": "x"}, "192.168.100.11")


def test_nothing_to_do() -> None:
    """A Server that says all that is wanted is left alone, whoever made it."""
    assert present(server(), WANTED, "r") == Change()
    assert present(server(site=""), WANTED, "r") == Change()
    assert merged(server(), Change())["spec"] == WANTED["spec"]


def test_a_field_that_is_missing_is_set() -> None:
    """What nobody has set gets our value."""
    found = server()
    del found["spec"]["nodeName"]
    assert present(found, WANTED, "r").body == {"spec": {"nodeName": "w"}}


@pytest.mark.parametrize("found", [server(site="other"), server(site="", provider="azure")])
def test_servers_of_others_are_refused(found: dict[str, Any]) -> None:
    """A Server of another site, or of another kind of machine, is not overwritten."""
    with pytest.raises(Invalid) as refused:
        present(found, WANTED, "r")
    assert refused.value.code == "NameTaken"
    assert "dc/w" in refused.value.message


def test_only_our_own_is_deleted() -> None:
    """A Server goes with the site that made it, and with no other."""
    verbs = [absent(found, "r").verb for found in (None, server(), server(site="other"), server(site=""))]
    assert verbs == ["", "delete", "", ""]
    assert absent(server(site=""), "").verb == "delete"
    assert merged(server(), Change("delete")) == {}


def test_told() -> None:
    """A play gets the names, the site, the state and what is at work on it."""
    found = {**server(), "status": {"state": "ready", "activeOperation": "op"}}
    assert told(found) | {"spec": {}} == {
        "name": "w",
        "namespace": "",
        "uid": "",
        "site": "r",
        "state": "ready",
        "active_operation": "op",
        "spec": {},
    }
