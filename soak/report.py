# SPDX-License-Identifier: Apache-2.0
"""What came of a soak, for programs (build/soak.json), for the terminal, and as the table of docs/reliability.md.

Only words and numbers; nothing is judged here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from soak.scene import Outcome
from soak.world import say

BEGIN, END = "<!-- record: written by scripts/soak --docs, not by hand -->", "<!-- end of the record -->"

FAULTS = {
    "kill-reconciler": "kill -9 of a reconciler, the leader more often than not",
    "drain-reconciler": "SIGTERM to a reconciler, with 3 s for its runs",
    "freeze-leader": "SIGSTOP of the leader for twice its Lease and more, while its runs go on, then SIGCONT",
    "cut-off-reconciler": "one reconciler's way to the API server refuses connections, up to 9 s",
    "end-connections": "all connections of a reconciler to the API server end at once",
    "kill-ansible": "kill -9 of an ansible-playbook",
    "kill-worker": "kill -9 of a worker of an ansible-playbook",
    "kill-guard": "kill -9 of the process between reconciler and ansible-playbook",
    "kill-ssh": "kill -9 of an SSH client or of a shared connection",
    "kill-module": "kill -9 of a process of a module on a host",
    "restart-sshd-sessions": "kill -9 of every SSH session on a host; its work is left on its own",
    "hang-host": "SIGSTOP of everything on a host",
    "power-cut": "a host's power is cut; its disk stays, its boot id changes",
    "power-cut-in-wipe": "a host dies as the first act of its destructive step",
    "link-down": "a host's cable is out, up to 6 s",
    "link-down-in-wipe": "the cable goes as the first act of the destructive step: begun, and no answer comes",
    "link-one-way": "nothing reaches a host that still can speak",
    "other-machine": "another machine, with another host key, answers at a host's address",
    "disk-full": "the disk with the run directories is full",
    "delete-operation": "an Operation is deleted while it runs",
    "edit-operation": "an Operation is edited while it runs",
    "cancel-operation": "an Operation is cancelled",
    "recreate-operation": "an Operation is deleted and created again under its name while it runs",
    "hide-server": "a Server is deleted and comes back, without its status",
    "hide-profile": "a ProvisioningProfile is deleted and comes back",
    "hide-secret": "the Secret with the SSH key is deleted and comes back",
    "touch-server": "a Server's labels are changed by somebody else",
    "api-touch": "409: the object was changed just before the write",
    "api-429": "429 Too Many Requests",
    "api-500": "500 from the API server, nothing was done",
    "api-refuse": "a connection that ends before the request is passed on",
    "api-lose": "a read whose answer is lost",
    "lost-answer-of-write": "a write that was done and whose answer is lost",
    "api-wait": "a request that is passed on late",
    "api-late": "an answer that comes late",
    "api-stale": "a list as it was some time ago, from a replica that lags",
    "watch-close": "a watch that the server closes",
    "watch-lose": "a watch whose connection breaks",
    "watch-gone": "410 Gone to a watch",
    "watch-silent": "a watch that says nothing for up to 3 s and is closed",
}
"""What each kind of fault is."""


def content(outcome: Outcome) -> dict[str, object]:
    """Return the results for programs."""
    stops, plan = outcome.stops, outcome.plan
    return {
        "seed": plan.seed,
        "operations": outcome.operations,
        "faults": outcome.faults,
        "violations": outcome.violations,
        "stop_p99_s": round(stops.quantile(0.99), 3) if stops else None,
        "stop_p50_s": round(stops.quantile(0.5), 3) if stops else None,
        "cancels": len(stops.seconds) if stops else 0,
        "survivors": outcome.survivors,
        "seconds": round(outcome.seconds),
        "injected": dict(sorted(outcome.injected.items())),
        "ended": outcome.ended,
        "again": plan.again,
    }


def write(target: Path, outcome: Outcome) -> None:
    """Write the results for programs."""
    target.write_text(json.dumps(content(outcome), indent=1) + "\n", encoding="utf-8")


def table(said: dict[str, Any], about: str) -> str:
    """Return the record of a soak, as its results for programs have it, the way docs/reliability.md shows it."""
    first = (
        f"`{said['again']}`, {about}: {said['operations']} Operations, {said['faults']} faults, "
        f"**{len(said['violations'])} violations**, {said['survivors']} survivors, {said['seconds']} s. "
        f"{said['cancels']} cancels: p50 {said['stop_p50_s']} s, p99 {said['stop_p99_s']} s until nothing was left."
    )
    rows = [f"| {kind} | {what} | {said['injected'].get(kind, 0)} |" for kind, what in FAULTS.items()]
    return "\n".join([first, "", "| fault | what it is | times it hit |", "|---|---|---|", *rows])


def put_into(document: Path, text: str) -> None:
    """Replace the record in a document."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def tell(outcome: Outcome) -> int:
    """Print what came of it; returns the exit code."""
    for kind, count in sorted(outcome.injected.items()):
        say(f"  {kind:24} {count:6}  {FAULTS.get(kind, '')}")
    for line in outcome.violations[:40]:
        say(f"VIOLATION: {line}")
    say(f"ended: {outcome.ended}")
    say(
        f"{outcome.operations} Operations, {outcome.faults} faults, {len(outcome.violations)} violations, "
        f"{outcome.survivors} survivors in {outcome.seconds:.0f} s"
    )
    say(f"again: {content(outcome)['again']}")
    return 1 if outcome.violations else 0
