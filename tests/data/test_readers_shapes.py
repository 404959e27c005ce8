"""Shapes of records: golden tables of what one record becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data.importing import guess, import_file
from core.data.readers.shapes.tags import entities, join
from core.errors import InputFileError
from core.store import datasets as store

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def imported(tmp_path: Path, records: list[Any], **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows (JSON columns read) and the reasons of what was kept aside."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, ensure_ascii=False), "utf-8")
    import_file(path, "d", **options)
    rows = [r | {k: json.loads(r[k]) if r[k] else None for k in ("messages", "extra")} for r in store.read_rows("d").to_pylist()]
    return rows, store.read_quarantine("d")["reason"].to_pylist()


CONVERSATIONS: list[tuple[dict[str, Any], tuple[str, str, str], list[tuple[str, str]] | None]] = [
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, ("", "q", "a"), None),
    ({"messages": [USER, BOT]}, ("", "q", "a"), None),
    ({"messages": [{"role": "system", "content": "s"}, USER, BOT]}, ("s", "q", "a"), None),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"}, ("s", "q", "a"), None),
    (
        {"messages": [USER, BOT, {"role": "user", "content": "q2"}]},
        ("", "q2", ""),
        [("user", "q"), ("assistant", "a"), ("user", "q2")],
    ),
    (
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "f"}'},
                {"from": "observation", "value": "o"},
                {"from": "gpt", "value": "a"},
            ],
            "tools": "[]",
        },
        ("", "q", "a"),
        [("user", "q"), ("assistant", '{"name": "f"}'), ("tool", "o"), ("assistant", "a")],
    ),
    (
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "content": "o", "tool_call_id": "1"},
                BOT,
            ]
        },
        ("s", "q", "a"),
        [("system", "s"), ("user", "q"), ("assistant", '{"name":"f","arguments":"{}"}'), ("tool", "o"), ("assistant", "a")],
    ),
    (
        {"conversation": [{"human": "q", "assistant": "a"}, {"human": "q", "assistant": "a"}]},
        ("", "q", "a"),
        [("user", "q"), ("assistant", "a")] * 2,
    ),
    ({"conversation": [{"system": "s", "input": "q", "output": "a"}]}, ("s", "q", "a"), None),
    ({"对话": [USER, BOT, USER, BOT]}, ("", "q", "a"), [("user", "q"), ("assistant", "a")] * 2),
]


@pytest.mark.parametrize(("record", "texts", "turns"), CONVERSATIONS)
def test_conversations(
    tmp_path: Path, record: dict[str, Any], texts: tuple[str, str, str], turns: list[tuple[str, str]] | None
) -> None:
    rows, reasons = imported(tmp_path, [record])
    assert reasons == []
    assert (rows[0]["instruction"], rows[0]["input"], rows[0]["output"]) == texts
    got = rows[0]["messages"]
    assert (None if got is None else [(m["role"], m["content"]) for m in got]) == turns
    assert rows[0]["extra"] == ({"tools": "[]"} if "tools" in record else None)


def test_bad_turns_are_kept_aside_with_their_reason(tmp_path: Path) -> None:
    bad = [
        {"messages": []},
        {"messages": [{"role": "narrator", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": "not turns"},
        {"other": 1},
        "text",
    ]
    rows, reasons = imported(tmp_path, [{"messages": [USER, BOT]}] * 7 + bad)
    assert len(rows) == 7
    words = ("no turns", "'narrator'", "something else than text", "no turns", "no field 'messages'", "no field 'messages'")
    for reason, word in zip(reasons, words, strict=True):
        assert word in reason


def test_conversations_and_single_texts_side_by_side(tmp_path: Path) -> None:
    talk = [USER, BOT, USER, BOT]
    records = [
        {"instruction": "", "input": "", "output": "", "messages": talk},
        {"instruction": "i", "input": "x", "output": "y", "messages": None, "id": 3},
        {"instruction": "own", "input": "words", "output": "told", "messages": json.dumps(talk)},
    ]
    rows, reasons = imported(tmp_path, records)
    assert reasons == []
    assert [(r["instruction"], r["input"], r["output"]) for r in rows] == [
        ("", "q", "a"),
        ("i", "x", "y"),
        ("own", "words", "told"),
    ]
    assert [r["messages"] is None for r in rows] == [False, True, False]
    assert rows[1]["extra"] == {"id": 3}


def test_alpaca_with_history(tmp_path: Path) -> None:
    record = {"instruction": "i", "input": "x", "output": "y", "system": "s", "history": [["q1", "a1"], ["q2", "a2"]]}
    rows, _ = imported(tmp_path, [record, record | {"history": []}, record | {"history": [["only"]]}])
    turns = ["s", "q1", "a1", "q2", "a2", "i\nx", "y"]
    assert [m["content"] for m in rows[0]["messages"]] == turns
    assert (rows[0]["instruction"], rows[0]["input"], rows[0]["output"], rows[0]["extra"]) == ("s", "i\nx", "y", None)
    assert rows[1]["messages"] is None
    assert rows[1]["extra"] == {"system": "s"}
    assert len(rows) == 2


def test_lists_of_turns(tmp_path: Path) -> None:
    records = [
        {"input": ["q1", "q2"], "output": ["a1", "a2"]},
        {"input": ["q1", "q2"], "output": ["a1"]},
        {"input": ["q1"], "output": ["a1"]},
        {"input": ["q1"], "output": ["a1", "a2"]},
    ]
    rows, reasons = imported(tmp_path, records)
    assert [m["content"] for m in rows[0]["messages"]] == ["q1", "a1", "q2", "a2"]
    assert [m["content"] for m in rows[1]["messages"]] == ["q1", "a1", "q2"]
    assert (rows[2]["messages"], rows[2]["input"], rows[2]["output"]) == (None, "q1", "a1")
    assert reasons == ["1 questions and 2 answers"]


TEXT = "Ann met 王伟 😀 in Rome"
ANSWER = '{"person":["Ann","王伟"],"place":["Rome"]}'
PLACES = [(16, 20, "place"), (0, 3, "person"), (8, 10, "person")]
IN_UTF16 = [(17, 21, "place"), (0, 3, "person"), (8, 10, "person")]
TOLD = {"place": ["Rome"], "person": ["Ann", "王伟"]}


def label_studio(places: list[tuple[int, int, str]], texts: list[str]) -> dict[str, Any]:
    values = [{"start": a, "end": b, "text": t, "labels": [n]} for (a, b, n), t in zip(places, texts, strict=True)]
    return {"data": {"text": TEXT}, "annotations": [{"result": [{"value": value, "type": "labels"} for value in values]}]}


SPANS: list[dict[str, Any]] = [
    {"text": TEXT, "label": [list(p) for p in PLACES]},
    {"text": TEXT, "entities": [{"id": 1, "label": n, "start_offset": a, "end_offset": b} for a, b, n in PLACES]},
    {"text": TEXT, "labels": [{"start": a, "end": b, "label": n, "text": TEXT[a:b]} for a, b, n in PLACES]},
    label_studio(PLACES, ["Rome", "Ann", "王伟"]),
    label_studio(IN_UTF16, ["Rome", "Ann", "王伟"]),
    {"text": TEXT, "label": {"person": {"Ann": [[0, 2]], "王伟": [[8, 9]]}, "place": {"Rome": [[16, 19]]}}},
    {"sentText": TEXT, "entityMentions": [{"text": t, "label": n} for n in ("person", "place") for t in TOLD[n]]},
]
ODD_SPANS = [{"text": TEXT, "entities": [{"start": 0, "end": 3, "label": "person"}] * 2}, {"text": TEXT, "entities": []}]


@pytest.mark.parametrize("record", SPANS)
def test_spans(tmp_path: Path, record: dict[str, Any]) -> None:
    rows, reasons = imported(tmp_path, [record])
    assert reasons == []
    assert (rows[0]["input"], rows[0]["output"]) == (TEXT, ANSWER)


def test_spans_once_and_none(tmp_path: Path) -> None:
    rows, _ = imported(tmp_path, ODD_SPANS)
    assert [row["output"] for row in rows] == ['{"person":["Ann"]}', "{}"]


def test_spans_that_do_not_fit_are_kept_aside(tmp_path: Path) -> None:
    good = {"text": "Ann", "entities": [{"start": 0, "end": 3, "label": "p", "text": "Ann"}]}
    wrong = {"text": "Bob", "entities": [{"start": 0, "end": 3, "label": "p", "text": "Ann"}]}
    outside = {"text": "Bob", "entities": [{"start": 1, "end": 9, "label": "p"}]}
    nameless = {"text": "Bob", "entities": [{"start": 1, "end": 2}]}
    rows, reasons = imported(tmp_path, [good, good, good, good, wrong, outside, nameless])
    assert len(rows) == 4
    assert "doesn't read 'Ann'" in reasons[0]
    assert "outside the text of 3" in reasons[1]
    assert "without a label" in reasons[2]


def test_fragments(tmp_path: Path) -> None:
    records = {
        "Play": [{"data": [{"text": "play "}, {"text": "Yo", "entity": "track"}, {"text": " now"}]}, {"data": [{"text": "x"}]}]
    }
    rows, _ = imported(tmp_path, records)  # type: ignore[arg-type]
    assert [(r["input"], r["output"]) for r in rows] == [("play Yo now", '{"track":["Yo"]}'), ("x", "{}")]
    assert rows[0]["extra"] == {"group": "Play"}


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O O", []),
        ("B-a I-a O", [(0, 2, "a")]),
        ("B-a B-a I-b", [(0, 1, "a"), (1, 2, "a"), (2, 3, "b")]),
        ("I-a I-a O", [(0, 2, "a")]),
        ("B-a I-a E-a", [(0, 3, "a")]),
        ("S-a S-a O", [(0, 1, "a"), (1, 2, "a")]),
        ("B-a M-a E-a", [(0, 3, "a")]),
        ("B-a E-a B-a", [(0, 2, "a"), (2, 3, "a")]),
        ("U-a B-b L-b", [(0, 1, "a"), (1, 3, "b")]),
        ("B-creative-work I-creative-work O", [(0, 2, "creative-work")]),
        ("E-a E-a O", [(0, 1, "a"), (1, 2, "a")]),
    ],
)
def test_tags_make_entities(tags: str, found: list[tuple[int, int, str]]) -> None:
    assert list(entities(tags.split())) == found


@pytest.mark.parametrize(
    ("tokens", "joined", "text"),
    [
        (["中", "文", "A", "B"], True, "中文AB"),
        (["New", "York", "is", "big"], False, "New York is big"),
        (["我", "在", "New", "York", "工作"], False, "我在 New York 工作"),
        ([], False, ""),
    ],
)
def test_tokens_are_joined(tokens: list[str], joined: bool, text: str) -> None:
    assert join(tokens, joined) == text


def test_tokens_and_tags_as_lists(tmp_path: Path) -> None:
    good, bad = {"tokens": ["Ann", "left"], "ner_tags": ["B-p", "O"]}, {"tokens": ["x"], "ner_tags": []}
    rows, reasons = imported(tmp_path, [good, good, good, bad])
    assert (rows[0]["input"], rows[0]["output"]) == ("Ann left", '{"p":["Ann"]}')
    assert reasons == ["1 tokens and 0 tags"]


def test_the_guess_shows_what_would_be_imported_and_can_be_changed(tmp_path: Path, workspace: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": "y", "note": "z"}\n' * 3 + "broken\n", "utf-8")
    made = guess(path)
    assert (made.container, made.shape, made.encoding) == ("jsonl", "flat", "utf-8")
    assert made.mapping == {"text": "input", "label": "output"}
    assert made.columns == ("text", "label", "note")
    assert (made.preview[0]["input"], made.preview[0]["output"], made.preview[0]["extra"]) == ("x", "y", '{"note":"z"}')
    assert made.faults[0].line == 4
    changed = guess(path, mapping={"note": "output", "label": "extra"})
    assert (changed.preview[0]["output"], changed.preview[0]["extra"]) == ("z", '{"label":"y"}')
    assert not workspace.exists(), "a guess writes nothing"
    with pytest.raises(InputFileError, match="needs messages"):
        guess(path, shape="conversation")
    with pytest.raises(InputFileError, match="no shape 'nope'"):
        guess(path, shape="nope")


def test_shape_can_be_chosen(tmp_path: Path) -> None:
    rows, _ = imported(tmp_path, [{"input": ["a", "b"], "output": ["c", "d"]}], shape="flat")
    assert (rows[0]["input"], rows[0]["output"], rows[0]["messages"]) == ('["a","b"]', '["c","d"]', None)
