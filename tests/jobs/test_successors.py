"""Jobs that come after another: they wait for its end, hold nobody back, end with it and come back with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from core.__main__ import main
from core.errors import UserError
from core.jobs import dispatcher, queue
from core.records import Job, now
from core.store.database import write
from core.store.jobs import change_job, get_job
from core.store.tables import JobRow
from tests.jobs.test_queue import pause, start, until


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Jobs that were started, without a worker."""
    started: list[str] = []
    monkeypatch.setattr(dispatcher, "_launch", lambda job, devices: started.append(job.job_id) or False)
    return started


def later(first: Job, title: str = "") -> Job:
    return queue.enqueue("pause", {"seconds": 0}, after=first.job_id, title=title)


def states(*jobs: Job) -> list[str]:
    return [get_job(job.job_id).state for job in jobs]


def test_it_waits_and_holds_nobody_back(launched: list[str]) -> None:
    first = queue.enqueue("pause", {"seconds": 0})
    second = later(first)
    change_job(first.job_id, state="starting", heartbeat=now())
    third = queue.enqueue("pause", {"seconds": 0}, device="files")
    queue.dispatch()
    assert (launched, get_job(second.job_id).state) == ([third.job_id], "queued")
    change_job(third.job_id, state="finished")
    change_job(first.job_id, state="finished")
    queue.dispatch()
    assert launched == [third.job_id, second.job_id]


def test_it_ends_with_a_failed_one_in_a_chain_and_all_come_back_with_it(launched: list[str]) -> None:
    first = queue.enqueue("pause", {"seconds": 0}, title="Train small")
    change_job(first.job_id, state="starting", heartbeat=now())
    second = later(first, "Evaluate small")
    third = later(second, "Export small")
    other = later(first)
    queue.stop(other.job_id)  # by the user: it stays stopped
    change_job(first.job_id, state="failed", error="Out of memory.")
    queue.dispatch()
    assert states(first, second, third, other) == ["failed", "failed", "failed", "stopped"]
    ended = get_job(second.job_id)
    assert ended.error == "“Train small” had to finish first, and it failed: Out of memory."
    assert ended.hint.startswith(f"Resume {first.job_id} (Train small)")
    assert ended.ended_at is not None
    assert get_job(third.job_id).error.startswith("“Evaluate small” had to finish first, and it failed: “Train small”")
    assert launched == []
    with pytest.raises(UserError, match="Train small"):
        queue.resume(second.job_id)
    assert queue.to_resume(get_job(third.job_id)).job_id == first.job_id
    queue.resume(first.job_id)
    assert states(second, third, other) == ["queued", "queued", "stopped"]
    assert get_job(second.job_id).error == ""
    assert launched == [first.job_id]
    change_job(first.job_id, state="finished")
    queue.dispatch()
    assert launched == [first.job_id, second.job_id]


def test_one_that_has_begun_is_not_begun_again_by_its_predecessor(launched: list[str]) -> None:
    first = queue.enqueue("pause", {"seconds": 0})
    second = later(first)
    change_job(first.job_id, state="finished")
    queue.dispatch()
    assert launched == [second.job_id]
    change_job(second.job_id, state="failed", error="Its own fault.")
    change_job(first.job_id, state="failed")
    queue.resume(first.job_id)
    assert states(second) == ["failed"]


def test_a_deleted_predecessor_is_said(launched: list[str]) -> None:
    first = queue.enqueue("pause", {"seconds": 0})
    second = later(first)
    with write() as session:
        session.delete(session.get(JobRow, 1))
    queue.dispatch()
    assert (states(second), get_job(second.job_id).error) == (["failed"], "The job that had to finish first was deleted.")
    with pytest.raises(UserError, match="deleted"):
        queue.resume(second.job_id)


def test_stopped_with_a_worker_and_taken_up_again() -> None:
    first = start()
    second = later(first)
    queue.stop(first.job_id)
    until(lambda: get_job(first.job_id).state == "stopped")
    until(lambda: get_job(second.job_id).state == "stopped")  # the worker's own end does it: no page is open
    assert "it was stopped" in get_job(second.job_id).error
    change_job(first.job_id, payload='{"seconds": 0, "device": "cpu"}')
    queue.resume(first.job_id)
    assert queue.wait(second.job_id, poll_seconds=0.05).state == "finished"


def test_a_killed_worker_takes_it_along() -> None:
    first = start()
    second = later(first)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: bool(queue.dispatch()) or get_job(first.job_id).state == "lost")
    assert states(second) == ["failed"]
    assert "its process is gone" in get_job(second.job_id).error


def test_commands_say_what_is_waited_for(launched: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first = pause(0)
    second = later(first)
    change_job(first.job_id, state="starting", heartbeat=now())
    assert main(["jobs"]) == 0
    assert f"after {first.job_id}" in capsys.readouterr().out
    change_job(first.job_id, state="stopped")
    assert main(["jobs", "--json"]) == 0
    listed = {job["job"]: job for job in json.loads(capsys.readouterr().out)["jobs"]}
    assert listed[second.job_id]["state"] == "stopped"
    assert main(["resume", second.job_id]) == 2
    assert first.job_id in capsys.readouterr().err
