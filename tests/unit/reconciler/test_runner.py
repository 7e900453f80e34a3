# SPDX-License-Identifier: Apache-2.0
"""From ansible-runner's events to one Result per host, as a table; the process itself in the tests at the end.

What a Result means for an Operation is test_plan.py's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.reconciler.fakes import Heard, job, playbook
from tests.waiting import until

from stargate_reconciler import guard, inventory
from stargate_reconciler.inventory import write_run
from stargate_reconciler.model import Outcome, Result
from stargate_reconciler.runner import MARK, Order, Run
from stargate_reconciler.settings import Settings

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-line-of-a-key\n-----END OPENSSH PRIVATE KEY-----"
RUN = f"run-{os.getpid()}"
"""A run of this process alone: what carries the mark of a run is ended with it, whichever test it belongs to."""
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let private directories be made where the test can look."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(inventory, "TMPFS", (tmp_path / "shm",))


def make(tmp_path: Path, *names: str, path: str = "/p/repave.yml", **settings: Any) -> tuple[Run, Heard]:
    """Return a run of an Operation on each of these Servers, not started, and who listens to it."""
    jobs = [replace(job(f"o-{name}", name, key=KEY), playbook=path) for name in names or ("s1",)]
    heard = Heard()
    chosen = Settings(runs_dir=tmp_path / "runs", **settings)
    order = Order(RUN, jobs, write_run(chosen, RUN, jobs), 2, chosen)
    return Run(order, heard), heard


def event(kind: str, host: str = "s1", **data: Any) -> Event:
    """Return an event of a task on a host."""
    task = {"task": "Join", "task_action": "ansible.builtin.command", "host": f"{host}.dc-west"}
    return {"event": kind, "event_data": {**task, **data}}


def failed(res: Event, **data: Any) -> Event:
    """Return the event of a failed task."""
    return event("runner_on_failed", res=res, **data)


def told(host: str = "s1", **stargate: Any) -> Event:
    """Return the event of a set_stats with these keys."""
    return event("runner_on_ok", host, res={"ansible_stats": {"data": {"stargate": stargate}}})


def stats(**groups: list[str]) -> Event:
    """Return the final statistics; every host counts as processed."""
    named = {group: {f"{host}.dc-west": 1 for host in hosts} for group, hosts in groups.items()}
    processed = {host: 1 for hosts in named.values() for host in hosts}
    return {"event": "playbook_on_stats", "event_data": {"processed": processed, **named}}


def results(tmp_path: Path, events: list[Event], *, code: int | None = 0, stopped: bool = False) -> dict[str, Result]:
    """Feed a run of s1 and s2 with events and let it end with an exit code; returns the results by Server."""
    run, heard = make(tmp_path, "s1", "s2")
    for item in events:
        assert run._event(item) is False
    if stopped:
        run._stopped.set()
    run._execute = lambda: code  # type: ignore[method-assign]  # the process is not what is shown here
    run._run()
    assert (heard.count, len(heard.ended), run.wait(0)) == (2, 1, True)
    assert not run.order.files.private.exists()
    return heard.results


DOWN = failed({"msg": "no route"})
BOTH_OK = stats(ok=["s1", "s2"])


@pytest.mark.parametrize(
    ("events", "code", "expected"),
    [
        ([BOTH_OK], 0, ("succeeded", "", True)),
        ([failed({"msg": "It broke"}), stats(failures=["s1"], ok=["s2"])], 2, ("failed", "TaskFailed", True)),
        ([failed({}, task_action="ansible.builtin.fail"), stats(failures=["s1"])], 2, ("failed", "Refused", False)),
        ([failed({}, task_action="assert"), stats(failures=["s1"])], 2, ("failed", "Refused", False)),
        (
            [failed({"failure": {"code": "NoQuota", "retryable": False}}), stats(failures=["s1"])],
            2,
            ("failed", "NoQuota", False),
        ),
        (
            [
                failed({"failure": {"code": "Busy", "retryable": True}}, task_action="ansible.builtin.fail"),
                stats(failures=["s1"]),
            ],
            2,
            ("failed", "Busy", True),
        ),
        ([failed({"failure": "odd"}), stats(failures=["s1"])], 2, ("failed", "TaskFailed", True)),
        ([failed({"msg": "m"}, ignore_errors=True), BOTH_OK], 0, ("succeeded", "", True)),
        ([DOWN, BOTH_OK], 0, ("succeeded", "", True)),
        ([stats(failures=["s1"])], 2, ("failed", "TaskFailed", True)),
        (
            [event("runner_on_unreachable", res={"msg": "timed out"}), stats(dark=["s1"])],
            4,
            ("unreachable", "Unreachable", True),
        ),
        (
            [
                event("runner_on_unreachable", res={"msg": "REMOTE HOST IDENTIFICATION HAS CHANGED!"}),
                stats(dark=["s1"]),
            ],
            4,
            ("unreachable", "HostKeyChanged", False),
        ),
        ([stats(ok=["s2"])], 0, ("empty", "NoResult", False)),
        ([stats()], 0, ("empty", "NoResult", False)),
        ([], 4, ("crashed", "PlaybookError", False)),
        ([], 0, ("crashed", "PlaybookError", False)),
        ([], 137, ("crashed", "RunCrashed", True)),
        ([], -9, ("crashed", "RunCrashed", True)),
        ([], None, ("crashed", "RunCrashed", True)),
        ([], guard.UNSTARTED, ("crashed", "RunCrashed", True)),
        ([], guard.STOPPED, ("interrupted", "Interrupted", True)),
        ([told(final=True), failed({"msg": "late"}), stats(failures=["s1"])], 2, ("succeeded", "", True)),
        ([told(final=True)], 137, ("succeeded", "", True)),
        ([DOWN, told(failed=True, message="Gave up.")], 137, ("failed", "TaskFailed", True)),
        ([told(failed=True, message="No.", retryable=False), BOTH_OK], 0, ("failed", "TaskFailed", False)),
        ([DOWN, told(failed=True, reason="BootTimeout")], 2, ("failed", "BootTimeout", True)),
        ([DOWN, told(failed=True, reason="{{ odd }}")], 2, ("failed", "TaskFailed", True)),
        (
            [failed({"failure": {"code": "NoQuota", "retryable": False}}), told(failed=True)],
            2,
            ("failed", "NoQuota", False),
        ),
    ],
)
def test_verdicts(tmp_path: Path, events: list[Event], code: int | None, expected: tuple[str, str, bool]) -> None:
    """Each way in which a host can end has an outcome, a reason, and a word on whether trying again can help."""
    found = results(tmp_path, events, code=code)["s1"]
    assert (str(found.outcome), found.reason, found.retryable) == expected


@pytest.mark.parametrize("events", [[], [BOTH_OK], [DOWN, stats(failures=["s1", "s2"])]])
def test_a_stopped_run_is_interrupted(tmp_path: Path, events: list[Event]) -> None:
    """Whatever a run that was told to stop has still said, its hosts without a result are interrupted."""
    found = results(tmp_path, [told("s2", final=True), *events], stopped=True)
    assert [str(found[name].outcome) for name in ("s1", "s2")] == ["interrupted", "succeeded"]


@pytest.mark.parametrize(
    ("res", "words"),
    [
        ({"msg": "It broke", "stderr": "e"}, "It broke"),
        ({"stderr": "to stderr", "stdout": "o"}, "to stderr"),
        ({"stdout": "to stdout"}, "to stdout"),
        ({"msg": "non-zero return code", "rc": 7, "stderr": "e"}, "7: e"),
        ({"msg": "non-zero return code", "rc": 7, "stdout": "o"}, "7: o"),
        ({}, "gave no message"),
        ({"msg": f"saw {KEY}"}, "saw [redacted]"),
        ({"msg": "saw canary-line-of-a-key"}, "saw [redacted]"),
    ],
)
def test_words_of_a_failure(tmp_path: Path, res: Event, words: str) -> None:
    """A failure says what its task said, without the run's own secrets, and names the task."""
    found = results(tmp_path, [failed(res), stats(failures=["s1"])], code=2)["s1"]
    assert words in found.message
    assert "canary" not in found.message
    assert found.task == "Join"


