"""The fast lane of single rows: the very answers of the plain way, with rows joining, leaving, stopping and failing.

On a CPU the lane's steps run uncaptured; what a CUDA graph replays is the same step. Where there is a GPU, captured too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.models import lane
from core.models.engine import Engine
from core.models.load import LoadedModel, load_model
from core.records import GenerationSettings, ModelRef
from tests.tiny import make_tiny_model

GREEDY = GenerationSettings(max_new_tokens=24)
TEXTS = ("张三于2021年3月5日", "Anna Berg joined Norvik Trading in Oslo", "x", "the amount of")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, device: str = "cpu") -> LoadedModel:
    return load_model(ModelRef(source="path", name=str(folder), dtype="float32"), device=device)


@pytest.fixture
def plain(folder: Path) -> Iterator[Engine]:
    with Engine(load(folder)) as made:
        yield made


@pytest.fixture(params=["cpu", pytest.param("cuda:0", marks=CUDA)])
def engine(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """With narrow buffers, so that rows go from one width to the next."""
    monkeypatch.setattr(lane, "WIDTHS", (16, 24, 40, 96))
    with Engine(load(folder, request.param), capture=request.param != "cpu") as made:
        while made.busy:  # warming up, in the lane
            time.sleep(0.01)
        yield made


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = {}
    for seed, (name, dora) in enumerate({"one": False, "two": False, "dora": True}.items()):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, use_dora=dora, task_type="CAUSAL_LM")
        made[name] = tmp_path_factory.mktemp(name)
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(made[name])
    return made


def prompts(engine: Engine) -> list[list[int]]:
    return [engine.tokenizer(text).input_ids for text in TEXTS]


def steps(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Columns written before each step that goes through the lane, as they come."""
    taken: list[int] = []
    assert engine._lane is not None
    step = engine._lane.step
    monkeypatch.setattr(engine._lane, "step", lambda *given: (taken.append(engine._lane._length), step(*given))[1])
    return taken


