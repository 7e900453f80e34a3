# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of the local control plane's parts.

Only what several of them share.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.reconciler.local.server import FileServer


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A file server on loopback."""
    running = FileServer()
    yield running
    running.close()
