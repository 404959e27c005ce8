"""Who is answered when: in the order of asking, with a visible place, chats before an evaluation's rows, and nothing kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.models import scheduler
from core.models.batch import Request
from core.models.engine import Engine
from core.models.load import load_model
from core.models.memory import release_memory
from core.records import GenerationSettings, ModelRef
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with Engine(load_model(ModelRef(source="path", name=str(folder), dtype="float32"), device="cpu")) as made:
        made._ends = frozenset()
        yield made


@pytest.fixture
def narrow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One row at a time."""
    object.__setattr__(engine._limits, "most", 1)
    monkeypatch.setattr(scheduler, "ALWAYS_ROOM", 0)
    return engine


def until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def test_each_sees_its_place_and_is_answered_in_the_order_of_asking(narrow: Engine) -> None:
    ids = narrow.tokenizer("Anna").input_ids
    first = narrow.ask(ids, GenerationSettings(max_new_tokens=400))
    next(first)
    others = [narrow.ask(ids, GenerationSettings(max_new_tokens=8)) for _ in range(4)]
    assert [stream.position for stream in [first, *others]] == [0, 0, 1, 2, 3]
    others[1].close()  # a closed tab: whoever is behind moves up
    assert [stream.position for stream in others] == [0, 0, 1, 2]
    first.close()
    for place in (0, 2, 3):
        assert len(list(others[place])) > 0
    ends = [others[place]._request.ended for place in (0, 2, 3)]
    assert ends == sorted(ends)
    assert others[1].answer.tokens == 0
    assert until(lambda: not narrow.busy)


def test_a_stream_that_is_dropped_frees_its_place(narrow: Engine) -> None:
    ids = narrow.tokenizer("Anna").input_ids
    dropped = narrow.ask(ids, GenerationSettings(max_new_tokens=2000))
    next(dropped)
    waiting = narrow.ask(ids, GenerationSettings(max_new_tokens=4))
    del dropped  # a browser session that ended takes its generator with it
    asked = time.perf_counter()
    assert list(waiting)
    assert time.perf_counter() - asked < 10


def test_a_chat_does_not_wait_for_an_evaluation_to_end(engine: Engine) -> None:
    object.__setattr__(engine._limits, "most", 8)
    ids = engine.tokenizer("Anna Berg joined").input_ids
    ended = threading.Event()

    def evaluate() -> None:
        engine.generate([ids] * 64, GenerationSettings(max_new_tokens=120))
        ended.set()

    thread = threading.Thread(target=evaluate)
    thread.start()
    assert until(lambda: engine.busy)
    assert list(engine.ask(ids, GenerationSettings(max_new_tokens=6)))
    assert not ended.is_set()
    thread.join()


@contextmanager
def held_back(engine: Engine) -> Iterator[None]:
    """The model does nothing while the block runs, so that all that is asked in it waits."""
    begun, gate = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: engine._scheduler.run(lambda: (begun.set(), gate.wait(60))))
    thread.start()
    assert begun.wait(60)
    try:
        yield
    finally:
        gate.set()
        thread.join()


def test_a_late_short_question_is_answered_at_once_where_there_is_room(engine: Engine) -> None:
    ids = engine.tokenizer("Anna Berg joined").input_ids
    with held_back(engine):
        long = [engine.ask(ids, GenerationSettings(max_new_tokens=150)) for _ in range(20)]
    assert next(long[0])
    short = engine.ask(ids, GenerationSettings(max_new_tokens=3))
    assert list(short)
    assert all(stream._request.finish == "" for stream in long)
    assert [len(list(stream)) > 10 for stream in long] == [True] * 20


def test_a_late_short_question_gets_the_first_place_after_those_before_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four at once: the 13th begins when the 9th has ended, whatever their lengths, and doesn't wait for the last three."""
    object.__setattr__(engine._limits, "most", 4)
    monkeypatch.setattr(scheduler, "ALWAYS_ROOM", 0)
    ids = engine.tokenizer("Anna Berg joined").input_ids
    with held_back(engine):
        long = [engine.ask(ids, GenerationSettings(max_new_tokens=40 + 17 * (n * 5 % 12))) for n in range(12)]
        short = engine.ask(ids, GenerationSettings(max_new_tokens=3))
    for stream in [*long, short]:
        assert list(stream)
    requests = [stream._request for stream in [*long, short]]
    begun = [request.started for request in requests]
    assert begun == sorted(begun)
    assert sum(request.ended > begun[-1] for request in requests[:-1]) == 3
    assert requests[-1].ended < max(request.ended for request in requests)


def test_no_session_is_overtaken_while_twenty_ask_over_and_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    object.__setattr__(engine._limits, "most", 3)
    monkeypatch.setattr(scheduler, "ALWAYS_ROOM", 0)
    ids = engine.tokenizer("Anna Berg joined").input_ids
    asked: list[Request] = []

    def session(number: int) -> None:
        for turn in range(4):
            stream = engine.ask(ids[: 1 + number % 3], GenerationSettings(max_new_tokens=1 + (number * 7 + turn * 3) % 30))
            assert list(stream)
            asked.append(stream._request)

    threads = [threading.Thread(target=session, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 80
    at_once = 0.05  # seconds in which two count as asking at the same time: their threads race to the queue
    overtaken = [(a, b) for a in asked for b in asked if b.submitted > a.submitted + at_once and b.started < a.started]
    assert overtaken == []


def test_rows_of_an_evaluation_are_not_overtaken_for_ever(narrow: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time, and more chats than will ever be done: after eight of them a row has its turn."""
    monkeypatch.setattr(scheduler, "MOST_OVERTAKEN", 8)
    ids = narrow.tokenizer("Anna").input_ids
    once = GenerationSettings(max_new_tokens=1)
    order: list[str] = []
    step = scheduler.Batch.step

    def told(batch: scheduler.Batch, select: Any) -> None:
        order.extend("chat" if r.interactive else "row" for r in batch.requests)
        step(batch, select)

    monkeypatch.setattr(scheduler.Batch, "step", told)
    with held_back(narrow):
        rows = threading.Thread(target=lambda: narrow.generate([ids] * 3, once))
        rows.start()
        assert until(lambda: len(narrow._scheduler._rows) == 3)
        chats = [narrow.ask(ids, once) for _ in range(40)]
    rows.join()
    for chat in chats:
        list(chat)
    assert [place for place, what in enumerate(order) if what == "row"] == [8, 17, 26]


@pytest.mark.slow
def test_memory_is_flat_over_two_hundred_turns(engine: Engine) -> None:
    """Twenty sessions of ten turns each, their histories growing, some of them left in the middle."""
    settings = GenerationSettings(max_new_tokens=24)
    history: dict[int, list[int]] = {n: list(engine.tokenizer(f"session {n}: 张三").input_ids) for n in range(20)}

    def turn(number: int, round_: int) -> None:
        stream = engine.ask(history[number][-600:], settings)
        if (number + round_) % 7 == 0:
            next(stream)
            stream.close()
        else:
            assert "".join(stream) == stream.answer.text
        history[number] += stream.answer.ids

    def rounds(which: range) -> int:
        for round_ in which:
            threads = [threading.Thread(target=turn, args=(n, round_)) for n in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert until(lambda: not engine.busy)
        release_memory()
        return int(psutil.Process().memory_info().rss)

    rounds(range(5))  # allocators fill their pools
    before = rounds(range(5, 10))
    after = rounds(range(10, 20))
    assert after - before < 24 * 2**20
    assert engine._scheduler._batches == []
    assert not engine._scheduler._chats
