# SPDX-License-Identifier: Apache-2.0
"""Which Operation a process works for, who supersedes whom, and that all processes of one are found and ended.

The processes are real ones; each test has an Operation of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _operation as operations
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._operation import Operation

DOUBLE_FORK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for n in range(3): os.close(n)
        time.sleep(60)
    os._exit(0)
os.wait()
time.sleep(60)
"""


@pytest.fixture
def operation() -> Iterator[Operation]:
    """Return an Operation that nobody else has; nothing of it is left afterwards."""
    made = Operation(str(uuid.uuid4()), 1)
    yield made
    operations.end(lambda other: other.uid == made.uid)


@pytest.fixture
def started(operation: Operation) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return what starts a process that works for the Operation."""
    made: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **more: str) -> subprocess.Popen[bytes]:
        environ = {**os.environ, operations.VARIABLE: operation.text(), **more}
        made.append(subprocess.Popen(argv, env=environ, start_new_session=True))
        time.sleep(0.3)
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        (" ", None),
        ('{"uid": "u", "attempt": 2}', Operation("u", 2)),
        ('{"uid": "u", "attempt": "2", "fence": "7", "authority": "a"}', Operation("u", 2, 7, "a")),
        ('{"uid": "u", "attempt": 1, "fence": null, "authority": null}', Operation("u", 1)),
    ],
)
def test_read_from_the_environment(text: str, wanted: Operation | None) -> None:
    """What a play has put into the environment is read; nothing, or an empty text, is no Operation."""
    assert operations.current({operations.VARIABLE: text}) == wanted


@pytest.mark.parametrize("text", ["x", "[]", "1", '{"uid": "u"}', '{"uid": "../u", "attempt": 1}', '{"attempt": 1}'])
def test_nonsense_is_refused(text: str) -> None:
    """A text that names no Operation is a mistake, and is not taken for none."""
    with pytest.raises(Invalid):
        operations.parsed(text)


@pytest.mark.parametrize(
    ("new", "old", "wanted"),
    [
        (("u", 2), ("u", 1), True),
        (("u", 1), ("u", 2), False),
        (("u", 1), ("u", 1), False),
        (("v", 9), ("u", 1), False),
        (("v", 1, 4, "a"), ("u", 1, 3, "a"), True),
        (("u", 2, 3, "a"), ("u", 1, 4, "a"), False),
        (("v", 1, 4, "a"), ("u", 1, 3, "b"), False),
        (("v", 1, 4, ""), ("u", 1, 3, ""), False),
    ],
)
def test_who_supersedes_whom(new: tuple[Any, ...], old: tuple[Any, ...], wanted: bool) -> None:
    """A later attempt does, and a later leader of the same Lease; numbers of different Leases say nothing."""
    assert Operation(*new).supersedes(Operation(*old)) is wanted


def test_all_of_an_operation_is_ended(operation: Operation, started: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Processes in sessions of their own, forked twice, and below one whose environment was cleared, are ended."""
    started(sys.executable, "-c", DOUBLE_FORK)
    started("/bin/sh", "-c", "env -i sleep 60; true")
    assert len(operations.processes(operation.__eq__)) == 4
    assert operations.end(operation.__eq__) == set()
    assert operations.processes(operation.__eq__) == set()


def test_others_and_machines_are_spared(operation: Operation, started: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Another attempt's processes, and local machines, are left alone."""
    process = started("sleep", "60")
    machine = started("sleep", "60", STARGATE_MACHINE="m")
    operations.end(lambda other: other.uid == operation.uid and other.attempt == 2)
    assert process.poll() is None
    operations.end(operation.__eq__)
    assert (process.wait(5), machine.poll()) == (-9, None)