def test_one_row_alone_takes_the_lane_and_says_the_same(engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = steps(engine, monkeypatch)
    for ids in prompts(plain) * 3:
        taken.clear()
        assert engine.generate([ids], GREEDY)[0].ids == plain.generate([ids], GREEDY)[0].ids
        assert taken == list(range(len(ids), len(ids) + 23))  # the first token comes from reading the prompt
    assert "".join(engine.stream(ids, GREEDY)) == plain.generate([ids], GREEDY)[0].text


def test_draws_penalties_and_patterns_are_as_elsewhere(engine: Engine, plain: Engine) -> None:
    ids = prompts(plain)[0]
    drawn = GenerationSettings(max_new_tokens=20, temperature=1.1, top_p=0.9, top_k=30, repetition_penalty=1.2, seed=3)
    assert engine.generate([ids], drawn)[0].ids == plain.generate([ids], drawn)[0].ids
    pattern = r"\{\"a\": \"[a-z]{3,6}\"\}"
    assert engine.generate([ids], GREEDY, pattern=pattern)[0].text == plain.generate([ids], GREEDY, pattern=pattern)[0].text


def test_rows_that_join_and_leave(engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = steps(engine, monkeypatch)
    asked = prompts(plain)
    settings = GenerationSettings(max_new_tokens=40)
    wanted = [plain.generate([ids], settings)[0].text for ids in asked]
    found: dict[int, str] = {}

    def session(number: int) -> None:
        time.sleep(0.01 * number)
        found[number] = "".join(engine.stream(asked[number % 4], settings))

    threads = [threading.Thread(target=session, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: wanted[n % 4] for n in range(8)}
    assert 0 < len(taken) < 8 * 39


def test_a_row_comes_back_into_the_lane(engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of unequal length: the one that stays is alone again."""
    taken = steps(engine, monkeypatch)
    long, short = prompts(plain)[0], prompts(plain)[1]
    wanted = plain.generate([long], GenerationSettings(max_new_tokens=50))[0].text
    stream = engine.ask(long, GenerationSettings(max_new_tokens=50))
    pieces = [next(stream)]
    other = "".join(engine.stream(short, GenerationSettings(max_new_tokens=4)))
    assert other == plain.generate([short], GenerationSettings(max_new_tokens=4))[0].text
    assert "".join([*pieces, *stream]) == wanted
    assert taken[-1] == len(long) + 48


def test_adapters_have_steps_of_their_own(engine: Engine, plain: Engine, adapters: dict[str, Path]) -> None:
    ids = prompts(plain)[1]
    for name, path in adapters.items():
        engine.attach(name, path)
        plain.attach(name, path)
    for name in (None, "one", "two", "dora", "one", None) * 2:
        assert engine.generate([ids], GREEDY, adapter=name)[0].ids == plain.generate([ids], GREEDY, adapter=name)[0].ids
    engine.detach("one")
    engine.attach("one", adapters["two"])  # another adapter under a name that was warm
    assert engine.generate([ids], GREEDY, adapter="one")[0].ids == plain.generate([ids], GREEDY, adapter="two")[0].ids


def test_two_batches_that_cannot_mix_share_the_lane_without_mixing(
    engine: Engine, plain: Engine, adapters: dict[str, Path]
) -> None:
    ids = prompts(plain)[1]
    for name in ("one", "dora"):
        engine.attach(name, adapters[name])
        plain.attach(name, adapters[name])
    settings = GenerationSettings(max_new_tokens=40)
    streams = [engine.ask(ids, settings, adapter=name) for name in ("one", "dora")]
    found: dict[int, str] = {}
    threads = [threading.Thread(target=lambda n=n: found.__setitem__(n, "".join(streams[n]))) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == [plain.generate([ids], settings, adapter=name)[0].text for name in ("one", "dora")]


def test_a_row_that_could_outgrow_the_lane_goes_the_plain_way(engine: Engine, plain: Engine) -> None:
    ids = prompts(plain)[0]
    settings = GenerationSettings(max_new_tokens=200)
    assert engine.generate([ids], settings)[0].ids == plain.generate([ids], settings)[0].ids
    assert engine._lane is not None
    assert engine._lane._layers == [] or engine._lane.capture


def test_a_stop_frees_the_lane(engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine.ask(prompts(plain)[0], GenerationSettings(max_new_tokens=60))
    next(stream)
    stream.close()
    while engine.busy:
        time.sleep(0.01)
    taken = steps(engine, monkeypatch)
    ids = prompts(plain)[2]
    assert engine.generate([ids], GREEDY)[0].ids == plain.generate([ids], GREEDY)[0].ids
    assert len(taken) == 23


def test_what_cannot_be_captured_goes_the_plain_way_and_says_why(folder: Path, plain: Engine) -> None:
    if torch.cuda.is_available():
        pytest.skip("here it can be captured")
    with Engine(load(folder), capture=True) as engine:  # there is no GPU: capturing fails at the third step
        ids = prompts(plain)[1]
        assert engine.generate([ids], GREEDY)[0].ids == plain.generate([ids], GREEDY)[0].ids
        assert engine.decoding.startswith("plain steps: no CUDA graph (")
        assert engine.generate([ids], GREEDY)[0].ids == plain.generate([ids], GREEDY)[0].ids
    assert plain.decoding == "plain steps"


def test_running_out_of_memory_in_the_lane_is_told(engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.errors import ModelError

    def fails(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine._lane, "step", fails)
        with pytest.raises(ModelError, match="Out of memory") as caught:
            engine.generate([prompts(plain)[0]], GREEDY)
    assert "nf4" in caught.value.hint
    ids = prompts(plain)[3]
    assert engine.generate([ids], GREEDY)[0].ids == plain.generate([ids], GREEDY)[0].ids


def test_without_memory_for_the_buffers_rows_go_the_plain_way(
    engine: Engine, plain: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert engine._lane is not None
    engine._lane.clear()
    monkeypatch.setattr(engine._lane, "_allocate", fails)
    ids = prompts(plain)[0]
    assert engine.generate([ids], GREEDY)[0].ids == plain.generate([ids], GREEDY)[0].ids
    assert engine.decoding == "plain steps: no CUDA graph (no memory for its buffers)"


@CUDA
@pytest.mark.parametrize("quantisation", ["none", "nf4"])
def test_graphs_are_captured_and_memory_comes_back(folder: Path, quantisation: str) -> None:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    ref = ModelRef(source="path", name=str(folder), quantisation=quantisation)
    with Engine(load_model(ref, device="cuda:0")) as engine:
        for _ in range(3):
            engine.generate([engine.tokenizer(TEXTS[0]).input_ids], GREEDY)
        assert engine._lane is not None
        assert engine._lane.graphs > 0
        assert engine.decoding.startswith("CUDA graphs (")
    assert abs(torch.cuda.memory_allocated() - before) < 64 * 2**20
