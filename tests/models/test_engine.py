"""The engine on a tiny model: the same answers alone, in a batch, streamed, and from transformers' own loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.errors import ModelError
from core.models.adapters import Adapters
from core.models.default import is_converted
from core.models.engine import Engine
from core.models.load import LoadedModel, load_model
from core.records import GenerationSettings, ModelRef
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")
GREEDY = GenerationSettings(max_new_tokens=24)
TEXTS = (
    "张三于2021年3月5日",
    "Anna Berg joined Norvik Trading in Oslo",
    "x",
    "从文本中抽取要素，输出 JSON：姓名",
    "the amount of",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(ModelRef(source="path", name=str(folder), dtype="float32"), device="cpu")


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with Engine(load_model(ModelRef(source="path", name=str(folder), dtype="float32"), device="cpu")) as made:
        yield made


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two LoRA adapters and one with DoRA, all with random weights."""
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


def test_greedy_equals_transformers_and_does_not_depend_on_the_batch(engine: Engine, loaded: LoadedModel) -> None:
    asked = prompts(engine)
    answers = engine.generate(asked * 3, GREEDY)
    for place, ids in enumerate(asked * 3):
        whole = loaded.model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :].tolist()
        assert [*answers[place].ids] == [t for t in whole if t not in engine._ends]
        assert answers[place].prompt_tokens == len(ids)
        assert answers[place].text == engine.tokenizer.decode(answers[place].ids, skip_special_tokens=True)
    assert engine.generate(asked[:1], GREEDY)[0].ids == answers[0].ids


def test_rows_join_while_others_are_under_way(engine: Engine) -> None:
    asked = prompts(engine) * 8
    alone = [engine.generate([ids], GREEDY)[0].text for ids in prompts(engine)]
    object.__setattr__(engine._limits, "most", 6)  # far fewer than are asked: rows come in as others end
    settings = [GenerationSettings(max_new_tokens=n) for n in (3, 24)]
    short: list[str] = []
    thread = threading.Thread(target=lambda: short.extend(a.text for a in engine.generate(asked, settings[0])))
    thread.start()
    answers = engine.generate(asked, settings[1])
    thread.join()
    assert [a.text for a in answers] == alone * 8
    assert all(text.startswith(piece.rstrip("\ufffd")) for text, piece in zip(alone * 8, short, strict=True))


def test_streaming_gives_the_same_text_in_pieces(engine: Engine) -> None:
    for ids in prompts(engine):
        stream = engine.ask(ids, GREEDY)
        pieces = list(stream)
        assert len(pieces) > 3
        assert "".join(pieces) == engine.generate([ids], GREEDY)[0].text == stream.answer.text
        assert stream.answer.finish == "length"


def test_stop_strings_end_the_answer_before_them(engine: Engine) -> None:
    ids = prompts(engine)[1]
    text = engine.generate([ids], GREEDY)[0].text
    stop = text[6:9]
    answer = engine.generate([ids], GREEDY, stop=[stop])[0]
    assert (answer.text, answer.finish) == (text[: text.index(stop)], "stop")
    assert answer.tokens < 24
    assert "".join(engine.stream(ids, GREEDY, stop=[stop])) == answer.text
    assert engine.generate([ids], GREEDY.model_copy(update={"stop": (stop,)}))[0].text == answer.text


def test_the_end_of_turn_ends_an_answer_and_is_not_in_it(engine: Engine) -> None:
    ids = prompts(engine)[1]
    plain = engine.generate([ids], GREEDY)[0]
    engine._ends |= {plain.ids[5]}
    answer = engine.generate([ids], GREEDY)[0]
    first = plain.ids.index(plain.ids[5])
    assert (answer.ids, answer.tokens, answer.finish) == (plain.ids[:first], first + 1, "stop")


