# SPDX-License-Identifier: Apache-2.0
"""From options to a result, against the real mock over loopback: the acts of dc_job, each in check mode first.

Retries and odd answers do not belong here: they are test__dc_api.py's, where time costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.stargate.core.plugins.doc_fragments.dc_api import ModuleDocFragment
from ansible_collections.stargate.core.plugins.module_utils._dc_api_module import JOB_SPEC, perform
from ansible_collections.stargate.core.plugins.modules.dc_job import DOCUMENTATION
from stargate_reconciler.mock_dc.server import MockDatacenter
from stargate_reconciler.mock_dc.settings import Settings

REPAVE = {"type": "repave", "server_id": "s1", "os_version": "2.0.0", "cloud_init": "canary-cloud-init"}


@pytest.fixture
def dc(tmp_path: Path) -> Iterator[MockDatacenter]:
    """Return a mock datacenter that asks for a token and does a repave in 0.3 s."""
    (tmp_path / "token").write_text("canary-token")
    server = MockDatacenter(Settings(port=0, speed=100, admin=True, token_file=tmp_path / "token"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def run(dc: MockDatacenter, tmp_path: Path) -> Any:
    """Return what runs one task with options and gives its result, in which no secret may be."""

    def act(*, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"url": dc.url, "token_file": str(tmp_path / "token"), "deadline": 5, **options}
        validated = ArgumentSpecValidator(**JOB_SPEC).validate(given)
        assert not validated.error_messages
        result = perform(validated.validated_parameters, check_mode=check, host="host-1")
        assert "canary" not in json.dumps(result)
        return result

    return act


def test_again_and_again(run: Any, dc: MockDatacenter) -> None:
    """Check mode starts nothing, the first run starts one job, and running it again changes nothing."""
    task = {**REPAVE, "request_id": "k1"}
    foretold = run(check=True, **task)
    assert (foretold["changed"], foretold["msg"], dc.book.jobs()) == (True, "Would repave server s1", [])
    done = run(**task)
    assert (done["changed"], done["job"]["phase"], done["msg"]) == (True, "succeeded", "Repave completed successfully")
    again = run(**task)
    assert (again["changed"], again["job"]["jobId"]) == (False, done["job"]["jobId"])
    foretold = run(check=True, **task)
    assert (foretold["changed"], foretold["msg"][:13]) == (False, "Would not cha")
    assert len(dc.book.jobs()) == 1


def test_submit_then_wait(run: Any) -> None:
    """A submitted job is followed by its id; submitting it again shows it as it is."""
    submitted = run(state="submitted", request_id="k1", **REPAVE)
    assert (submitted["changed"], submitted["job"]["phase"]) == (True, "pending")
    again = run(state="submitted", request_id="k1", **REPAVE)
    assert (again["changed"], again["job"]["createdAt"][:2]) == (False, "20")
    job_id = submitted["job"]["jobId"]
    assert "Would wait for" in run(check=True, job_id=job_id)["msg"]
    assert run(job_id=job_id)["job"]["phase"] == "succeeded"


def test_a_request_id_is_made_up(run: Any) -> None:
    """Without a request id each run is a job of its own, and its id names host and act."""
    first, second = run(**REPAVE)["request_id"], run(**REPAVE)["request_id"]
    assert first.startswith("host-1-repave-20")
    assert first != second


def test_a_failed_job(run: Any, dc: MockDatacenter) -> None:
    """A job that fails is a failure with the API's code, and its job is shown."""
    dc.book.set_faults({"failure_rate": 1.0, "fail_stage": "install"})
    result = run(request_id="k1", **REPAVE)
    assert (result["failed"], result["changed"], result["job"]["stage"]) == (True, True, "install")
    assert result["failure"] == {"code": "StageFailed", "details": 'The stage "install" failed', "retryable": True}
    assert result["msg"].startswith("Failed to repave server s1: job job-")


def test_a_hanging_job(run: Any, dc: MockDatacenter) -> None:
    """A job that never ends meets the deadline, and can be canceled then, once."""
    dc.book.set_faults({"hang_rate": 1.0})
    result = run(request_id="k1", **{**REPAVE, "deadline": 0.6})
    assert result["failure"]["code"] == "Deadline"
    job_id = dc.book.jobs()[0]["jobId"]
    assert run(check=True, state="canceled", job_id=job_id)["changed"] is True
    assert run(state="canceled", job_id=job_id)["changed"] is True
    assert run(state="canceled", job_id=job_id)["changed"] is False
    assert run(check=True, state="canceled", job_id="job-0")["msg"] == "Job job-0 is not known"
    assert run(job_id=job_id)["failure"]["code"] == "JobCanceled"


def test_a_vanished_job(run: Any, dc: MockDatacenter) -> None:
    """A job that the API lost is started once more when the task says how."""
    job_id = run(state="submitted", request_id="k1", **REPAVE)["job"]["jobId"]
    dc.book.forget(job_id)
    assert run(job_id=job_id)["failure"]["code"] == "JobVanished"
    again = run(job_id=job_id, request_id="k1", **REPAVE)
    assert (again["changed"], again["job"]["phase"]) == (True, "succeeded")


def test_a_busy_server(run: Any, dc: MockDatacenter) -> None:
    """The second job on a server begins when the first has ended; check mode says for whom it would wait."""
    first = run(state="submitted", request_id="k1", **REPAVE)["job"]["jobId"]
    assert first in run(check=True, request_id="k2", **REPAVE)["msg"]
    second = run(request_id="k2", **REPAVE)["job"]
    assert second["phase"] == "succeeded"
    assert second["createdAt"] >= dc.book.get(first)["finishedAt"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"url": ""}, "DatacenterUnknown"),
        ({"url": "http://127.0.0.1:9", "unreachable_after": 0.1}, "Unreachable"),
        ({"url": "dc-west"}, "Invalid"),
        ({"strategy": "inPlace"}, "UnsupportedStrategy"),
        ({"token_file": "/nowhere"}, "TokenUnreadable"),
        ({"token_file": None}, "Unauthorized"),
        ({"ca_file": "/nowhere"}, "Invalid"),
        ({"request_id": "a b"}, "Invalid"),
        ({"mac": "odd"}, "Invalid"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_failures(run: Any, options: dict[str, Any], code: str, *, check: bool) -> None:
    """Each mistake has its code and a sentence; check mode finds those that reading can find."""
    result = run(check=check, **{**REPAVE, **options})
    if check and "mac" in options:
        assert "failed" not in result
        return
    assert (result["failure"]["code"], result["msg"][:10]) == (code, "Failed to ")
    assert result["failure"]["retryable"] is (code == "Unreachable")


def test_the_documentation_is_the_spec() -> None:
    """Options, types, defaults and choices are documented as they are checked."""
    fragment = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    documented = {**fragment, **yaml.safe_load(DOCUMENTATION)["options"]}
    facts = ("type", "default", "choices", "required")
    told = {name: {fact: doc.get(fact) for fact in facts} for name, doc in documented.items()}
    checked = {name: {fact: spec.get(fact) for fact in facts} for name, spec in JOB_SPEC["argument_spec"].items()}
    assert told == checked
