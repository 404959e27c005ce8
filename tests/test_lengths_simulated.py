"""Simulated truncation and batching against what the trainer's builder and plain code really do."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lengths import measure_rows, summary
from core.lengths.batching import pack, simulate_batches
from core.lengths.compare import characters_per_token, languages
from core.lengths.groups import by_group
from core.lengths.places import places_of
from core.lengths.truncation import POLICIES, Truncation, windows
from core.prompts.examples import Dropped, Example, build_example
from core.prompts.grounded import gold_places
from core.prompts.shorten import window
from core.prompts.templates import find_template
from core.records import Dataset, Version
from core.store import schema
from core.store.datasets import save_version
from tests.prompts.toys import GEMMA, LLAMA, byte_level, metaspace

TOKENIZERS = [byte_level(), byte_level(GEMMA, bos=True), metaspace(LLAMA)]
NAMES = ["高勇", "李明远", "Ann Lee", "Bob", "Paris", "上海"]


def rows(count: int, seed: int = 1) -> pa.Table:
    """Extraction rows in two languages, some with values that aren't in the input, some conversations."""
    pick = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        names = pick.sample(NAMES, 3)
        filler = [pick.choice(["中国国籍，", "无境外居留权。", "the quick fox ", "left for "]) for _ in range(pick.randrange(60))]
        for name in names[:2]:
            filler.insert(pick.randrange(len(filler) + 1), name)
        output = json.dumps({"person": names[:2], "place": names[2:]}, ensure_ascii=False)
        row = {"row_id": f"r{number}", "instruction": "抽取 extract", "input": "".join(filler), "output": output}
        if number % 11 == 0:
            row["messages"] = json.dumps([{"role": "user", "content": "hi" * 40}, {"role": "assistant", "content": "{}"}])
        made.append(row)
    blank = {"messages": None, "split": "train", "source": "s", "line": 1, "extra": None}
    return pa.Table.from_pylist([{**blank, **row} for row in made], schema=schema.ROWS)


@pytest.mark.parametrize("name", ["chat", "instruct"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=range(len(TOKENIZERS)))
@pytest.mark.parametrize("policy", POLICIES)
def test_simulated_is_what_the_trainers_builder_does(name: str, tokenizer: Any, policy: Any) -> None:
    template, data = find_template(name), rows(60)
    simulated = Truncation(measure_rows(data, template, tokenizer), places_of(data, template, tokenizer))
    for max_length in (90, 150, 260, 5000):
        over = dropped = shortened = end_lost = json_broken = 0
        losing: set[str] = set()
        by_element: dict[str, int] = {}
        for row in data.to_pylist():
            row["output"] = "{}" if row["messages"] else row["output"]
            whole = build_example(template, row, tokenizer=tokenizer)
            assert isinstance(whole, Example)
            over += len(whole.input_ids) > max_length
            if len(whole.input_ids) <= max_length:
                continue
            if policy == "cut":
                kept = whole.labels[:max_length]
                answer = tokenizer.decode([label for label in kept if label >= 0])
                end_lost += 1
                shortened += 1
                json_broken += not answer.startswith(row["output"])
                lost = [p for p in gold_places(row) if json.dumps(p.value, ensure_ascii=False) not in answer]
            else:
                made = build_example(template, row, tokenizer=tokenizer, max_length=max_length, overflow=policy)
                if isinstance(made, Dropped):
                    dropped += 1
                    lost = gold_places(row)
                else:
                    shortened += 1
                    assert made.labels[made.prompt :] == whole.labels[whole.prompt :]
                    start, end = made.kept or (0, 0)
                    lost = [p for p in gold_places(row) if p.start >= 0 and not start <= p.start < p.end <= end]
            for place in lost:
                losing.add(row["row_id"])
                by_element[place.element] = by_element.get(place.element, 0) + 1
        found = simulated.simulate(max_length, policy)
        assert (found.over, found.dropped, found.shortened) == (over, dropped, shortened)
        assert (found.end_lost, found.json_broken) == (end_lost, json_broken)
        assert found.by_element == by_element
        assert set(simulated.losing_rows(max_length, policy)) == losing
        assert found.losing == len(losing)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(POLICIES[:-1]), st.integers(-5, 60), st.integers(0, 50), st.integers(-1, 49), st.integers(1, 50))
