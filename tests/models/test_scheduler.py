"""Who is answered when: in the order of asking, with a visible place, chats before an evaluation's rows, and nothing kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core.models import scheduler
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
    assert len(engine._scheduler._waiting) == 0
