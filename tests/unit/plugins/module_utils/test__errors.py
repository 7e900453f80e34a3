# SPDX-License-Identifier: Apache-2.0
"""The kinds of failure and their fields.

Who raises them, and when, is tested where it happens.
"""

from __future__ import annotations

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Denied, StargateError, clipped


def test_a_kind_brings_its_code_and_both_can_be_changed() -> None:
    """Code and retryable come from the kind unless they are given."""
    assert Conflict("Failed.").failure() == {"code": "Conflict", "details": "", "retryable": True}
    error = Denied("Failed.", code="Odd", details="why\nnot", retryable=True)
    assert error.failure() == {"code": "Odd", "details": "why not", "retryable": True}
    assert (str(error), StargateError("x").code) == ("Failed.", "Error")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\n\tb  c", "a b c"), ("x" * 300, "x" * 255 + "…"), ("\x1b[31mred", "[31mred"), ("", "")],
)
def test_clipped(text: str, expected: str) -> None:
    """Foreign text becomes one short printable line."""
    assert clipped(text) == expected
