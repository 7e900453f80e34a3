# SPDX-License-Identifier: Apache-2.0
"""The middle with a cluster in a dictionary and runs that wait: each step by hand, what is written, and how often.

What is decided is test_plan.py's; what happens when the cluster fails, test_reconcile_faults.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.unit.reconciler.bench import BROKE, INTERRUPTED, WORKED, Bench
from tests.unit.reconciler.fakes import (
    NAMESPACE,
    ended,
    raw_node,
    raw_operation,
    raw_profile,
    raw_server,
)
from tests.waiting import until

from stargate_reconciler.errors import Forbidden, WorldError
from stargate_reconciler.model import Credentials, Object, Outcome, Phase, Result


def test_from_apply_to_succeeded(bench: Callable[..., Bench]) -> None:
    """An Operation is claimed, runs, and ends with its own status written before its Server's, each write done once."""
    b = bench(raw_operation())
    run = b.launch()
    assert run.began
    assert (b.operation()["phase"], b.operation()["attempts"], b.server["activeOperation"]) == ("Running", 1, "o1")
    run.end(WORKED)
    b.look(3)
    assert b.operation()["phase"] == "Succeeded"
    assert (b.server["state"], b.server["nodeName"], b.server.get("activeOperation")) == ("ready", "s1", None)
    assert [kind for kind, _, _ in b.kube.writes] == ["Server", "Operation", "Operation", "Server"]
    assert b.daemon.report.ended_in == {Phase.SUCCEEDED: 1}
    assert len(b.daemon.live) == 0
    assert len(b.daemon.runs) == 0


@pytest.mark.parametrize(
    ("node", "reason", "words"),
    [
        (None, "NodeMissing", "Node s1 does not exist"),
        (raw_node(ready="False"), "NodeNotReady", "network not ready"),
        (raw_node(version="v1.33.1"), "WrongVersion", "1.34.2 was asked for"),
    ],
)
def test_a_success_that_the_cluster_does_not_bear_out(
    bench: Callable[..., Bench], node: Object | None, reason: str, words: str
) -> None:
    """A play's success is a failure unless the Node is seen to be there, Ready and of the version; it is retried."""
    b = bench(raw_operation(retryLimit=1), retry_base=0.0)
    run = b.launch()
    b.kube.nodes["s1"] = node
    run.end(WORKED)
    b.look()
    assert (b.operation()["phase"], b.operation()["failures"]) == ("Pending", 1)
    b.launch().end(WORKED)
    b.look()
    assert b.operation()["phase"] == "Failed"
    assert words in b.operation()["message"]
    assert [c["reason"] for c in b.operation()["conditions"] if c["type"] == "Failed"] == [reason]
    found = {c["type"]: c["status"] for c in b.server["conditions"]}
    assert found.get("NodeReady") == str(reason == "WrongVersion")


def test_what_the_cluster_bears_out_is_said(bench: Callable[..., Bench]) -> None:
    """The Node as it was seen is in both statuses, and a datacenter's job needs none."""
    b = bench(raw_operation(), raw_operation("o2", age=-5, act="reboot"))
    b.launch().end(WORKED)
    b.look()
    wanted = {"os": "k8s-1.34", "nodeName": "s1", "nodeUID": "n-s1", "kubeletVersion": "v1.34.2"}
    assert b.operation()["result"] == {**wanted, "podCIDR": "10.244.1.0/24"}
    assert b.operation()["formerNode"] == {"cordoned": False}
    assert [c["status"] for c in b.server["conditions"] if c["type"] == "NodeReady"] == ["True"]
    b.kube.nodes["s1"] = None
    b.launch().end(Result(Outcome.SUCCEEDED))
    b.look()
    assert b.operation("o2")["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("error", "phase", "reason"),
    [
        (WorldError("no route"), "Running", "Running"),
        (Forbidden("HTTP 403. Check the rights in deploy/rbac.yaml."), "Failed", "Forbidden"),
    ],
)
def test_a_node_that_cannot_be_read(bench: Callable[..., Bench], error: Exception, phase: str, reason: str) -> None:
    """Nothing is written before the Node was read; a missing right is said, because waiting does not mend it."""
    b = bench(raw_operation())
    b.launch().end(WORKED)
    b.kube.refuse = lambda kind, _: error if kind == "Node" else None
    with suppress(WorldError):
        b.look()
    assert b.operation()["phase"] == phase
    assert {c["type"]: c["reason"] for c in b.operation()["conditions"]}["Complete"] == reason
    b.kube.refuse = lambda kind, name: None
    b.look()
    assert b.operation()["phase"] == ("Succeeded" if phase == "Running" else "Failed")


