"""Worked examples: like the question, never the row itself or its duplicate, the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from core.prompts.bm25 import terms
from core.prompts.retrieval import Shots, choose_shots, same_text

POOL = [
    {"row_id": "a", "input": "高勇，中国国籍，本科学历，工程师。", "output": "{}"},
    {"row_id": "b", "input": "Total paid: 12.50 EUR at Corner Shop", "output": "{}"},
    {"row_id": "c", "input": "李明，中国国籍，硕士学历，董事长。", "output": "{}"},
    {"row_id": "d", "input": "Ann Lee flew from Paris to Oslo", "output": "{}"},
    {"row_id": "e", "input": "total PAID: 12.50 eur at corner shop!", "output": "{}"},
    {"row_id": "f", "input": "not answered", "output": ""},
    {"row_id": "g", "input": "今天天气很好。", "output": "{}"},
]


def test_terms() -> None:
    assert terms("中国国籍 Ann's 2ＡB 人") == ["中国", "国国", "国籍", "ann", "s", "2ab", "人"]
    assert same_text("Ａnn, 说：「好」 ") == same_text("ann说 好") == same_text("ann 說好")


@pytest.mark.parametrize(
    ("question", "best"),
    [("王芳，中国国籍，博士学历，董事长。", "c"), ("Total paid 3 EUR", "e"), ("Bob flew to Paris", "d"), ("天气", "g")],
)
def test_retrieved_are_alike_and_the_best_is_last(question: str, best: str) -> None:
    shots = choose_shots(POOL, {"row_id": "q", "input": question}, 2, "retrieved")
    last = shots[-1]["row_id"]
    assert last == best or {last, best} == {"b", "e"}
    assert len(shots) == 2


@pytest.mark.parametrize("how", ["fixed", "retrieved"])
def test_never_itself_nor_its_duplicate_nor_twice_the_same(how: str) -> None:
    for row in POOL:
        chosen = [s["row_id"] for s in choose_shots(POOL, row, 10, how)]  # type: ignore[arg-type]
        assert row["row_id"] not in chosen
        assert "f" not in chosen
        assert not {"b", "e"} <= set(chosen)
        assert not (row["row_id"] in "be" and {"b", "e"} & set(chosen))


def test_rows_without_an_input_are_alike_by_their_instruction() -> None:
    pool = [
        {"row_id": "a", "instruction": "写一首关于春天的诗", "input": "", "output": "诗"},
        {"row_id": "b", "instruction": "列出三种可再生能源", "input": " ", "output": "风能"},
        {"row_id": "c", "instruction": "Translate", "input": "列出三種可再生能源，謝謝", "output": "list"},
        {"row_id": "d", "instruction": "", "input": "", "output": "nothing asked"},
    ]
    question = {"row_id": "q", "instruction": "请列出五种可再生能源", "input": ""}
    assert [s["row_id"] for s in choose_shots(pool, question, 9, "retrieved")][-1] == "b"
    assert {s["row_id"] for s in choose_shots(pool, question, 9, "fixed")} == {"a", "b", "c"}
    same = {"row_id": "q", "instruction": "列出三种可再生能源！", "input": ""}
    assert "b" not in {s["row_id"] for s in choose_shots(pool, same, 9, "retrieved")}


def test_fixed_are_the_same_for_every_question() -> None:
    shots = Shots(POOL, "fixed", seed=3)
    first = shots.choose({"row_id": "x", "input": "one"}, 3)
    assert shots.choose({"row_id": "y", "input": "another"}, 3) == first
    assert Shots(POOL, "fixed", seed=3).choose({"input": "z"}, 3) == first


def test_no_pool_is_said() -> None:
    with pytest.raises(UserError, match="no row"):
        choose_shots([], {"input": "q"}, 1)
    assert choose_shots([], {"input": "q"}, 0) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=10), st.text(max_size=30), st.integers(0, 5))
def test_any_text(inputs: list[str], question: str, k: int) -> None:
    pool = [{"row_id": str(n), "input": text, "output": "x"} for n, text in enumerate(inputs)]
    chosen = Shots(pool, "retrieved").choose({"row_id": "q", "input": question}, k)
    assert len(chosen) <= k
    assert all(same_text(str(s["input"])) != same_text(question) for s in chosen)
