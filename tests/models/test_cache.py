"""Engines are kept within bounds, and the old one goes before the new one comes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelError
from core.models import cache as cache_module
from core.models.cache import EngineCache, load_engine
from core.models.kept import Line
from core.records import ModelRef

A, B, C = (ModelRef(source="path", name=f"/{letter}") for letter in "abc")


class Log(list[str]):
    """What was loaded and closed, in order."""

    def load(self, ref: ModelRef, device: str | None, progress: Any = None) -> Any:
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


def until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


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
    thread.join(60)
    assert patient.loaded == [B]


def test_who_waits_for_a_model_is_not_overtaken_by_those_who_keep_another_busy(log: Log) -> None:
    cache = EngineCache(load=log.load, size=lambda ref: 1, wait_seconds=60)
    told: list[str] = []
    served: list[str] = []

    def ask(ref: ModelRef) -> None:
        with cache.using(ref, None, told.append if ref == B else None) as engine:
            served.append(engine.name)  # type: ignore[attr-defined]

    with cache.using(A):
        waits = threading.Thread(target=ask, args=(B,))
        waits.start()
        assert until(lambda: bool(told))
        late = [threading.Thread(target=ask, args=(ref,)) for ref in (A, A)]
        for thread in late:
            thread.start()
        time.sleep(0.1)
        assert served == []  # not even by those whose model is in memory
    for thread in [waits, *late]:
        thread.join(60)
    assert served == ["b", "a", "a"]
    assert log == ["+a", "-a", "+b", "-b", "+a"]
    assert told == ["b waits for a, which is answering."]


def test_who_gave_up_waiting_holds_nobody_back(log: Log) -> None:
    cache = EngineCache(load=log.load, size=lambda ref: 1, wait_seconds=0.05)
    with cache.using(A):
        with pytest.raises(ModelError, match="no room"), cache.using(B):
            pass
        use(cache, A)
    assert log == ["+a"]


def test_a_line_is_had_in_the_order_of_asking() -> None:
    line, order = Line(), []

    def wait(number: int) -> None:
        with line.turn():
            order.append(number)

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(30)]
    with line.turn():
        for place, thread in enumerate(threads):
            thread.start()
            assert until(lambda place=place: len(line._waiting) == place + 2)  # type: ignore[misc]
    for thread in threads:
        thread.join(60)
    assert order == list(range(30))


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
    with cache.using(B):
        use(cache, A)
        deadline = time.monotonic() + 60
        while A in cache.loaded and time.monotonic() < deadline:
            time.sleep(0.01)
        assert cache.loaded == [B]
        time.sleep(0.15)
        assert cache.loaded == [B]
    while cache.loaded and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log == ["+b", "+a", "-a", "-b"]


def test_what_went_and_why_is_told(log: Log) -> None:
    cache = EngineCache(load=log.load, size=lambda ref: 7, idle_seconds=1)
    with cache.using(A, "cpu"):
        (held,) = cache.held
        assert (held.ref, held.device, held.bytes, held.users, held.idle_seconds) == (A, "cpu", 7, 1, 0.0)
    use(cache, B)
    deadline = time.monotonic() + 60
    while cache.loaded and time.monotonic() < deadline:
        time.sleep(0.01)
    use(cache, C)
    assert cache.release(reason="a job wanted the device")
    found = [(gone.ref, gone.reason) for gone in cache.released]
    assert found == [(C, "a job wanted the device"), (B, "nobody asked it for 1 s"), (A, "b was asked for")]


def test_an_engine_goes_where_the_free_memory_would_not_hold_both(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_memory", lambda device: 10)
    cache = EngineCache(3, load=log.load, size=lambda ref: {"a": 4, "b": 9, "c": 10}[ref.label])
    for ref in (A, B, C):
        use(cache, ref)
    assert log == ["+a", "+b", "-a", "-b", "+c"]


class Claims(list[str]):
    """What was claimed, in order."""

    refuse = False

    def take(self, device: str | None) -> None:
        if self.refuse:
            raise ModelError("a job has it")
        self.append(f"take {device}")

    def drop(self, device: str | None) -> None:
        self.append(f"drop {device}")

    def busy(self, device: str | None, busy: bool) -> None:
        self.append(f"{'busy' if busy else 'idle'} {device}")


def test_a_device_is_claimed_while_an_engine_is_on_it(log: Log) -> None:
    claims = Claims()
    cache = EngineCache(2, load=log.load, size=lambda ref: 1, claims=claims)
    with cache.using(A, "gpu"), cache.using(B, "gpu"), cache.using(A, "gpu"):
        pass
    assert claims == ["take gpu", "busy gpu", "idle gpu"]
    cache.release()
    assert claims[3:] == ["drop gpu"]
    claims.refuse = True
    with pytest.raises(ModelError, match="a job has it"), cache.using(A, "gpu"):
        pass
    assert cache.loaded == []


def test_a_load_that_fails_gives_its_claim_back() -> None:
    claims = Claims()

    def load(ref: ModelRef, device: str | None) -> Any:
        raise ModelError("broken")

    cache = EngineCache(load=load, size=lambda ref: 1, claims=claims)
    with pytest.raises(ModelError, match="broken"), cache.using(A, "cpu"):
        pass
    assert claims == ["take cpu", "drop cpu"]


def test_who_waits_hears_what_for() -> None:
    told: list[str] = []

    def load(ref: ModelRef, device: str | None, progress: Any = None) -> Any:
        progress(f"{ref.label} doesn't fit")
        return type("Fake", (), {"close": lambda self: None})()

    with EngineCache(load=load, size=lambda ref: 1).using(A, "cpu", told.append):
        assert told == ["a doesn't fit"]


def test_bounds_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_ENGINES", "3")
    monkeypatch.setenv("TUNEWISE_ENGINE_MEMORY_GB", "2.5")
    monkeypatch.setenv("TUNEWISE_ENGINE_IDLE_SECONDS", "0")
    cache = cache_module.from_settings()
    assert (cache._most, cache._budget, cache._idle) == (3, 2_500_000_000, None)


def test_nothing_of_a_released_engine_stays(tmp_path: Path) -> None:
    """Every weight is gone, with adapters and the lane's buffers; on a GPU within 64 MiB of before the load."""
    import torch

    from core.records import GenerationSettings
    from tests.tiny import make_tiny_model

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    folder = make_tiny_model(tmp_path / "model", hidden=256, layers=4)
    before = torch.cuda.memory_allocated() if device != "cpu" else 0
    cache = EngineCache(load=lambda ref, where: load_engine(ref, where))
    ref = ModelRef(source="path", name=str(folder), dtype="float32")
    with cache.using(ref, device) as engine:
        weights = [weakref.ref(parameter) for parameter in engine._model.parameters()]
        stream = engine.ask(engine.tokenizer("x").input_ids, GenerationSettings(max_new_tokens=200))
        next(stream)  # one that is left half-way
    assert cache.release()
    del engine
    gc.collect()
    assert [weight for weight in weights if weight() is not None] == []
    assert stream.answer.finish == "stopped"
    if device != "cpu":
        torch.cuda.synchronize()
        assert abs(torch.cuda.memory_allocated() - before) < 64 * 2**20


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
