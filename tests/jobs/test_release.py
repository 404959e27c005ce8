"""A job on a GPU (a pretended one) starts only after the model that Chat has on it is out of memory, and says so meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core.jobs import engines, queue
from core.models import cache
from core.records import ModelRef
from core.store.jobs import get_job

MODEL = ModelRef(source="path", name="/a")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[datetime]]:
    """When the model was let go. Its engine takes a moment for that, as real ones do."""
    found: list[datetime] = []

    class Engine:
        def attach(self, name: str, folder: Any) -> None: ...

        def close(self) -> None:
            time.sleep(0.3)
            found.append(datetime.now(UTC))

    monkeypatch.setenv("TUNEWISE_DEVICES", "cuda:0")
    monkeypatch.setattr(engines, "WATCH_SECONDS", 0.05)
    made = cache.EngineCache(load=lambda ref, device: Engine(), size=lambda ref: 1, claims=engines.DeviceClaims())
    monkeypatch.setattr(cache, "_process", made)
    yield found
    made.release()


def test_the_model_on_the_gpu_is_released_before_the_job_starts(closed: list[datetime]) -> None:
    with engines.answering(MODEL):
        assert (queue.who_holds("cuda:0") or "").startswith("chat-")
        job = queue.enqueue("pause", {"seconds": 0})
        queue.dispatch()
        time.sleep(0.3)
        assert get_job(job.job_id).state == "queued"  # an answer is finished first
        assert (queue.waits_for(job) or "").startswith("chat-")
        assert closed == []
    ended = queue.wait(job.job_id, poll_seconds=0.05)
    assert (ended.state, ended.device) == ("finished", "cuda:0")
    assert ended.started_at is not None
    assert len(closed) == 1
    assert closed[0] <= ended.started_at


def test_a_job_behind_another_waits_for_that(closed: list[datetime]) -> None:
    first, second = queue.enqueue("pause", {"seconds": 30}), queue.enqueue("pause", {"seconds": 0})
    queue.dispatch()
    assert queue.waits_for(second) == first.job_id
    queue.stop(first.job_id, force=True)
    assert queue.wait(second.job_id, poll_seconds=0.05).state == "finished"
    assert queue.waits_for(second) is None
    assert closed == []
