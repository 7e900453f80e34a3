# SPDX-License-Identifier: Apache-2.0
"""The lookup of cloud-init in Secrets, with a cluster that is a dictionary.

With a real one: tests/integration/test_setup_demo.py.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.stargate.core.plugins.lookup import user_data
from ansible_collections.stargate.core.plugins.module_utils._errors import NotFound


class FakeCluster:
    """The Secrets of namespace dc."""

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get(self, path: str, doing: str) -> dict[str, Any]:
        """Return a Secret."""
        known = {
            "good": {"userData": base64.b64encode("#cloud-config\n# ü".encode()).decode()},
            "other-key": {"text": "eA=="},
            "broken": {"userData": "abc"},
            "binary": {"userData": base64.b64encode(b"\xff\xfe").decode()},
        }
        namespace, _, name = path.removeprefix("/api/v1/namespaces/").partition("/secrets/")
        if namespace != "dc" or name not in known:
            raise NotFound(f"Failed to {doing}: not found.")
        return {"data": known[name]}


class Plugin(user_data.LookupModule):
    """The plugin with options that Ansible would have read from its documentation."""

    def set_options(self, *, direct: dict[str, Any], **_: Any) -> None:
        """Keep what is given, and the defaults."""
        self.given = {"key": "userData", "kubeconfig": "", "context": "", **direct}

    def get_option(self, option: str, **_: Any) -> Any:
        """Return an option."""
        return self.given[option]


@pytest.fixture
def look_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the lookup for names of Secrets."""
    monkeypatch.setattr(user_data.Cluster, "of", lambda params, environ: FakeCluster())
    plugin = Plugin()
    return lambda *names, **options: plugin.run(list(names), {}, **{"namespace": "dc", **options})


def test_texts(look_up: Any) -> None:
    """The text of each Secret is returned, of another key when asked."""
    assert look_up("good") == ["#cloud-config\n# ü"]
    assert look_up("other-key", key="text") == ["x"]


@pytest.mark.parametrize("name", ["missing", "other-key", "broken", "binary"])
def test_secrets_that_have_none(look_up: Any, name: str) -> None:
    """What cannot be read is said with the Secret's name."""
    with pytest.raises(AnsibleError, match=rf"Secret dc/{name}: "):
        look_up(name)
