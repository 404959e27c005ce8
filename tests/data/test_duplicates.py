"""Near duplicates against exact Jaccard similarity of all pairs."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data import duplicates
from core.data.duplicates import banding, connected, near_pairs, shingle_hashes, shingle_set
from core.data.near import folded, in_simplified, near_duplicates, near_rows
from core.data.normalise import to_simplified
from tests.data.make import rows_of


def edited(chance: random.Random, text: str, edits: int) -> str:
    letters = list(text)
    for _ in range(edits):
        letters[chance.randrange(len(letters))] = chr(0x4E00 + chance.randrange(2000))
    return "".join(letters)


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_recall_and_precision(threshold: float) -> None:
    chance = random.Random(1)
    texts = ["".join(chr(0x4E00 + chance.randrange(2000)) for _ in range(chance.randrange(100, 200))) for _ in range(200)]
    texts += [edited(chance, chance.choice(texts), chance.randrange(1, 12)) for _ in range(300)]
    found = near_pairs(texts, threshold)
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    sets = [shingle_set(text) for text in texts]
    exact = {(a, b): _jaccard(sets[a], sets[b]) for a, b in itertools.combinations(range(len(texts)), 2)}
    true = {pair for pair, similarity in exact.items() if similarity >= threshold}
    assert len(true) > 20
    assert pairs <= true
    assert len(pairs) >= 0.98 * len(true)
    assert all(exact[a, b] == s for a, b, s in zip(found.left.tolist(), found.right.tolist(), found.similarity, strict=True))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def test_a_large_cluster_holds_together() -> None:
    chance = random.Random(2)
    base = "".join(chr(0x4E00 + chance.randrange(2000)) for _ in range(300))
    texts = list(dict.fromkeys(edited(chance, base, 2) for _ in range(400)))
    found = near_pairs(texts, 0.8)
    assert set(connected(len(texts), found.left, found.right).tolist()) == {0}


def test_groups_are_kept_apart() -> None:
    texts = ["a long enough text about nothing at all", "a long enough text about nothing at all!"]
    assert len(near_pairs(texts, 0.8).left) == 1
    assert len(near_pairs(texts, 0.8, np.array([0, 1])).left) == 0


@given(st.lists(st.text(max_size=9), max_size=8))
@settings(deadline=None)
def test_hashes_stand_for_shingles(texts: list[str]) -> None:
    hashes, starts = shingle_hashes(texts)
    for number, text in enumerate(texts):
        part = hashes[int(starts[number]) : int(starts[number + 1])]
        assert len(part) == max(len(text) - 4, 1)
        assert len(set(part.tolist())) == len(shingle_set(text))


@given(st.floats(0.5, 0.99))
def test_banding_keeps_its_promise(threshold: float) -> None:
    bands, rows = banding(threshold)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.995


def test_folding() -> None:
    rows = rows_of({"input": " 甲，乙 丙  A\u200bB\u3000c "})
    assert folded(rows["input"]).to_pylist() == ["甲,乙丙ab c"]


LONG = "甲方于本年度内应当按照合同的约定向乙方支付全部的工程款项以及相应的利息，不得以任何理由拖延，联系人为"


def found_in(*rows: dict[str, str]) -> list[int]:
    table = rows_of(*rows)
    return sorted(near_duplicates(table, near_rows(table)))


def test_same_wording_with_other_values_is_no_duplicate() -> None:
    one = {"input": f"{LONG}张三。", "output": '{"姓名":["张三"]}'}
    other = {"input": f"{LONG}李四。", "output": '{"姓名":["李四"]}'}
    assert found_in(one, other) == []
    assert found_in(one, other | {"output": "{}"}) == [1]
    assert found_in(one, one | {"input": f"{LONG}张三！"}) == [1]


def test_spacing_alone_makes_a_near_duplicate_and_exact_ones_are_left_to_others() -> None:
    row = {"input": "The quick brown fox"}
    assert found_in(row, {"input": "The quick  brown fox "}, row, row | {"output": '{"a":["fox"]}'}) == [1]


@given(st.lists(st.text(st.sampled_from("漢汉後后無𠁞𫝈a１ \ud83d"), max_size=9), max_size=9))
def test_script_is_folded_character_by_character(texts: list[str]) -> None:
    assert in_simplified(texts) == [text.translate(to_simplified()) for text in texts]


def test_the_script_of_a_question_makes_no_difference() -> None:
    simple = {"input": f"{LONG}陈晓明。", "output": '{"姓名":["陈晓明"]}'}
    full = {
        "input": "甲方於本年度內應當按照合同的約定向乙方支付全部的工程款項以及相應的利息，不得以任何理由拖延，聯繫人為陳曉明。"
    }
    full["output"] = '{"姓名":["陳曉明"]}'
    assert found_in(simple, full) == [1]
    other = {side: text.replace("陳曉明", "歐陽") for side, text in full.items()}
    assert found_in(simple, other) == []  # one wording with other values
    assert found_in(simple, other | {"output": "{}"}) == [1]


def test_a_template_is_one_in_either_script() -> None:
    rows = [{"instruction": i, "input": f"{LONG}{n}"} for i in ("抽取实体", "抽取實體") for n in range(3)]
    assert found_in(*rows) == [1, 2, 3, 4, 5]


def test_rows_of_other_instructions_are_not_compared() -> None:
    rows = [{"instruction": i, "input": f"{LONG}{n}"} for i in ("A", "B") for n in range(3)]
    assert found_in(*rows) == [1, 2, 4, 5]


def test_pairs_are_the_same_however_often_proposals_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the same long sentence with a number at its end, {number % 40} {number}" for number in range(200)]
    whole = near_pairs(texts, 0.8)
    monkeypatch.setattr("core.data.duplicates.PILE", 0)
    thinned = near_pairs(texts, 0.8)
    assert len(whole.left) > 200
    assert [pairs.tolist() for pairs in (whole.left, whole.right)] == [pairs.tolist() for pairs in (thinned.left, thinned.right)]


def test_proposals_that_come_to_nothing_are_not_held() -> None:
    """Each band puts the texts into other buckets of 40: three million proposals, of which none is worth a second look."""
    count, (bands, rows) = 8_000, banding(0.8)
    chance = np.random.default_rng(1)
    signature = np.empty((count, duplicates.PERMUTATIONS), dtype=np.uint32)
    for band in range(bands):
        signature[:, band * rows : (band + 1) * rows] = (chance.permutation(count) // 40)[:, None]
    signature[:, bands * rows :] = np.arange(count)[:, None]
    signature[1] = signature[0]  # but this pair
    tracemalloc.start()
    try:
        found = duplicates._candidates(signature, np.zeros(count, dtype=np.int64), 0.8, duplicates.no_tick)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15e6, f"{peak / 1e6:.0f} MB"
    assert (found.small >> 32, found.small & 0xFFFFFFFF) == ([0], [1])


def test_rows_of_arrays_are_listed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_WINDOW", 3)
    numbers = np.arange(8)
    assert list(duplicates.listed(numbers, numbers / 2)) == [(n, n / 2) for n in range(8)]
    assert list(duplicates.listed(numbers[:0])) == []
