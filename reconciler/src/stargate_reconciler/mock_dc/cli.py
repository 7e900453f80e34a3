# SPDX-License-Identifier: Apache-2.0
"""`stargate-mock-dc`: flags and environment in, one mock datacenter until SIGTERM or Ctrl-C.

Every flag has an environment variable of the same name in capitals; the flag wins.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stargate_reconciler.mock_dc.server import MockDatacenter
from stargate_reconciler.mock_dc.settings import Faults, Settings
from stargate_reconciler.mock_dc.state import StateError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def seconds(text: str) -> float:
    """Return a duration such as 30s, 500ms, 2m, 1h or 30 in seconds; ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if not match:
        raise ValueError(text)
    return float(match[1]) * _UNITS[match[2]]


def share(text: str) -> float:
    """Return a number between 0 and 1; ValueError otherwise."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def positive(text: str) -> float:
    """Return a finite number greater than 0; ValueError otherwise."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def port(text: str) -> int:
    """Return a TCP port, 0 for any free one; ValueError otherwise."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError(text)
    return value


def flag(text: str) -> bool:
    """Return whether a text means yes."""
    return text.strip().lower() in ("1", "true", "yes", "on")


# flag, default, reader, help
_OPTIONS: tuple[tuple[str, str, Callable[[str], object], str], ...] = (
    ("dc-name", "mock-dc", str, "name of the datacenter, in /health and in the log"),
    ("host", "127.0.0.1", str, "address to listen on"),
    ("port", "8080", port, "port to listen on; 0 takes a free one"),
    ("repave-duration", "30s", seconds, "how long a repave takes (30s, 500ms, 2m)"),
    ("reboot-duration", "10s", seconds, "how long a reboot takes"),
    ("speed", "1", positive, "time scale: 10 makes jobs ten times as fast"),
    ("failure-rate", "0", share, "share of the jobs that fail, 0 to 1"),
    ("seed", "0", int, "the same seed and request ids let the same jobs fail"),
    ("state-file", "", Path, "file that keeps jobs over a restart"),
    ("token-file", "", Path, "file with the bearer token that clients must send"),
    ("tls-cert", "", Path, "certificate chain (PEM); serves https"),
    ("tls-key", "", Path, "key of the certificate (PEM)"),
    ("max-jobs", "10000", int, "ended jobs beyond this number are forgotten, oldest first"),
)


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings of flags and environment; exits with 2 and a sentence when one is wrong."""
    parser = argparse.ArgumentParser(prog="stargate-mock-dc", description=__doc__)
    for name, default, _reader, text in _OPTIONS:
        variable = name.upper().replace("-", "_")
        parser.add_argument(f"--{name}", default=environ.get(variable) or default, help=f"{text} [{variable}]")
    admin = flag(environ.get("ADMIN", ""))
    text = "serve /admin/faults, which makes things go wrong [ADMIN]"
    parser.add_argument("--admin", action="store_true", default=admin, help=text)
    given = vars(parser.parse_args(argv))
    values: dict[str, Any] = {}
    for name, _default, reader, help_text in _OPTIONS:
        key = name.replace("-", "_")
        try:
            values[key] = reader(given[key]) if given[key] or reader is not Path else None
        except ValueError:
            parser.error(f'--{name} does not understand "{given[key]}": {help_text}')
    if bool(values["tls_cert"]) != bool(values["tls_key"]):
        parser.error("--tls-cert and --tls-key need each other")
    faults = Faults(failure_rate=values.pop("failure_rate"), seed=values.pop("seed"))
    return Settings(**values, admin=given["admin"], faults=faults)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one mock datacenter; returns the exit code."""
    settings = read_settings(sys.argv[1:] if argv is None else argv, os.environ)

    def say(line: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {settings.dc_name} {line}\n")  # one write: many threads speak
        sys.stderr.flush()

    try:
        server = MockDatacenter(settings, say=say)
    except StateError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        print(f"Failed to serve on {where}: {error}. Choose another --port or stop what is there.", file=sys.stderr)
        return 1
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    kept = f", jobs kept in {settings.state_file}" if settings.state_file else ""
    say(f"listening on {server.url}{kept}")
    server.start()
    stop.wait()
    server.stop()
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
