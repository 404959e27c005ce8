"""Engines are kept within bounds, and the old one goes before the new one comes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from core.errors import ModelError
from core.models.cache import EngineCache
from core.records import ModelRef

A, B, C = (ModelRef(source="path", name=f"/{letter}") for letter in "abc")


class Log(list[str]):
    """What was loaded and closed, in order."""

    def load(self, ref: ModelRef, device: str | None) -> Any:
        log, label = self, ref.label

        class Fake:
            name = label

            def close(self) -> None:
                log.append(f"-{label}")

        self.append(f"+{label}")
        return Fake()


@pytest.fixture
def log() -> Log:
    return Log()


def use(cache: EngineCache, ref: ModelRef) -> None:
    with cache.using(ref) as engine:
        assert engine.name == ref.label  # type: ignore[attr-defined]


def test_the_old_is_released_before_the_new_loads(log: Log) -> None:
    cache = EngineCache(load=log.load, size=lambda ref: 1)
    for ref in (A, A, B, A):
        use(cache, ref)
    assert log == ["+a", "-a", "+b", "-b", "+a"]
    assert cache.release()
    assert log[-1] == "-a"
    assert cache.loaded == []


def test_the_least_recently_used_goes(log: Log) -> None:
    cache = EngineCache(2, load=log.load, size=lambda ref: 1)
    for ref in (A, B, A, C):
        use(cache, ref)
    assert log == ["+a", "+b", "-b", "+c"]


def test_a_memory_budget(log: Log) -> None:
    cache = EngineCache(9, budget_bytes=10, load=log.load, size=lambda ref: {"a": 4, "b": 5, "c": 6}[ref.label])
    for ref in (A, B, C):
        use(cache, ref)
    assert log == ["+a", "+b", "-a", "-b", "+c"]


def test_what_is_in_use_stays_and_others_wait_for_it(log: Log) -> None:
    cache = EngineCache(load=log.load, size=lambda ref: 1, wait_seconds=0.05)
    with cache.using(A):
        assert not cache.release()
        with pytest.raises(ModelError, match="no room for b: a is answering"), cache.using(B):
            pass
    patient = EngineCache(load=log.load, size=lambda ref: 1, wait_seconds=10)
    entered = threading.Event()
    with patient.using(A):
        thread = threading.Thread(target=lambda: (entered.set(), use(patient, B)))
        thread.start()
        entered.wait()
    thread.join(5)
    assert patient.loaded == [B]


def test_many_at_once_load_once(log: Log) -> None:
    cache = EngineCache(load=lambda ref, device: (time.sleep(0.02), log.load(ref, device))[1], size=lambda ref: 1)
    threads = [threading.Thread(target=use, args=(cache, A)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == ["+a"]


def test_idle_engines_go_by_a_timer(log: Log) -> None:
    cache = EngineCache(2, load=log.load, size=lambda ref: 1, idle_seconds=0.1)
    use(cache, A)
    with cache.using(B):
        deadline = time.monotonic() + 5
        while A in cache.loaded and time.monotonic() < deadline:
            time.sleep(0.01)
        assert cache.loaded == [B]
        time.sleep(0.15)
        assert cache.loaded == [B]
    while cache.loaded and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log == ["+a", "+b", "-a", "-b"]


def test_a_failed_load_leaves_room(log: Log) -> None:
    def load(ref: ModelRef, device: str | None) -> Any:
        if ref == B:
            raise ModelError("broken")
        return log.load(ref, device)

    cache = EngineCache(load=load, size=lambda ref: 1)
    with pytest.raises(ModelError, match="broken"), cache.using(B):
        pass
    use(cache, A)
    assert cache.loaded == [A]
