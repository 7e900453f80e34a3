# SPDX-License-Identifier: Apache-2.0
"""What is asked of the local API server, and what becomes of its answers.

Answers are given; a real API server is in tests/integration/test_joinable.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.api import Api

MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}
HERE = Api("127.0.0.1", 1, Path("/nowhere"))


def answer(monkeypatch: pytest.MonkeyPatch, status: int, text: str = "") -> list[tuple[Any, ...]]:
    """Give one answer to everything; returns what is asked."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Api, "_ask", lambda _self, *words: asked.append(words) or (status, text))
    return asked


def test_objects_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request makes or mends an object, whoever else writes into it."""
    asked = answer(monkeypatch, 201)
    HERE.apply(MANIFEST)
    (method, path, body) = asked[0]
    assert (method, path) == (
        "PATCH",
        "/api/v1/namespaces/b/configmaps/a?fieldManager=stargate-control-plane&force=true",
    )
    assert b'"name": "a"' in body


def test_refusal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is not taken is named with the server's words."""
    answer(monkeypatch, 403, "no way")
    with pytest.raises(WorldError, match=r"Failed to apply ConfigMap a: no way \(403\)"):
        HERE.apply(MANIFEST)


def test_no_answer() -> None:
    """Without keys or server there is a reason instead of an answer."""
    status, text = HERE.get("/readyz")
    assert (status, bool(text)) == (0, True)
    with pytest.raises(WorldError, match=r"Failed to apply ConfigMap a: .* \(0\)"):
        HERE.apply(MANIFEST)