def test_an_operation_that_finds_no_run_free_says_so(bench: Callable[..., Bench]) -> None:
    """Where all runs are taken an Operation is Pending with the reason, and starts when there is room."""
    more = (raw_server("s2"), raw_operation("o2", serverRef={"name": "s2"}))
    b = bench(raw_operation(), *more, max_runs=1)
    first = b.launch()
    b.daemon.look((NAMESPACE, "s2"))
    assert "--max-runs" in b.operation("o2")["message"]
    first.end(WORKED)
    b.launch_batches()
    assert b.runs[-1].uids == {"u-o2"}


def test_a_second_look_starts_nothing_again(bench: Callable[..., Bench]) -> None:
    """However often a Server is looked at, an Operation has one place in one batch, and one run."""
    b = bench(raw_operation())
    b.look(3)
    b.launch()
    b.look(3)
    assert len(b.runs) == 1
    assert not any(batch.jobs for batch in b.daemon._batcher._batches.values())


def test_retry_keeps_the_lock_and_waits(bench: Callable[..., Bench]) -> None:
    """A failed attempt keeps the Server, counts, and the next one starts after its back-off only."""
    b = bench(raw_operation(), retry_base=60.0)
    b.launch().end(BROKE)
    b.look(3)
    assert (b.operation()["phase"], b.operation()["failures"], b.server["activeOperation"]) == ("Pending", 1, "o1")
    assert len(b.runs) == 1
    assert "AttemptFailed" in [entry[1]["reason"] for entry in list(b.daemon.recorder._waiting.queue) if entry]


def test_interrupted_goes_on_and_costs_nothing(bench: Callable[..., Bench]) -> None:
    """An interrupted run goes on in another one, counted as an attempt and not as a failure."""
    b = bench(raw_operation())
    b.launch().end(INTERRUPTED)
    b.look()
    b.launch()
    assert (len(b.runs), b.operation()["attempts"], b.operation().get("failures")) == (2, 2, None)


def test_deleted_while_it_runs(bench: Callable[..., Bench]) -> None:
    """The run of a deleted Operation is stopped once, the Server given back when it is over, and only then goes on."""
    b = bench(raw_operation(), raw_operation("o2", age=-5))
    run = b.launch()
    b.delete("Operation", "o1")
    b.look(2)
    assert (run.stops, len(b.runs), b.server["activeOperation"]) == (1, 1, "o1")
    assert not any(batch.jobs for batch in b.daemon._batcher._batches.values())
    run.end(INTERRUPTED)
    b.look()
    assert (b.server["state"], b.server.get("activeOperation")) == ("error", None)
    assert b.launch().uids == {"u-o2"}


def test_cancel_in_a_batch_and_in_a_run(bench: Callable[..., Bench]) -> None:
    """A cancelled Operation leaves its batch untouched, or has its run stopped; both end as Cancelled."""
    b = bench(raw_operation())
    b.look()
    b.kube.apply({**b.kube.items["Operation", "o1"], "spec": {**raw_operation()["spec"], "cancel": True}})
    b.see()
    b.look(2)
    assert (b.operation()["phase"], b.runs, b.server) == ("Failed", [], {})
    b.kube.apply(raw_operation("o2"))
    b.see()
    run = b.launch()
    b.kube.apply({**b.kube.items["Operation", "o2"], "spec": {**raw_operation()["spec"], "cancel": True}})
    b.see()
    b.look(2)
    run.end(INTERRUPTED)
    b.look()
    assert (run.stops, b.operation("o2")["phase"], b.server["state"]) == (1, "Failed", "error")


def test_waiting_is_written_once(bench: Callable[..., Bench]) -> None:
    """What waits says so once, and again when the reason has changed."""
    b = bench(raw_operation())
    b.delete("Server", "s1")
    b.look(3)
    assert [patch["phase"] for _, _, patch in b.kube.writes] == ["Pending"]
    b.kube.apply(raw_server())
    b.delete("ProvisioningProfile", "p1")
    b.see()
    b.look(3)
    reasons = [patch["conditions"][0]["reason"] for _, _, patch in b.kube.writes]
    assert reasons == ["ServerNotFound", "ProfileNotFound"]


def test_end_without_a_server(bench: Callable[..., Bench]) -> None:
    """An Operation whose Server is not there can be cancelled; a step that comes after a result is dropped."""
    b = bench(raw_operation(), raw_operation("o2", cancel=True))
    item = b.launch().order.jobs[0]
    b.daemon.resulted(item, WORKED)
    depth = b.daemon.queue.depth(within=9)
    b.daemon.staged(item, "late", {})
    assert b.daemon.queue.depth(within=9) == depth
    b.delete("Server", "s1")
    b.look()
    assert [b.operation(name)["phase"] for name in ("o1", "o2")] == ["Succeeded", "Failed"]