def test_hosts_end_on_their_own(tmp_path: Path) -> None:
    """A host that is final or has failed for good has its Result at once, while the run goes on for the others."""
    run, heard = make(tmp_path, "s1", "s2", "s3")
    run._event(told("s1", final=True, os="k8s-1.34", nodeName="s1", podCIDR="10.244.1.0/24", other="x"))
    assert heard.results["s1"].facts == {"os": "k8s-1.34", "nodeName": "s1", "podCIDR": "10.244.1.0/24"}
    run._event(event("runner_on_failed", "s2", res={"msg": "It broke"}))
    assert "s2" not in heard.results
    run._event(told("s2", failed=True, task="Join cluster", message="It broke."))
    assert (heard.results["s2"].task, heard.results["s2"].message) == ("Join cluster", "It broke.")
    assert heard.ended == []


def test_facts_of_earlier_steps_are_kept(tmp_path: Path) -> None:
    """What was learned step by step is all in the Result, as text, the latest word for each."""
    found = results(tmp_path, [told(dcJobID="j1", os="a"), told(os="b", podCIDR=None, nodeName=7), BOTH_OK])["s1"]
    assert found.facts == {"dcJobID": "j1", "os": "b", "nodeName": "7"}


def test_stages(tmp_path: Path) -> None:
    """A step is the role and the task, or what the playbook says; a job's id goes along."""
    run, heard = make(tmp_path)
    run._event(event("runner_on_start", role="kubeadm_join"))
    run._event(event("runner_on_start", task="Ping"))
    run._event(told(stage="waiting for the job", dcJobID="j1"))
    assert heard.stages == [
        ("s1", "kubeadm_join: Join", {}),
        ("s1", "Ping", {}),
        ("s1", "waiting for the job", {"stage": "waiting for the job", "dcJobID": "j1"}),
    ]


