"""The commands jobs, stop and resume."""

from __future__ import annotations

import json

import pytest

from core.__main__ import main
from core.jobs import queue
from core.store.jobs import change_job, get_job


def test_jobs_stop_and_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs"]) == 0
    assert "No jobs yet" in capsys.readouterr().out
    first = queue.enqueue("pause", {"seconds": 30}, title="first")
    second = queue.enqueue("pause", {"seconds": 0}, title="second")
    assert main(["jobs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["jobs"]
    assert [(job["job"], job["kind"]) for job in listed] == [(first.job_id, "pause"), (second.job_id, "pause")]
    assert listed[1]["state"] == "queued"
    assert main(["jobs"]) == 0
    assert "next in the queue" in capsys.readouterr().out
    assert main(["stop", second.job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    assert main(["stop", first.job_id]) == 0
    assert queue.wait(first.job_id, poll_seconds=0.05).state == "stopped"
    assert main(["resume", second.job_id, "--wait", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out.splitlines()[-1])["state"] == "finished"


def test_unknown_jobs_and_failed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "job-none"]) == 2
    assert "job-none" in capsys.readouterr().err
    job = queue.enqueue("train", subject="run-none")
    change_job(job.job_id, state="stopped")
    assert main(["resume", job.job_id, "--wait"]) == 1
    assert "There is no run 'run-none'" in capsys.readouterr().err
    assert get_job(job.job_id).state == "failed"
    assert main(["jobs"]) == 0
    assert "There is no run" in capsys.readouterr().out
