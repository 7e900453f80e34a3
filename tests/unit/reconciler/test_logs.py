# SPDX-License-Identifier: Apache-2.0
"""How the log looks to people and to machines, and that nothing secret is in it.

What is logged is each module's own affair.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from stargate_reconciler import logs
from stargate_reconciler.logs import HumanFormatter, JsonFormatter

CANARY = "tskey-auth-canary"


def record(message: str = "hello %s", *, level: int = logging.INFO, failed: bool = False) -> logging.LogRecord:
    """Return a record with one argument, and the traceback of an error when asked."""
    error: Any = None
    if failed:
        try:
            int(f"bad {CANARY}")
        except ValueError:
            error = sys.exc_info()
    return logging.LogRecord("stargate.test", level, "f.py", 1, message, ("you",), error)


def test_line_for_people() -> None:
    """A line has the time, the level and the message, and colour on a terminal for what is bad only."""
    plain = HumanFormatter(colour=False).format(record(level=logging.ERROR))
    assert re.fullmatch(r"\d\d:\d\d:\d\d ERROR   hello you", plain)
    assert "\033[31mERROR" in HumanFormatter(colour=True).format(record(level=logging.ERROR))
    assert "\033" not in HumanFormatter(colour=True).format(record())


def test_line_for_machines() -> None:
    """A line is one JSON object with a UTC time."""
    entry = json.loads(JsonFormatter().format(record(level=logging.WARNING)))
    assert entry.pop("ts").endswith("+00:00")
    assert entry == {"level": "warning", "logger": "stargate.test", "msg": "hello you"}


@pytest.mark.parametrize("formatter", [HumanFormatter(colour=False), JsonFormatter()])
def test_tracebacks_without_secrets(formatter: logging.Formatter) -> None:
    """A traceback is shown whole, without what looks secret in it or in the message."""
    text = formatter.format(record(f"{CANARY} %s", failed=True))
    assert "Traceback" in text
    assert "bad [redacted]" in text
    assert "canary" not in text.replace("CANARY", "")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Return the root logger, which gets its handlers and level back."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


@pytest.mark.parametrize(
    ("style", "terminal", "kind"),
    [
        ("human", False, HumanFormatter),
        ("json", True, JsonFormatter),
        ("auto", True, HumanFormatter),
        ("auto", False, JsonFormatter),
    ],
)
def test_configure(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, style: str, terminal: bool, kind: type[logging.Formatter]
) -> None:
    """The style is a person's choice, else the terminal's; the clients' chatter is left out."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    logs.configure("debug", style)
    assert [type(handler.formatter) for handler in root.handlers] == [kind]
    assert root.level == logging.DEBUG
    assert logging.getLogger("urllib3").level == logging.ERROR