def test_seeds_repeat_and_differ_and_rows_draw_on_their_own(engine: Engine) -> None:
    asked = prompts(engine)
    settings = GenerationSettings(max_new_tokens=16, temperature=1.2, top_p=0.9, top_k=40, repetition_penalty=1.1, seed=5)
    first = engine.generate(asked, settings)
    assert [a.ids for a in engine.generate(asked, settings)] == [a.ids for a in first]
    assert engine.generate(asked[:1], settings)[0].ids == first[0].ids
    assert [a.ids for a in engine.generate(asked, settings.model_copy(update={"seed": 6}))] != [a.ids for a in first]
    assert "".join(engine.stream(asked[0], settings)) == first[0].text


def test_on_row_reports_each_row_once_as_it_ends(engine: Engine) -> None:
    seen: dict[int, str] = {}
    answers = engine.generate(prompts(engine), GREEDY, on_row=lambda row, answer: seen.__setitem__(row, answer.text))
    assert seen == {row: answer.text for row, answer in enumerate(answers)}


def test_a_stop_ends_generation_soon(engine: Engine) -> None:
    settings = GenerationSettings(max_new_tokens=1500)
    engine._ends = frozenset()
    asked = time.perf_counter()
    answers = engine.generate(prompts(engine), settings, should_stop=lambda: time.perf_counter() - asked > 0.1)
    assert time.perf_counter() - asked < 10
    assert {a.finish for a in answers} == {"stopped"}
    stream = engine.ask(prompts(engine)[0], settings)
    next(stream)
    stream.close()
    deadline = time.perf_counter() + 10
    while engine.busy and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert not engine.busy
    assert stream.answer.finish == "stopped"


def test_an_error_in_on_row_frees_the_model(engine: Engine) -> None:
    def fail(row: int, answer: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.generate(prompts(engine), GREEDY, on_row=fail)
    assert engine.generate(prompts(engine), GREEDY)[0].finish == "length"


def test_score_is_the_models_own_loss(engine: Engine, loaded: LoadedModel) -> None:
    asked, answers = prompts(engine), [[5, 6, 7], [8], [], [9] * 20, [11, 12]]
    for (total, tokens), prompt, answer in zip(engine.score(asked, answers), asked, answers, strict=True):
        assert tokens == len(answer)
        if answer:
            labels = torch.tensor([[-100] * len(prompt) + answer])
            loss = loaded.model(input_ids=torch.tensor([[*prompt, *answer]]), labels=labels).loss
            assert total == pytest.approx(float(loss) * tokens, rel=1e-4)
    assert math.isnan(engine.score(asked[:1], [[5]], should_stop=lambda: True)[0][0])


def test_adapters_switch_and_leave_the_base_as_it_was(engine: Engine, adapters: dict[str, Path]) -> None:
    asked = prompts(engine)
    base = [a.ids for a in engine.generate(asked, GREEDY)]
    engine.attach("one", adapters["one"])
    engine.attach("two", adapters["two"])
    one, two = ([a.ids for a in engine.generate(asked, GREEDY, adapter=name)] for name in ("one", "two"))
    assert base != one != two != base
    assert [a.ids for a in engine.generate(asked, GREEDY)] == base
    assert engine.score(asked[:1], [[5, 6]], "one") != engine.score(asked[:1], [[5, 6]])
    engine.detach("one")
    assert engine.adapters == ["two"]
    assert [a.ids for a in engine.generate(asked, GREEDY, adapter="two")] == two
    with pytest.raises(ModelError, match="no adapter"):
        engine.generate(asked, GREEDY, adapter="one")


def test_base_and_adapters_in_one_call(engine: Engine, adapters: dict[str, Path]) -> None:
    ids = prompts(engine)[1]
    names: list[str | None] = [None, "one", "two", "dora"]
    for name in names[1:]:
        engine.attach(str(name), adapters[str(name)])
    alone = [engine.generate([ids], GREEDY, adapter=name)[0].ids for name in names]
    assert len(set(alone)) == 4
    assert engine._adapters.can_mix(names[:3])
    assert not engine._adapters.can_mix(names)
    for some in (names[:3], names, [*names, *names]):
        mixed = engine.generate([ids] * len(some), GREEDY, adapter=some)
        assert [a.ids for a in mixed] == [alone[names.index(n)] for n in some]


def test_an_adapter_of_another_model_is_refused_and_does_no_harm(
    engine: Engine, adapters: dict[str, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "wide", hidden=128))
    get_peft_model(other, LoraConfig(r=4, target_modules="all-linear")).save_pretrained(tmp_path / "adapter")
    before = engine.generate(prompts(engine), GREEDY)[0].ids
    with pytest.raises(ModelError, match="doesn't fit"):
        engine.attach("wide", tmp_path / "adapter")
    assert engine.generate(prompts(engine), GREEDY)[0].ids == before
    engine.attach("one", adapters["one"])
    assert engine.adapters == ["one"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no adapter_config"),
        (("adapter_config.json",), "no weights"),
        (("adapter_config.json", "adapter_model.bin"), "pickled"),
    ],
)
def test_folders_that_are_no_adapter(engine: Engine, tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=message):
        engine.attach("x", tmp_path)


