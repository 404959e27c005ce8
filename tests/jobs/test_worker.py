"""How a worker's work ends: faults of the user, faults of ours, and a job that is no longer its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.errors import UserError
from core.jobs import handlers, queue, worker
from core.jobs.reporter import SupersededError, WorkerReporter
from core.records import Job, Reporter, SilentReporter, now
from core.store import files
from core.store.datasets import list_datasets
from core.store.jobs import change_job, get_job, read_metrics


@pytest.fixture
def claimed(monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that waits for a worker of this process."""
    job = queue.enqueue("pause", {"seconds": 0})
    change_job(job.job_id, state="starting", heartbeat=now())
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    return job


def handle(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def handler(_job: Job, _reporter: Reporter) -> bool:
        raise error

    monkeypatch.setattr(handlers, "HANDLERS", {"pause": handler})


def test_a_users_fault_keeps_message_and_hint(claimed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(monkeypatch, UserError("No such split", "Split first."))
    assert worker.main(claimed.job_id) == 1
    job = get_job(claimed.job_id)
    assert (job.state, job.error, job.hint) == ("failed", "No such split", "Split first.")


def test_a_bug_leaves_its_traceback_in_the_log(
    claimed: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handle(monkeypatch, ZeroDivisionError("by nothing"))
    assert worker.main(claimed.job_id) == 1
    job = get_job(claimed.job_id)
    assert (job.state, job.error) == ("failed", "ZeroDivisionError: by nothing")
    assert "Traceback" in capsys.readouterr().out


def full_at_the_third_cause() -> BaseException:
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None
    except RuntimeError as error:
        error.__suppress_context__ = False
        return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        full_at_the_third_cause(),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_a_full_disk_is_told_with_the_way_out(claimed: Job, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    handle(monkeypatch, error)
    assert worker.main(claimed.job_id) == 1
    job = get_job(claimed.job_id)
    assert (job.state, job.error) == ("failed", "The disk is full, so what was made could not be written")
    assert "then resume" in job.hint


def test_a_failed_write_is_put_down_to_the_disk_only_where_it_is_nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
    assert not files.disk_is_full(error)
    monkeypatch.setattr(files, "NEARLY_FULL", 2**60)
    assert files.disk_is_full(error)
    assert files.disk_is_full(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 3681728 vs 3681620"))
    assert not files.disk_is_full(ValueError("bad"))


def test_a_job_is_done_once(claimed: Job) -> None:
    assert worker.main(claimed.job_id) == 0
    begun = get_job(claimed.job_id).ended_at
    assert worker.main(claimed.job_id) == 0
    assert get_job(claimed.job_id).ended_at == begun


def test_a_job_that_was_stopped_while_it_started_does_no_work(claimed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(monkeypatch, AssertionError("worked"))
    queue.stop(claimed.job_id)
    worker.main(claimed.job_id)
    assert get_job(claimed.job_id).state == "stopped"


def test_a_worker_whose_job_was_given_up_leaves_it_alone(claimed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(job: Job, reporter: Reporter) -> bool:
        change_job(job.job_id, state="queued", pid=None)
        for _ in range(100):
            reporter.should_stop()
            reporter._beat()  # type: ignore[attr-defined]
        raise AssertionError("not told")

    monkeypatch.setattr(handlers, "HANDLERS", {"pause": handler})
    assert worker.main(claimed.job_id) == 1
    assert get_job(claimed.job_id).state == "queued"


def test_metrics_of_a_step_are_merged_and_repeated_steps_replaced(claimed: Job) -> None:
    change_job(claimed.job_id, state="running", pid=os.getpid())
    reporter = WorkerReporter(claimed.job_id)
    reporter.metrics(1, {"loss": 2.0})
    reporter.metrics(1, {"dev_loss": 3.0})
    reporter.metrics(2, {"loss": 1.5})
    reporter.close()
    again = WorkerReporter(claimed.job_id)
    again.metrics(2, {"loss": 1.0})
    again.progress(1, 2, unit="steps", message="going")
    again.close()
    assert read_metrics(claimed.job_id) == [{"step": 1, "loss": 2.0, "dev_loss": 3.0}, {"step": 2, "loss": 1.0}]
    assert read_metrics(claimed.job_id, after=1) == [{"step": 2, "loss": 1.0}]
    assert get_job(claimed.job_id).progress.message == "going"


def test_time_left_that_a_task_knows_is_kept_and_counted_down(claimed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    change_job(claimed.job_id, state="running", pid=os.getpid())
    clock = [1000.0]
    monkeypatch.setattr("core.jobs.reporter.time.monotonic", lambda: clock[0])
    reporter = WorkerReporter(claimed.job_id)
    reporter.progress(1, 10, unit="steps", left=90.0)
    clock[0] += 30  # a look at dev, in which nothing is said
    reporter._beat()
    assert get_job(claimed.job_id).progress.eta_seconds == pytest.approx(60)
    clock[0] += 100
    reporter._beat()
    assert get_job(claimed.job_id).progress.eta_seconds == 0
    reporter.progress(2, 10, unit="steps")  # by its pace again: a step in 130 s
    reporter.close()
    assert get_job(claimed.job_id).progress.eta_seconds == pytest.approx(8 * 130)


def test_where_a_resumed_task_begins_is_not_taken_for_its_pace(claimed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    change_job(claimed.job_id, state="running", pid=os.getpid())
    clock = [1000.0]
    monkeypatch.setattr("core.jobs.reporter.time.monotonic", lambda: clock[0])
    reporter = WorkerReporter(claimed.job_id)
    reporter.progress(0, 0, message="loading")
    clock[0] += 15
    reporter.progress(10, 24, unit="steps")
    reporter.close()
    assert get_job(claimed.job_id).progress.eta_seconds is None
    assert get_job(claimed.job_id).progress.rate == 0


def test_a_reporter_of_a_lost_job_says_so(claimed: Job) -> None:
    change_job(claimed.job_id, state="lost", pid=os.getpid())
    reporter = WorkerReporter(claimed.job_id)
    reporter.close()
    with pytest.raises(SupersededError):
        reporter.should_stop()


def test_an_import_that_is_told_to_stop_writes_nothing(tmp_path: Path) -> None:
    class Stopping(SilentReporter):
        def should_stop(self) -> bool:
            return True

    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n', encoding="utf-8")
    job = queue.enqueue("import", {"path": str(path), "name": "rows", "mapping": None, "upload": True}, device="files")
    assert not handlers.handler_of("import")(job, Stopping())
    assert list_datasets() == []
    assert handlers.handler_of("import")(job, SilentReporter())
    assert [dataset.name for dataset in list_datasets()] == ["rows"]
    assert not path.exists()
