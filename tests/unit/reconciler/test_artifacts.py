# SPDX-License-Identifier: Apache-2.0
"""What is kept of a run's output, and what is not.

That nothing else keeps it is looked for in tests/integration/test_secrets.py.
"""

from __future__ import annotations

from pathlib import Path

from stargate_reconciler import artifacts


def test_output_is_kept_without_secrets(tmp_path: Path) -> None:
    """Output is kept readable for its owner only, known and shaped secrets taken out, other files left behind."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "stdout").write_bytes(b"one canary-known, abcdef.0123456789abcdef\n\xff two")
    (source / "rc").write_text("2")
    (source / "command").write_text("canary-known")
    artifacts.keep(source, tmp_path / "kept", ["canary-known"])
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"stdout", "rc"}
    assert (tmp_path / "kept/stdout").read_text() == "one [redacted], [redacted]\n\ufffd two"
    assert (tmp_path / "kept/stdout").stat().st_mode & 0o777 == 0o600


def test_output_is_bounded(tmp_path: Path) -> None:
    """Of a very long output the end is kept."""
    (tmp_path / "stdout").write_text("x" * artifacts.LONGEST + "end")
    artifacts.keep(tmp_path, tmp_path / "kept", [])
    kept = (tmp_path / "kept/stdout").read_text()
    assert (len(kept), kept[-3:]) == (artifacts.LONGEST, "end")