def test_steps_are_shown_in_turn(bench: Callable[..., Bench]) -> None:
    """However many steps and looks there are, a step is written once a second, and the last one is not lost."""
    b = bench(raw_operation())
    run = b.launch()
    item = run.order.jobs[0]
    count = len(b.kube.writes)
    for number in range(50):
        b.daemon.staged(item, f"step {number}", {"dcJobID": "j1"})
        b.look()
    assert [patch["stage"] for _, _, patch in b.kube.writes[count:]] == ["step 0"]
    assert b.daemon.queue.depth(within=1.1) == 1
    b.daemon.live._shown["u-o1"] = 0.0
    b.look()
    assert b.operation()["stage"] == "step 49"


def test_job_id_is_shown(bench: Callable[..., Bench]) -> None:
    """The datacenter's job stands in the status as soon as it is known."""
    b = bench(raw_operation())
    run = b.launch()
    b.daemon.staged(run.order.jobs[0], "waiting", {"dcJobID": "j1"})
    b.look()
    assert (b.operation()["stage"], b.operation()["dcJobID"]) == ("waiting", "j1")


@pytest.mark.parametrize("holder", ["o1", "", "of-another-daemon"])
def test_other_providers_servers_are_left_alone(bench: Callable[..., Bench], holder: str) -> None:
    """With --provider, Servers of other providers are neither run nor unlocked: another reconciler has them."""
    b = bench(raw_operation(), providers=("qemu",))
    b.kube.apply(raw_server(status={"activeOperation": holder} if holder else None))
    b.see()
    b.look(2)
    assert (b.kube.writes, b.runs) == ([], [])


def test_edit_after_the_start_is_said_once(bench: Callable[..., Bench]) -> None:
    """A change of the spec after the start is ignored, and said in one Event."""
    b = bench(raw_operation())
    b.launch()
    item = b.kube.items["Operation", "o1"]
    b.kube.apply(
        {**item, "spec": raw_operation(act="reboot")["spec"], "metadata": {**item["metadata"], "generation": 2}}
    )
    b.see()
    b.look(3)
    reasons = [entry[1]["reason"] for entry in list(b.daemon.recorder._waiting.queue) if entry]
    assert reasons.count("SpecChangeIgnored") == 1
    assert b.operation()["observedGeneration"] == 2


def test_time_to_live_deletes_by_uid(bench: Callable[..., Bench]) -> None:
    """A finished Operation is deleted by name and uid."""
    b = bench(raw_operation(status=ended(), ttlSecondsAfterFinished=0)).look()
    assert b.kube.deleted == [("dc-west", "o1", "u-o1")]


def test_secret_is_read_only_when_needed(bench: Callable[..., Bench]) -> None:
    """A Secret is read for an Operation that is about to start, not for one that runs or waits its turn."""
    b = bench(raw_operation())
    b.kube.apply(raw_profile(sshCredentialsSecretRef="ssh"))
    b.see()
    b.look()
    assert b.operation()["conditions"][-1]["reason"] == "SecretNotFound"
    b.kube.secrets["ssh"] = Credentials("key", "root")
    run = b.launch()
    assert run.order.jobs[0].credentials == Credentials("key", "root")
    b.kube.refuse = lambda kind, _: WorldError("read again") if kind == "Secret" else None
    b.look()


def test_stop_runs_reaches_all_and_keeps_reasons(bench: Callable[..., Bench]) -> None:
    """A shutdown stops every run; their Operations stay Running for whoever leads next."""
    b = bench(raw_operation())
    run = b.launch()
    assert b.daemon.runs.stop_all("Shutdown") == [run]
    run.end(INTERRUPTED)
    b.daemon.halt()
    b.look(2)
    assert (run.stops, b.operation()["phase"], len(b.runs)) == (1, "Running", 1)


def test_whole_way_with_threads(bench: Callable[..., Bench]) -> None:
    """With its own threads the daemon takes three Servers from apply to the end, in few runs, each written twice."""
    names = ("s2", "s3")
    extra = [raw_server(name) for name in names]
    more = [raw_operation(f"o-{name}", serverRef={"name": name}) for name in names]
    b = bench(raw_operation(), *extra, *more)
    b.daemon.start()
    until(lambda: sum(len(run.order.jobs) for run in b.runs if run.began) == 3)
    for run in list(b.runs):
        run.end(WORKED)
    until(lambda: all(b.operation(n)["phase"] == "Succeeded" for n in ("o1", "o-s2", "o-s3")))
    until(lambda: not b.daemon.queue.depth(within=1))
    b.daemon.halt()
    b.daemon.queue.stop()
    b.daemon.recorder.stop()
    assert len(b.kube.writes) == 12
    assert sorted(set(b.kube.events)) == ["OperationStarted", "OperationSucceeded", "Started", "Succeeded"]
    assert b.daemon.report.ended_in[Phase.SUCCEEDED] == 3
