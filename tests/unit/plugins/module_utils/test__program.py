# SPDX-License-Identifier: Apache-2.0
"""Programs of the host: what they say, how they fail, and which package brings one that is missing.

Real programs that every system has.
"""

from __future__ import annotations

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError, Timeout
from ansible_collections.stargate.core.plugins.module_utils._program import available, found, run


def test_output() -> None:
    """What a program writes is returned."""
    assert run(["printf", "%s", "a b"], doing="print") == "a b"


@pytest.mark.parametrize(
    ("script", "code", "retryable", "sentence"),
    [
        ("echo one >&2; echo two. >&2; exit 3", "ProgramFailed", False, "Failed to try: sh ended with 3: two."),
        ("echo out; exit 1", "ProgramFailed", False, "Failed to try: sh ended with 1: out."),
        ("exit 1", "ProgramFailed", False, "Failed to try: sh ended with 1: it said nothing."),
        ("echo 'x: No space left on device' >&2; exit 1", "DiskFull", True, None),
    ],
)
def test_failures(script: str, code: str, retryable: bool, sentence: str | None) -> None:
    """The last thing that a program says is its cause; a full disk may be over later."""
    with pytest.raises(StargateError) as caught:
        run(["sh", "-c", script], doing="try")
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert sentence in (None, caught.value.message)


def test_patience() -> None:
    """A program that does not end is ended."""
    with pytest.raises(Timeout, match="sleep did not end in 0 seconds"):
        run(["sleep", "60"], doing="wait", timeout=0.1)


def test_missing_programs() -> None:
    """The first of the programs that is there is taken; of none, the first one's Debian package is named."""
    assert found("no-such-program", "sh", doing="try").endswith("/sh")
    assert available("no-such-program") == ""
    with pytest.raises(Invalid, match="no-such-program is not installed") as caught:
        found("no-such-program", doing="try")
    assert (caught.value.code, caught.value.retryable) == ("ProgramMissing", False)