def test_steps_that_are_none(tmp_path: Path) -> None:
    """A step that is skipped gives way to the one before, and what Ansible puts before a role's own is not shown."""
    run, heard = make(tmp_path)
    for kind, task in [
        ("start", "Drain"),
        ("ok", "Drain"),
        ("start", "Renew"),
        ("skipped", "Renew"),
        ("start", "Wait"),
        ("skipped", "Wait"),
        ("start", "Validating arguments against arg spec 'main' - Make a machine able"),
        ("start", "Join"),
    ]:
        run._event(event(f"runner_on_{kind}", task=task))
    assert [stage for _, stage, _ in heard.stages] == ["Drain", "Renew", "Drain", "Wait", "Drain", "Join"]


@pytest.mark.parametrize(
    "item",
    [
        event("runner_on_start", "stranger"),
        event("runner_on_ok", res={}),
        event("runner_on_ok", res=None),
        event("runner_on_ok", res={"ansible_stats": {"data": {"stargate": "odd"}}}),
        event("runner_on_ok", res={"ansible_stats": {"data": {"other": {"final": True}}}}),
        event("runner_item_on_failed", res={"msg": "one of many"}),
        {"event": "playbook_on_start"},
        {},
    ],
)
def test_other_events_say_nothing(tmp_path: Path, item: Event) -> None:
    """Events of other hosts and kinds are passed over."""
    run, heard = make(tmp_path)
    run._event(item)
    assert (heard.stages, heard.results) == ([], {})


def test_nothing_after_the_result(tmp_path: Path) -> None:
    """What a host does after its Result is not heard, and it has only one."""
    run, heard = make(tmp_path)
    for item in (told(final=True), event("runner_on_start"), told(failed=True), told(final=True)):
        run._event(item)
    assert (heard.count, heard.stages) == (1, [])


def test_last_words_of_a_crash(tmp_path: Path) -> None:
    """A playbook that cannot be run says why, from the last lines of the process."""
    lines: list[Event] = [{"event": "verbose", "stdout": f"line {n}"} for n in range(30)]
    found = results(tmp_path, [*lines, {"event": "error", "stdout": "ERROR! no such role"}], code=1)["s1"]
    assert "ERROR! no such role" in found.message
    assert "line 5 " not in found.message


