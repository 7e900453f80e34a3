# SPDX-License-Identifier: Apache-2.0
"""How the daemon's log looks: a line for people, or a JSON object for machines.

What is logged is not known here; whatever it is, secrets are taken out of it.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from .redact import masked, redacted

_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}


class HumanFormatter(logging.Formatter):
    """`12:00:01 INFO message`, coloured only on a terminal."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, with the traceback below it when there is one."""
        moment = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        level = f"{record.levelname:<7}"
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}\033[0m"
        text = f"{moment} {level} {redacted(record.getMessage(), limit=4096)}"
        return f"{text}\n{masked(self.formatException(record.exc_info))}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, and exception when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        entry = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": redacted(record.getMessage(), limit=4096),
        }
        if record.exc_info:
            entry["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(entry)


def configure(level: str, style: str) -> None:
    """Send the log to stderr; `style` is human, json, or auto (human on a terminal, else json)."""
    terminal = sys.stderr.isatty()
    human = style == "human" or (style == "auto" and terminal)
    handler = logging.StreamHandler()
    handler.setFormatter(HumanFormatter(colour=terminal) if human else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
