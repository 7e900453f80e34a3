# SPDX-License-Identifier: Apache-2.0
"""The book of jobs: who may start, who is forgotten, what a restart keeps.

What the wire looks like is test_server.py's and the contract suite's.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stargate_reconciler.mock_dc.book import JobBook, Refused, Wanted
from stargate_reconciler.mock_dc.settings import Faults, Settings
from stargate_reconciler.mock_dc.state import Saver, StateError, load

FAST = Settings(speed=100)


def wanted(number: int, key: str = "") -> Wanted:
    """Return a reboot of the server of this number."""
    return Wanted("reboot", f"s{number}", key, {})


def test_ended_jobs_go_oldest_first_and_their_keys_with_them() -> None:
    """The book holds at most max_jobs, and a forgotten key makes a new job."""
    book = JobBook(replace(FAST, max_jobs=2)).start()
    first, _ = book.submit(wanted(0, "k0"))
    for number in (1, 2):
        book.wait(first["jobId"] if number == 1 else book.jobs()[-1]["jobId"], 5)
        book.submit(wanted(number))
    with pytest.raises(Refused, match="There is no job"):
        book.get(first["jobId"])
    book.wait(book.jobs()[-1]["jobId"], 5)
    assert book.submit(wanted(0, "k0"))[1] is True
    assert len(book.jobs()) == 2
    book.close()


def test_active_jobs_are_never_forgotten() -> None:
    """When every place is taken by an active job, a new one is refused for now."""
    book = JobBook(Settings(max_jobs=1)).start()
    book.submit(wanted(0))
    with pytest.raises(Refused) as caught:
        book.submit(wanted(1))
    assert (caught.value.status, caught.value.code) == (503, "Overloaded")
    book.close()


def test_a_key_is_for_one_act_on_one_server() -> None:
    """A key that comes back for another server is refused."""
    book = JobBook(FAST).start()
    book.submit(wanted(0, "k"))
    with pytest.raises(Refused) as caught:
        book.submit(wanted(1, "k"))
    assert (caught.value.status, caught.value.code) == (422, "IdempotencyKeyReused")
    book.close()


def test_a_restart_goes_on_with_the_jobs(tmp_path: Path) -> None:
    """Jobs, keys and servers outlive the book, and time has passed meanwhile."""
    settings = replace(FAST, speed=20, state_file=tmp_path / "deep" / "state.json")
    book = JobBook(settings).start()
    job, _ = book.submit(wanted(0, "k"))
    book.close()
    book = JobBook(settings).start()
    assert book.submit(wanted(0, "k")) == (book.get(job["jobId"]), False)
    with pytest.raises(Refused, match="busy"):
        book.submit(wanted(0, "other"))
    assert book.wait(job["jobId"], 5)["phase"] == "succeeded"
    assert book.servers()[0]["state"] == "ready"
    book.close()


def test_an_accepted_job_is_on_disk(tmp_path: Path) -> None:
    """When the book has accepted a job, the file has it, however many come at once."""
    path = tmp_path / "state.json"
    book = JobBook(replace(FAST, speed=0.001, state_file=path)).start()

    def submit(number: int) -> None:
        job, _ = book.submit(wanted(number))
        seen[job["jobId"]] = job["jobId"] in path.read_text()

    seen: dict[str, bool] = {}
    threads = [threading.Thread(target=submit, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(seen.values()) == [True] * 50
    book.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 99}'])
def test_a_strange_state_file_is_refused(tmp_path: Path, content: str) -> None:
    """A file that is not ours is neither used nor overwritten."""
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(StateError, match=str(path)):
        JobBook(replace(FAST, state_file=path))
    assert path.read_text() == content


def test_writing_goes_on_when_the_disk_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A write that fails is told and tried again; the caller waits for it."""
    path = tmp_path / "here" / "state.json"
    saver = Saver(path, lambda: {"jobs": []})
    path.parent.rmdir()
    threading.Timer(0.3, path.parent.mkdir).start()
    saver.changed()
    saver.commit()
    assert json.loads(path.read_text()) == {"version": 1, "jobs": []}
    assert "Failed to write state file" in capsys.readouterr().err
    saver.close()


def test_no_state_file_is_an_empty_state(tmp_path: Path) -> None:
    """Without a file there is nothing to load."""
    assert load(None) == load(tmp_path / "none") == {}


def test_the_same_seed_fails_the_same_jobs() -> None:
    """With half of the jobs failing, the seed and the keys decide which."""

    def phases(seed: int) -> list[str]:
        faults = Faults(failure_rate=0.5, duration_seconds=0.1, seed=seed)
        book = JobBook(replace(FAST, faults=faults)).start()
        ids = [book.submit(wanted(number, f"k{number}"))[0]["jobId"] for number in range(20)]
        ended = [book.wait(job_id, 5)["phase"] for job_id in ids]
        book.close()
        return ended

    assert phases(1) == phases(1)
    assert len({tuple(phases(seed)) for seed in (1, 2, 3)}) > 1
    assert {"failed", "succeeded"} == set(phases(1))


def test_closing_wakes_who_waits() -> None:
    """A long poll ends when the book closes."""
    book = JobBook(Settings()).start()
    job, _ = book.submit(wanted(0))
    threading.Timer(0.1, book.close).start()
    started = time.monotonic()
    assert book.wait(job["jobId"], 30)["phase"] == "running"
    assert time.monotonic() - started < 5


def test_a_forgotten_job_frees_its_server() -> None:
    """A job that is lost on purpose is unknown, wakes its waiters, and another can start."""
    book = JobBook(Settings()).start()
    job, _ = book.submit(wanted(0))
    book.forget(job["jobId"])
    with pytest.raises(Refused):
        book.wait(job["jobId"], 1)
    assert book.submit(wanted(0))[1] is True
    book.close()