@pytest.mark.parametrize("cause", ["No space left on device", "Too many open files", "Cannot allocate memory"])
def test_a_machine_that_has_run_out_of_something(tmp_path: Path, cause: str) -> None:
    """That the reconciler's own machine is full is nobody's mistake in a playbook: it is tried again, and said."""
    words: list[Event] = [{"event": "error", "stdout": f"ERROR! Unable to create local directories: [Errno 1] {cause}"}]
    found = results(tmp_path, words, code=1)["s1"]
    assert (found.reason, found.retryable) == ("RunCrashed", True)
    assert cause in found.message


def test_start_that_fails(tmp_path: Path) -> None:
    """A process that cannot be started is a crash of the run: each host has a result, and nothing private stays."""
    run, heard = make(tmp_path)
    (run.order.files.private / "cp").mkdir()
    run._run()
    assert (heard.results["s1"].outcome, heard.results["s1"].retryable) == (Outcome.CRASHED, True)
    assert len(heard.ended) == 1


def test_sweep_ends_what_carries_the_mark(tmp_path: Path) -> None:
    """A process that carries the mark of the run is ended with it, one of another run is not."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen(command, env={**os.environ, MARK: RUN})
    other = subprocess.Popen(command, env={**os.environ, MARK: f"{RUN}0"})
    run, _ = make(tmp_path)
    time.sleep(0.1)
    run._sweep()
    assert ours.wait(2) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


def test_stop_waits_for_the_guard(tmp_path: Path) -> None:
    """A stop that comes before the guard has said who it is reaches it as soon as it has."""
    run, _ = make(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run.stop()
    time.sleep(0.1)
    assert process.poll() is None
    run.order.files.pidfile.write_text(str(process.pid))
    assert process.wait(2) == -signal.SIGTERM
    run._ended.set()


def test_a_real_run(tmp_path: Path) -> None:
    """Two hosts of a real playbook end each in its own way; nothing of the run is left running or on tmpfs."""
    tasks = [
        {"ansible.builtin.fail": {"msg": "Not this one."}, "when": "inventory_hostname == 's2.dc-west'"},
        {
            "ansible.builtin.set_stats": {
                "data": {"stargate": {"final": True, "os": "k8s-1.34"}},
                "per_host": True,
                "aggregate": False,
            }
        },
    ]
    run, heard = make(tmp_path, "s1", "s2", path=playbook(tmp_path, tasks))
    run.start()
    assert run.wait(60)
    assert heard.results["s1"] == Result(Outcome.SUCCEEDED, facts={"os": "k8s-1.34"})
    assert (heard.results["s2"].reason, heard.results["s2"].message) == ("Refused", "Not this one.")
    assert list((tmp_path / "shm").iterdir()) == []
    assert guard.descendants(os.getpid()) == set()


def test_a_real_stop(tmp_path: Path) -> None:
    """A real run that is told to stop while it works ends within two seconds, with all its processes."""
    tasks = [{"name": "Sleep", "ansible.builtin.command": {"argv": ["sleep", "60"]}}]
    run, heard = make(tmp_path, path=playbook(tmp_path, tasks))
    run.start()
    until(lambda: heard.stages or heard.results, seconds=30)
    assert heard.results == {}
    began = time.monotonic()
    run.stop()
    assert run.wait(5)
    assert time.monotonic() - began < 2
    assert heard.results["s1"].outcome is Outcome.INTERRUPTED
    assert guard.descendants(os.getpid()) == set()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15])
def test_a_stop_while_the_process_begins(tmp_path: Path, delay: float) -> None:
    """A stop that comes at any moment of the start is not lost."""
    tasks = [{"ansible.builtin.command": {"argv": ["sleep", "60"]}}]
    run, heard = make(tmp_path, path=playbook(tmp_path, tasks))
    run.start()
    time.sleep(delay)
    run.stop()
    assert run.wait(10)
    assert heard.results["s1"].outcome is Outcome.INTERRUPTED
    assert guard.descendants(os.getpid()) == set()


def test_a_stop_before_the_start_runs_nothing(tmp_path: Path) -> None:
    """A run that was stopped before it began starts no process."""
    run, heard = make(tmp_path, path=playbook(tmp_path, []))
    run.stop()
    run.start()
    assert run.wait(10)
    assert heard.results["s1"].outcome is Outcome.INTERRUPTED
    assert not run.order.files.pidfile.exists()