def test_windows_are_the_window_of_each_row(policy: Any, budget: int, tokens: int, first: int, width: int) -> None:
    first = min(first, tokens - 1)
    last = min(first + width, tokens) if first >= 0 else -1
    found = windows(policy, *(np.array([n], np.int32) for n in (budget, tokens, first, last)))
    assert (int(found[0][0]), int(found[1][0])) == window(policy, budget, tokens, first, last)


def test_recommended_length() -> None:
    data = rows(60)
    template, tokenizer = find_template("chat"), byte_level()
    simulated = Truncation(measure_rows(data, template, tokenizer), places_of(data, template, tokenizer))
    length, reason = simulated.recommend()
    assert length % 64 == 0
    assert simulated.simulate(length, "drop").over == 0
    assert "every row" in reason
    simulated.whole = np.array([100] * 999 + [5000], np.int32)
    simulated.answered = np.ones(1000, bool)
    length, reason = simulated.recommend()
    assert length == 128
    assert "5,000" in reason


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 64), max_size=80))
def test_packing_is_best_fit_decreasing(lengths: list[int]) -> None:
    bins: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in bins if space >= length]
        if fitting:
            bins.remove(min(fitting))
            bins.append(min(fitting) - length)
        else:
            bins.append(64 - length)
    assert pack(np.array(lengths, np.int64), 64) == len(bins)


def test_batches() -> None:
    found = simulate_batches(np.array([10, 20, 30, 40, 999, 0]), batch_size=2, max_length=50, seed=1)
    assert found.random.tokens == 100
    assert found.random.steps == 2
    assert found.grouped.processed == 40 * 2 + 20 * 2
    assert found.grouped.waste == pytest.approx(1 - 100 / 120)
    assert found.packed_sequences == 2
    assert found.packed.processed == 100
    assert found.packed.waste == 0
    assert simulate_batches(np.array([], np.int64), 8, 64).random.steps == 0
    many = np.random.default_rng(1).integers(5, 500, 5000)
    found = simulate_batches(many, 16, 512, micro_batch_size=4)
    assert found.grouped.waste < found.random.waste
    assert found.random.steps == -(-5000 // 16)


def test_languages_and_characters_per_token() -> None:
    texts = pa.array(["高勇，男", "Ann left 中", "Ann left for Paris with 李明"], pa.large_string())
    assert languages(texts).tolist() == ["zh", "mixed", "mixed"]
    found = characters_per_token(pa.array(["高勇，男", "Extract the elements"], pa.large_string()), byte_level())
    assert set(found) == {"zh", "en"}
    assert found["en"] > found["zh"] > 0


def test_by_group() -> None:
    data = rows(30)
    save_version(Dataset(name="g"), Version(dataset="g", number=1, rows=30), data)
    template, tokenizer = find_template("chat"), byte_level()
    table, found = measure_rows(data, template, tokenizer), places_of(data, template, tokenizer)
    assert {name: one["rows"] for name, one in by_group("g", 1, table, "split").items()} == {"train": 30}
    assert by_group("g", 1, table, "source", 100)["s"] == summary(table, 100)
    by_language = by_group("g", 1, table, "language")
    assert sum(one["rows"] for one in by_language.values()) == 30
    assert list(by_language) == sorted(by_language, key=lambda name: -by_language[name]["rows"])
    by_element = by_group("g", 1, table, "element", found=found)
    assert by_element["person"]["rows"] == by_element["place"]["rows"] == 27
