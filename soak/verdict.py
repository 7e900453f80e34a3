# SPDX-License-Identifier: Apache-2.0
"""What must hold of hosts, processes and files: the witnesses of a soak, asked while it goes on and at its end.

The hosts' own work writes what happens to them; the reconcilers are not asked.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from soak import script
from soak.hosts import Host

MARKS = (b"STARGATE_OPERATION=", b"STARGATE_RUN_ID=")
"""What the environment of every process of a run has."""
REMEMBERED = 20
"""Steps that a host's journal surely still knows: it keeps a hundred of them."""
KEPT_RUNS = 50
"""Run directories that a reconciler keeps."""

Line = Sequence[str]
Entry = dict[str, Any]


def lack_of_evidence(host: Host | None, uid: str, act: str) -> str:
    """Return what is missing on a host for a success to be one, "" when nothing is."""
    if host is None:
        return "succeeded on a Server that is no host"
    ended = {line[3] for line in host.witnessed() if line[:2] == ["end", uid]}
    missing = [step for step in script.STEPS.get(act, ("anything",)) if step not in ended]
    return f"succeeded, but the host has not seen the end of {', '.join(missing)}" if missing else ""


def of_witness(host: Host) -> list[str]:
    """Return the violations that a host has witnessed: work side by side, a wipe begun twice, an impostor worked on."""
    lines = host.witnessed()
    found = [f"{host.name}: two pieces of work at the same time, at {line}" for line in lines if line[0] == "overlap"]
    found += [
        f"{host.name}: work on another machine with its address, {line}" for line in lines if line[0] == "impostor"
    ]
    begun = Counter((line[1], line[2]) for line in lines if line[0] == "begin" and line[3] == "wipe")
    found += [f"{host.name}: wiped {n} times in attempt {a} of {uid}" for (uid, a), n in begun.items() if n > 1]
    newest: dict[str, int] = defaultdict(int)
    for word, uid, attempt, step, *_ in lines:
        if word == "begin" and int(attempt) < newest[uid]:
            found.append(
                f"{host.name}: step {step} of attempt {attempt} of {uid} after attempt {newest[uid]} had begun"
            )
        newest[uid] = max(newest[uid], int(attempt))
    return found


def journal(host: Host) -> Entry:
    """Return a host's own journal, {} when it has none."""
    try:
        return dict(json.loads((host.directory / "lib" / "operation.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def of_journal(host: Host) -> list[str]:
    """Return the violations that a host's journal tells of, or the one that it cannot be read."""
    before = host.witnessed()  # what is older than the journal as it is read has to stand there
    try:
        history = list(journal(host).get("history") or [])
    except ValueError as error:
        return [f"{host.name}: its journal cannot be read: {error}"]
    found = [*_overlaps(history), *_twice(history), *_unseen(history, host.witnessed()), *_unwritten(history, before)]
    return [f"{host.name}: {line}" for line in found]


def _overlaps(history: Sequence[Entry]) -> Iterator[str]:
    spans = sorted((_moment(e["begun"]), _moment(e.get("ended")), e) for e in history if e.get("begun"))
    for (_, ended, entry), (begun, _, later) in itertools.pairwise(spans):
        if ended is None or ended > begun:
            yield f"journal entries overlap: {entry} and {later}"


def _twice(history: Sequence[Entry]) -> Iterator[str]:
    """Yield destructive steps that begin twice in an attempt, and steps that begin again although they were done."""
    begun_by = Counter((e["uid"], e["attempt"], e["step"]) for e in history if e.get("destructive"))
    yield from (f"the journal has {n} entries of {what}" for what, n in begun_by.items() if n > 1)
    done: set[tuple[str, str]] = set()
    for entry in history:
        what = entry["uid"], entry["step"]
        if what in done:
            yield f"done, and begun again in attempt {entry['attempt']}: {what}"
        if entry["state"] == "done":
            done.add(what)


def _unseen(history: Sequence[Entry], witnessed: Iterable[Line]) -> Iterator[str]:
    ended = {(line[1], line[3]) for line in witnessed if line[0] == "end"}
    done = {(e["uid"], e["step"]) for e in history if e["state"] == "done"}
    return (f"the journal says done, and nobody has seen it: {what}" for what in done - ended)


def _unwritten(history: Sequence[Entry], witnessed: Iterable[Line]) -> Iterator[str]:
    written = {(entry["uid"], str(entry["attempt"]), entry["step"]) for entry in history}
    begun = [(line[1], line[2], line[3]) for line in witnessed if line[0] == "begin"]
    return (f"begun, and not written down before: {what}" for what in begun[-REMEMBERED:] if what not in written)


def _moment(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def run_of(pid: int) -> str:
    """Return the id of the run that a process belongs to, "" when there is none."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((word.partition(b"=")[2].decode() for word in words if word.startswith(MARKS[1])), "")


def runs() -> set[str]:
    """Return the ids of the runs that have a process now."""
    return {run_of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - {""}


def marked(uids: Iterable[str] = ()) -> list[str]:
    """Return the processes in the enclosure that belong to a run, of some Operations only when `uids` are given."""
    wanted = [uid.encode() for uid in uids]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environ = (entry / "environ").read_bytes()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if any(mark in environ for mark in MARKS) and (not wanted or any(uid in environ for uid in wanted)):
            found.append(f"{entry.name} {words.decode(errors='replace')[:160]}")
    return found


def zombies(pid: int) -> list[str]:
    """Return the dead children of a process that it has not taken leave of."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace") if entry.name.isdigit() else ""
        except OSError:
            continue
        before, _, after = text.rpartition(")")
        if after.split()[:2] == ["Z", str(pid)]:
            found.append(before.partition("(")[2])
    return found


def of_runs(directory: Path) -> list[str]:
    """Return whether a reconciler keeps more run directories than it should."""
    count = len(list(directory.glob("*"))) if directory.is_dir() else 0
    return [f"{directory}: {count} run directories are kept"] if count > KEPT_RUNS + 4 else []


def of_canaries(places: Iterable[Path], canaries: Iterable[str]) -> list[str]:
    """Return the files below some places that have a secret in them."""
    wanted = [canary.encode() for canary in canaries]
    files = [file for place in places for file in place.rglob("*") if file.is_file() and not file.is_symlink()]
    return [f"a secret stands in {file}" for file in files if any(canary in file.read_bytes() for canary in wanted)]
