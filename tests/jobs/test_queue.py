"""The queue with real worker processes: order, stop, loss, resume, claims."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from core.cli.jobs import progress_text
from core.errors import NotFoundError, SpecError, UserError
from core.jobs import queue
from core.records import Job, Progress, now
from core.store.database import write
from core.store.jobs import change_job, get_job, list_jobs, log_tail, read_metrics
from core.store.runs import evaluation_folder
from core.store.tables import ClaimRow


def pause(seconds: float = 0.0) -> Job:
    return queue.enqueue("pause", {"seconds": seconds})


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something that comes at once on a quiet machine; the limit is for one that isn't."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [(job.state, job.error, log_tail(job.job_id)) for job in list_jobs()]
        time.sleep(0.05)


def start(seconds: float = 600.0) -> Job:
    """A job whose worker is at work."""
    job = pause(seconds)
    queue.dispatch()
    until(lambda: get_job(job.job_id).state == "running" and bool(read_metrics(job.job_id)))
    return get_job(job.job_id)


def test_a_job_runs_to_its_end_with_progress_and_metrics() -> None:
    job = pause(0.3)
    assert job.state == "queued"
    seen: list[str] = []
    queue.dispatch()
    ended = queue.wait(job.job_id, lambda now: seen.append(now.state), poll_seconds=0.05)
    assert ended.state == "finished"
    assert ended.progress.done == ended.progress.total == 6
    assert [row["step"] for row in read_metrics(job.job_id)] == [1, 2, 3, 4, 5, 6]
    assert seen[-1] == "finished"
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.ended_at > ended.started_at
    assert queue.who_holds("cpu") is None


def test_twenty_jobs_from_several_processes_each_run_once_in_order() -> None:
    code = "from core.jobs import queue\nfor _ in range(5):\n    queue.enqueue('pause')\n    queue.dispatch()\n"
    callers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [caller.wait(300) for caller in callers] == [0, 0, 0, 0]
    until(lambda: all(job.state == "finished" for job in list_jobs()) and len(list_jobs()) == 20, 400)
    jobs = list_jobs()
    begun = [job.started_at for job in jobs]
    assert begun == sorted(begun)  # type: ignore[type-var]
    for earlier, later in pairwise(jobs):
        assert earlier.ended_at is not None
        assert later.started_at is not None
        assert earlier.ended_at <= later.started_at
    for job in jobs:
        assert log_tail(job.job_id).count("began pause job") == 1


def test_stop_of_a_waiting_job_is_immediate_and_leaves_the_running_one() -> None:
    first, second, third = start(), pause(600), pause(600)
    assert queue.position(first.job_id) is None
    assert queue.position(second.job_id) == 1
    assert queue.position(third.job_id) == 2
    assert queue.stop(second.job_id).state == "stopped"
    assert queue.position(third.job_id) == 1
    assert get_job(first.job_id).state == "running"


def test_a_running_job_obeys_a_stop_and_goes_on_when_resumed() -> None:
    job = start()
    assert queue.stop(job.job_id).state == "stopping"
    until(lambda: get_job(job.job_id).state == "stopped")
    change_job(job.job_id, payload='{"seconds": 0, "device": "cpu"}')
    queue.resume(job.job_id)
    ended = queue.wait(job.job_id, poll_seconds=0.05)
    assert (ended.state, ended.stop_requested) == ("finished", False)


def test_sigterm_is_a_stop_request() -> None:
    job = start()
    assert job.pid is not None
    os.kill(job.pid, signal.SIGTERM)
    until(lambda: get_job(job.job_id).state == "stopped")


def test_kill_9_makes_a_job_lost_the_next_one_runs_and_it_can_be_resumed() -> None:
    job, following = start(), pause(0)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    until(lambda: bool(queue.dispatch()) or get_job(job.job_id).state == "lost")
    lost = get_job(job.job_id)
    assert lost.state == "lost"
    assert lost.error
    assert "Resume" in lost.hint
    assert queue.wait(following.job_id, poll_seconds=0.05).state == "finished"
    change_job(job.job_id, payload='{"seconds": 0, "device": "cpu"}')
    queue.resume(job.job_id)
    assert queue.wait(job.job_id, poll_seconds=0.05).state == "finished"
    assert log_tail(job.job_id, 100).count("began pause job") == 2


@pytest.mark.parametrize("busy", ["answering", "perplexity of the gold answers", ""])
def test_a_lost_evaluation_says_what_is_kept(busy: str) -> None:
    folder = evaluation_folder("eval-1")
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text('{"row_id": "a"}\n' * 6 + '{"row_')
    (folder / "likelihoods.jsonl").write_text('{"row_id": "a"}\n' * 2)
    job = queue.enqueue("evaluate", {"device": "cpu"}, subject="eval-1")
    at = Progress(done=0, total=20 if busy else 0, rate=2, eta_seconds=10, message=busy)
    change_job(job.job_id, state="running", heartbeat=now(), pid=os.getpid(), pid_started=1.0, progress=at)
    queue.dispatch()
    lost = get_job(job.job_id)
    assert (lost.state, lost.progress.done) == ("lost", {"answering": 6, "": 0}.get(busy, 2))
    assert "6 answers are kept" in lost.hint
    assert progress_text(lost.progress) == (f"{lost.progress.done} of 20 rows, {busy}" if busy else "")


def test_force_ends_a_worker_that_does_not_listen() -> None:
    job = start()
    assert job.pid is not None
    os.kill(job.pid, signal.SIGSTOP)  # alive, but deaf
    queue.stop(job.job_id, force=True)
    until(lambda: bool(queue.dispatch()) or get_job(job.job_id).state == "stopped")


def test_a_worker_of_which_no_process_is_known_is_lost_when_its_heartbeat_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    job = pause(0)
    change_job(job.job_id, state="starting", heartbeat=now())  # a dispatcher that died before it started the worker
    queue.dispatch()
    assert get_job(job.job_id).state == "starting"
    monkeypatch.setenv("TUNEWISE_LOST_AFTER_SECONDS", "0.01")
    time.sleep(0.05)
    queue.dispatch()
    assert get_job(job.job_id).state == "lost"


def test_a_reused_process_id_is_not_taken_for_the_worker() -> None:
    job = pause(0)
    change_job(job.job_id, state="running", heartbeat=now(), pid=os.getpid(), pid_started=1.0)
    queue.dispatch()
    assert get_job(job.job_id).state == "lost"


def test_only_ended_jobs_that_did_not_finish_can_be_resumed() -> None:
    job = pause(0)
    with pytest.raises(UserError, match="queued"):
        queue.resume(job.job_id)
    queue.dispatch()
    queue.wait(job.job_id, poll_seconds=0.05)
    with pytest.raises(UserError, match="finished"):
        queue.resume(job.job_id)
    with pytest.raises(NotFoundError):
        queue.resume("job-none")


def test_a_worker_that_cannot_start_fails_its_job_and_frees_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    job = pause(0)
    queue.dispatch()
    failed = get_job(job.job_id)
    assert failed.state == "failed"
    assert "could not be started" in failed.error
    assert queue.who_holds("cpu") is None


def test_unknown_kind_backend_and_too_many_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="dance"):
        queue.enqueue("dance")
    with pytest.raises(SpecError, match="moon"):
        queue.enqueue("pause", backend="moon")
    monkeypatch.setenv("TUNEWISE_DEVICES", "cuda:0")
    with pytest.raises(SpecError, match="2 GPUs"):
        queue.enqueue("pause", gpus=2)
    assert list_jobs() == []


def test_two_devices_serve_two_jobs_and_a_wide_job_is_not_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_DEVICES", "cuda:0,cuda:1")
    first = start()
    wide = queue.enqueue("pause", {"seconds": 0}, gpus=2)
    narrow = queue.enqueue("pause", {"seconds": 0})
    queue.dispatch()
    assert first.device == "cuda:0"
    assert get_job(wide.job_id).state == get_job(narrow.job_id).state == "queued"
    queue.stop(first.job_id)
    assert queue.wait(narrow.job_id, poll_seconds=0.05).state == "finished"
    assert get_job(wide.job_id).device == "cuda:0,cuda:1"
    assert get_job(wide.job_id).ended_at <= get_job(narrow.job_id).started_at  # type: ignore[operator]


def test_chat_lets_go_when_a_job_wants_its_device() -> None:
    assert queue.claim_device("cpu", "chat")
    assert queue.claim_device("cpu", "chat")
    assert not queue.claim_device("cpu", "another chat")
    job = pause(0)
    queue.dispatch()
    assert get_job(job.job_id).state == "queued"
    assert queue.is_wanted("cpu", "chat")
    queue.set_busy("cpu", "chat", True)
    assert [claim.busy for claim in queue.list_claims()] == [True]
    queue.release_device("cpu", "chat")
    assert queue.wait(job.job_id, poll_seconds=0.05).state == "finished"
    assert queue.claim_device("cpu", "chat")


def test_a_watched_claim_is_released_only_when_the_engine_agrees() -> None:
    answers = [False, False, True]
    assert queue.claim_device("cpu", "chat")
    queue.watch_claim("cpu", "chat", lambda: answers.pop(0), every=0.05)
    time.sleep(0.2)
    assert len(answers) == 3
    job = pause(0)
    queue.dispatch()
    assert queue.wait(job.job_id, poll_seconds=0.05).state == "finished"
    assert answers == []


def test_a_claim_of_a_dead_server_is_taken_over() -> None:
    with write() as session:
        session.add(ClaimRow(device="cpu", holder="chat of yesterday", pid=os.getpid(), pid_started=1.0, since=now()))
    job = pause(0)
    queue.dispatch()
    assert queue.wait(job.job_id, poll_seconds=0.05).state == "finished"


def test_the_dispatcher_does_not_import_torch() -> None:
    code = "import sys, core.jobs.queue as q; q.dispatch(); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_device_that_another_dispatcher_claimed_a_moment_before_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import IntegrityError

    from core.jobs import dispatcher

    carry_out, failures = dispatcher._carry_out, [1]

    def lose_the_race(session: object, plan: object) -> None:
        if failures:
            failures.pop()
            raise IntegrityError("insert", None, Exception("duplicate key"))
        carry_out(session, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatcher, "_carry_out", lose_the_race)
    job = pause(0)
    queue.dispatch()
    assert failures == []
    assert queue.wait(job.job_id, poll_seconds=0.05).state == "finished"


def test_a_job_outlives_the_server_that_started_it() -> None:
    code = (
        "import time\nfrom core.jobs import queue\n"
        "print(queue.enqueue('pause', {'seconds': 3}).job_id, flush=True)\nqueue.dispatch()\ntime.sleep(60)\n"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    job = server.stdout.readline().strip()
    until(lambda: bool(read_metrics(job)))
    os.killpg(server.pid, signal.SIGKILL)  # the server and all that belongs to its session
    server.wait()
    assert get_job(job).state == "running"
    ended = queue.wait(job, poll_seconds=0.05)
    assert (ended.state, ended.progress.done, ended.progress.total) == ("finished", 60, 60)
