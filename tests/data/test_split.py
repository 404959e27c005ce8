"""Splits: shares, seeds, strata, and nothing that belongs together on both sides."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.keys import question_codes
from core.data.leaks import leaking_rows
from core.data.near import near_rows
from core.data.split import SplitRows, deal, split, units_of
from core.errors import SpecError
from core.store.datasets import read_ledger, read_rows
from tests.data.make import context, rows_of, save_rows, state_of


def many(count: int) -> list[dict[str, Any]]:
    words = [chr(0x4E00 + n) for n in range(500)]
    chance = np.random.default_rng(3)
    rows = []
    for number in range(count):
        text = "".join(words[i] for i in chance.integers(0, 500, 40))
        elements = {"常见": [text[:2]]} | ({"少见": [text[3:5]]} if number % 20 == 0 else {})
        rows.append({"input": text, "output": json.dumps(elements, ensure_ascii=False)})
    return rows


def splits_of(rows: list[dict[str, Any]], **params: Any) -> list[str]:
    outcome = SplitRows(**params).run(state_of(*rows), context())
    return [str(name) for name in outcome.state.rows["split"].to_pylist()]


def test_shares_and_strata() -> None:
    rows = many(1000)
    named = splits_of(rows)
    assert Counter(named) == {"train": 800, "dev": 100, "test": 100}
    rare = Counter(name for name, row in zip(named, rows, strict=True) if "少见" in row["output"])
    assert rare == {"train": 40, "dev": 5, "test": 5}


def test_seed() -> None:
    rows = many(200)
    assert splits_of(rows) == splits_of(rows)
    assert splits_of(rows) != splits_of(rows, seed=8)


def test_zero_share_makes_no_split() -> None:
    assert set(splits_of(many(50), dev=0)) == {"train", "test"}
    assert set(splits_of(many(50), dev=0, test=0)) == {"train"}


def test_nothing_asked_twice_stands_on_both_sides() -> None:
    rows = many(120)
    rows += [dict(row) for row in rows[:60]] + [row | {"input": row["input"] + "。"} for row in rows[30:90]]
    table = rows_of(*rows)
    named = np.array(splits_of(rows))
    for codes in (question_codes(table), near_rows(table).cluster):
        for code in np.unique(codes):
            assert len(set(named[codes == code])) == 1
    assert Counter(named.tolist())["train"] > 150


def test_a_group_stays_together() -> None:
    rows = [row | {"extra": json.dumps({"case": n % 17} if n % 3 else {})} for n, row in enumerate(many(200))]
    named = splits_of(rows, group="case")
    for case in range(17):
        assert len({name for n, name in enumerate(named) if n % 3 and n % 17 == case}) == 1
    assert len({name for n, name in enumerate(named) if not n % 3}) == 3
    with pytest.raises(SpecError, match="no column 'nope'"):
        splits_of(rows, group="nope")


def test_what_is_split_can_stay() -> None:
    rows = many(100)
    rows[3]["split"] = rows[4]["split"] = "test"
    rows.append(dict(rows[4]) | {"split": ""})
    named = splits_of(rows, keep=True)
    assert named[3] == named[4] == named[100] == "test"
    assert Counter(named)["train"] > 70


def test_bad_shares() -> None:
    with pytest.raises(ValueError, match="nothing for train"):
        SplitRows(dev=0.5, test=0.5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 5))
def test_units_stay_whole_and_shares_are_met(units: list[int], dev: float, test: float, seed: int) -> None:
    codes = np.unique(np.array(units), return_inverse=True)[1].astype(np.int64)
    shares = {"train": 1 - dev - test, "dev": dev, "test": test}
    named = deal(codes, np.zeros(len(codes), dtype=np.int64), shares, seed)
    assert all(len({named[i] for i in np.flatnonzero(codes == c)}) == 1 for c in codes)
    largest = int(np.bincount(codes).max())
    for name, share in shares.items():
        assert abs(named.count(name) - share * len(codes)) <= 3 * largest


def test_units_join_over_several_links() -> None:
    table = rows_of(
        {"input": "a", "extra": '{"g":"1"}'},
        {"input": "b", "extra": '{"g":"1"}'},
        {"input": "b"},
        {"input": "c"},
        {"input": "A "},
    )
    assert units_of(table, near=0.8, group="g").tolist() == [0, 0, 0, 1, 0]


def test_a_split_is_a_step_with_a_ledger() -> None:
    save_rows("d", rows_of(*many(50)))
    version = split("d", dev=0.2, test=0.2, near=False)
    assert version.split_sizes == {"train": 30, "dev": 10, "test": 10}
    assert read_ledger("d").num_rows == 50
    assert leaking_rows(read_rows("d"))[0] == {}
