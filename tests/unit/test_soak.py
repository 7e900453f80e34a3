# SPDX-License-Identifier: Apache-2.0
"""The soak's own judgement: its script is its seed's, and its witnesses notice what they are there for.

The soak itself is in tests/integration/test_soak.py.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from soak import __main__ as program
from soak import mutants, script, verdict
from soak.history import History, Life
from soak.hosts import Host
from soak.proxy import Request
from soak.rules import SmallFaults


def host(directory: Path, *lines: str, history: list[dict[str, object]] | None = None) -> Host:
    """Return a host whose disk has a witness's lines and a journal."""
    found = Host(1, directory, "")
    for part in ("lib", "mnt"):
        (directory / part).mkdir(parents=True)
    (found.mnt / "witness").write_text("".join(f"{line} 100 5.0\n" for line in lines), encoding="utf-8")
    journal = {"current": {}, "history": history or [], "fences": {}}
    (directory / "lib" / "operation.json").write_text(json.dumps(journal), encoding="utf-8")
    return found


def entry(step: str, begun: int, ended: int | None, *, attempt: int = 1, state: str = "failed") -> dict[str, object]:
    """Return an entry of a journal, with seconds of one minute."""
    times = [None if second is None else f"2026-01-01T00:00:{second:02}.000000+00:00" for second in (begun, ended)]
    said = {"uid": "u", "attempt": attempt, "step": step, "destructive": step == "wipe", "state": state}
    return {**said, "begun": times[0], "ended": times[1]}


def test_a_seed_is_a_script() -> None:
    """The same seed gives the same Operations and faults, another one others."""
    first, again, other = (
        [
            list(islice(script.orders(seed), 200)),
            list(islice(script.large(seed, mean_gap=1), 200)),
            list(islice(script.small(seed, 0), 200)),
            list(islice(script.watch(seed, 1), 200)),
        ]
        for seed in (5, 5, 6)
    )
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_every_fault_comes() -> None:
    """No fault and no kind of Operation is so rare that a long soak may do without it."""
    assert {fault.kind for fault in islice(script.large(1, mean_gap=1), 2000)} == set(script.LARGE)
    assert {fault.kind for fault in islice(script.leadership(1, mean_gap=1), 200)} == set(script.LEADERSHIP)
    assert {fault.kind for fault in islice(script.small(1, 0), 2000)} == set(script.SMALL)
    assert {order.kind for order in islice(script.orders(1), 2000)} == {*script.KINDS, *script.HOSTILE}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (("overlap u 1 wipe", "begin u 1 wipe"), "at the same time"),
        (("impostor u 1 wipe", "begin u 1 wipe"), "another machine"),
        (("begin u 1 wipe", "begin u 1 wipe"), "wiped 2 times"),
        (("begin u 2 prepare", "begin u 1 wipe"), "of attempt 1"),
        (("begin u 1 wipe", "end u 1 wipe", "begin v 1 wipe", "begin u 2 wipe", "end u 2 wipe"), ""),
    ],
)
def test_the_witness_is_heard(tmp_path: Path, lines: tuple[str, ...], complaint: str) -> None:
    """Work side by side, on a stranger, a second wipe and a late attempt are violations; resuming is not."""
    found = verdict.of_witness(host(tmp_path, *lines))
    assert (len(found), all(complaint in line for line in found)) == (bool(complaint), True)