def test_out_of_memory_halves_the_batch_and_loses_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prompts(engine) * 2
    wanted = [a.text for a in engine.generate(asked, GREEDY)]
    model, select, sizes = engine._model, Adapters.select, []

    class Small:
        def __call__(self, *, input_ids: torch.Tensor, **more: object) -> object:
            sizes.append(len(input_ids))
            if len(input_ids) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return model(input_ids=input_ids, **more)

    monkeypatch.setattr(Adapters, "select", lambda self, names: (Small(), select(self, names)[1]))
    assert [a.text for a in engine.generate(asked, GREEDY)] == wanted
    assert max(sizes) == 10
    monkeypatch.setattr(Adapters, "select", lambda self, names: (_raises, {}))
    with pytest.raises(ModelError, match="Out of memory"):
        engine.generate(asked[:1], GREEDY)


def _raises(**_: object) -> object:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_many_sessions_get_their_own_answers(engine: Engine) -> None:
    asked = prompts(engine)
    wanted = [engine.generate([ids], GREEDY)[0].text for ids in asked]
    found: dict[int, str] = {}

    def session(number: int) -> None:
        found[number] = "".join(engine.stream(asked[number % len(asked)], GREEDY))

    threads = [threading.Thread(target=session, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: wanted[n % len(asked)] for n in range(20)}


def test_too_long_and_closed(engine: Engine) -> None:
    with pytest.raises(ModelError, match="too many"):
        engine.generate([[5] * 2048], GREEDY)
    near = engine.generate([[5] * 2040], GREEDY)[0]
    assert near.tokens <= 8
    engine.close()
    with pytest.raises(ModelError, match="released"):
        engine.generate([[5]], GREEDY)


def test_an_adapter_with_whole_modules_is_switched_too(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """``modules_to_save``: peft's own way of switching, and no mixing in one batch."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    with torch.no_grad():
        model.base_model.model.model.norm.modules_to_save["default"].weight.mul_(torch.linspace(-1, 2, 64))
    model.save_pretrained(tmp_path / "whole")
    asked = prompts(engine)
    base = [a.ids for a in engine.generate(asked, GREEDY)]
    engine.attach("whole", tmp_path / "whole")
    tuned = [a.ids for a in engine.generate(asked, GREEDY, adapter="whole")]
    for ids, found in zip(asked, tuned, strict=True):
        whole = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :].tolist()
        assert [*found] == [t for t in whole if t not in engine._ends]
    assert [a.ids for a in engine.generate(asked, GREEDY)] == base


@pytest.mark.model
@pytest.mark.skipif(not is_converted(), reason="the default model is not in the cache: python -m core.models.default")
def test_the_default_model_in_float32_answers_alike_in_any_company() -> None:
    """Rows of other lengths beside one change its padding and the shapes of all products, but no greedy choice."""
    settings = GenerationSettings(max_new_tokens=10)
    with Engine(load_model(ModelRef(dtype="float32"), device="cpu")) as engine:
        asked = prompts(engine)
        alone = [engine.generate([ids], settings)[0].ids for ids in asked]
        for company in (asked, asked[::-1] * 3, asked[1:3]):
            together = engine.generate(company, settings)
            assert [answer.ids for answer in together] == [alone[asked.index(ids)] for ids in company]
        assert [engine.tokenizer.decode(ids) for ids in alone].count("") < len(alone)