@pytest.mark.parametrize(
    ("history", "complaint"),
    [
        ([entry("prepare", 1, 5), entry("wipe", 4, 6)], "overlap"),
        ([entry("prepare", 1, None), entry("wipe", 4, 6)], "overlap"),
        ([entry("wipe", 1, 2), entry("wipe", 3, 4)], "2 entries"),
        ([entry("prepare", 1, 2), entry("wipe", 2, 3), entry("wipe", 4, None, attempt=2)], ""),
        ([entry("check", 1, 2, state="done"), entry("check", 3, 4, attempt=2)], "done, and begun again"),
        ([entry("wipe", 1, 2, state="done")], "nobody has seen it"),
        ([], "not written down"),
    ],
)
def test_the_journal_is_read(tmp_path: Path, history: list[dict[str, object]], complaint: str) -> None:
    """Overlaps, steps that begin twice, are done again, were never seen or never written down are violations."""
    lines = ["begin u 1 check", "end u 1 check"] if not history or history[0]["step"] == "check" else []
    found = verdict.of_journal(host(tmp_path, *lines, history=history))
    assert (len(found), all(complaint in line for line in found)) == (bool(complaint), True)


def test_success_needs_the_work(tmp_path: Path) -> None:
    """A success whose host has not seen the end of every step is a lie."""
    machine = host(tmp_path, "end u 1 prepare", "begin u 1 wipe")
    assert "wipe" in verdict.lack_of_evidence(machine, "u", "soak-two")
    assert "no host" in verdict.lack_of_evidence(None, "u", "soak-two")


def said(life: Life, **status: object) -> list[str]:
    """Return what a history complains of when an Operation says something."""
    history = History.__new__(History)
    history.violations = []
    history._evidence = lambda _: ""
    history._compare(life, {"spec": {}, "status": status})
    return history.violations


def test_history_is_not_rewritten() -> None:
    """An end that changes, an attempt that goes back and a reason that cannot be are violations."""
    life = Life("u", "two-1-50", "host-001", "soak-two", phase="Failed", attempts=2)
    assert "became Running" in said(life, phase="Running", attempts=2)[0]
    assert "went back" in said(life, phase="Running", attempts=1)[0]
    cancelled = [{"type": "Failed", "status": "True", "reason": "Cancelled"}]
    assert "cannot be" in said(life, phase="Failed", attempts=1, conditions=cancelled)[0]


def test_faults_of_requests_wait_for_their_request() -> None:
    """A conflict waits for a write of a status, and nothing is done once it is calm."""
    rule = SmallFaults(1, 0)
    read = Request(0, "GET", "/apis/stargate.io/v1alpha1/namespaces/soak/operations?limit=500", b"")
    write = Request(0, "PATCH", "/apis/stargate.io/v1alpha1/namespaces/soak/operations/x/status", b"")
    done = {
        deed.name
        for _ in range(400)
        for request in (read, write)
        for deed in (rule.before(request), rule.after(request, 200))
    }
    assert {"api-touch", "api-429", "api-500", "lost-answer-of-write"} <= done
    rule.calm = True
    assert {rule.before(write).kind for _ in range(50)} == {"pass"}


def test_some_kinds_only() -> None:
    """Of Operations and of what watches meet, some kinds may be chosen."""
    assert {order.kind for order in islice(script.orders(1, ("slow", "two")), 50)} == {"slow", "two"}
    assert {fault.kind for fault in islice(script.watch(1, 0, ("silent",)), 50)} == {"silent"}


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        ("--seed 7", ""),
        ("--seed 1 --output x.json --docs --minutes 80 --seed 7", ' ARGS="--minutes 80"'),
        ("--only power-cut --work slow --seed 7", ' ARGS="--only power-cut --work slow"'),
    ],
)
def test_how_it_is_played_again(words: str, rest: str) -> None:
    """The command that repeats a play has all that makes it this play."""
    asked = program.arguments(words.split())
    assert program.again(words.split(), asked) == f"make soak SEED=7 FAULTS=10000 OPS=2000{rest}"


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_guards_are_where_mutants_look(mutant: mutants.Mutant) -> None:
    """The guard that a mutant takes out stands exactly once in its file."""
    base = mutants.ROOT / "reconciler/src" if mutant.file.startswith(mutants.DAEMON) else mutants.ROOT
    text = (base / mutant.file.removeprefix(f"{mutants.COLLECTION}/")).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
