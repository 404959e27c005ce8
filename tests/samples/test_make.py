"""The bundled datasets: made the same each time, clean where they say so, dirty where they say so."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from samples import dirt
from samples.compose import ELEMENTS, Composer, Unlike, shingles
from samples.make import main

SAMPLES = Path(__file__).parents[2] / "samples"
FILES = ("extraction.jsonl", "dirt.json", "classification.jsonl", "conversations.jsonl")


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return lines("extraction.jsonl")


@pytest.fixture(scope="module")
def marks() -> list[dict[str, Any]]:
    return json.loads((SAMPLES / "dirt.json").read_text(encoding="utf-8"))["dirt"]


@pytest.fixture(scope="module")
def clean(rows: list[dict[str, Any]], marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    dirty = {mark["line"] for mark in marks}
    return [row for number, row in enumerate(rows) if number not in dirty]


def test_make_reproduces_the_files_byte_for_byte(tmp_path: Path) -> None:
    main(["--to", str(tmp_path)])
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def test_another_seed_makes_other_rows(tmp_path: Path) -> None:
    main(["--to", str(tmp_path), "--seed", "99"])
    assert (tmp_path / "extraction.jsonl").read_bytes() != (SAMPLES / "extraction.jsonl").read_bytes()


def test_sizes(rows: list[dict[str, Any]]) -> None:
    assert 1150 <= len(rows) <= 1300
    languages = Counter(row["language"] for row in rows)
    assert abs(languages["zh"] - languages["en"]) <= 20
    assert set(Counter(row["split"] for row in rows)) == {"train", "dev", "test"}
    assert len(lines("classification.jsonl")) == 120
    assert len(lines("conversations.jsonl")) == 60


def test_clean_rows_are_answered_from_the_input(clean: list[dict[str, Any]]) -> None:
    for row in clean:
        answer = json.loads(row["output"])
        assert list(answer) == [name for name in ELEMENTS if name in answer], row
        for values in answer.values():
            assert values
            assert all(row["input"].count(value) == 1 for value in values), row


def test_clean_rows_are_varied(clean: list[dict[str, Any]]) -> None:
    unlike = Unlike(0.62)
    assert all(unlike.accept(row["input"]) for row in clean)
    empty = sum(row["output"] == "{}" for row in clean)
    assert 0.06 <= empty / len(clean) <= 0.14
    held = Counter(name for row in clean for name in json.loads(row["output"]))
    assert min(held[name] for name in ELEMENTS) > 100


def test_most_test_values_are_new(clean: list[dict[str, Any]]) -> None:
    def values(split: str) -> set[tuple[str, str]]:
        chosen = (row for row in clean if row["split"] == split)
        return {(name, value) for row in chosen for name, found in json.loads(row["output"]).items() for value in found}

    train, test = values("train"), values("test")
    assert len(test - train) / len(test) > 0.8


def test_most_rows_are_short(clean: list[dict[str, Any]]) -> None:
    assert max(len(row["input"]) for row in clean if row["language"] == "zh") <= 28
    english = sorted(len(row["input"].split()) for row in clean if row["language"] == "en")
    assert english[len(english) * 95 // 100] <= 25


def test_every_kind_of_dirt_is_there_and_is_what_it_says(rows: list[dict[str, Any]], marks: list[dict[str, Any]]) -> None:
    kinds = Counter(mark["kind"] for mark in marks)
    assert set(kinds) == set(dirt.SPOILERS) | set(dirt.COPIERS)
    report = json.loads((SAMPLES / "dirt.json").read_text(encoding="utf-8"))
    assert report["counts"] == dict(kinds)
    assert report["rows"] == len(rows)
    for mark in marks:
        row = rows[mark["line"]]
        other = rows[mark["of"]] if "of" in mark else {}
        assert CHECKS[mark["kind"]](row, other), mark


def same(row: dict[str, Any], other: dict[str, Any], *names: str) -> bool:
    return all(row[name] == other[name] for name in names)


def answer(row: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return json.loads(row["output"])
    except json.JSONDecodeError:
        return None


def absent(row: dict[str, Any]) -> bool:
    return any(value not in row["input"] for values in (answer(row) or {}).values() for value in values)


def alike(row: dict[str, Any], other: dict[str, Any]) -> bool:
    ours, theirs = shingles(row["input"].strip()), shingles(other["input"].strip())
    return row["input"] != other["input"] and len(ours & theirs) / len(ours | theirs) > 0.6


def id_or_mobile(row: dict[str, Any]) -> bool:
    for word in row["input"].replace("（", " ").replace("）", " ").replace("(", " ").replace(")", " ").split():
        number = word.removeprefix("身份证号").removeprefix("手机")
        if len(number) == 11 and number.isdigit():
            return True
        if len(number) == 18 and number[:17].isdigit():
            return sum(int(d) * 2 ** (17 - i) for i, d in enumerate(number[:17])) % 11 == "10X98765432".index(number[17])
    return False


CHECKS = {
    "exact_duplicate": lambda row, other: same(row, other, "instruction", "input", "output"),
    "near_duplicate": lambda row, other: alike(row, other) and row["output"] == other["output"],
    "conflicting_output": lambda row, other: same(row, other, "instruction", "input") and answer(row) != answer(other),
    "leak_exact": lambda row, other: (
        same(row, other, "instruction", "input") and (row["split"], other["split"])[1] == "train" != row["split"]
    ),
    "leak_near": lambda row, other: alike(row, other) and other["split"] == "train" != row["split"],
    "invalid_json": lambda row, other: answer(row) is None and row["output"].strip() != "",
    "unknown_element": lambda row, other: bool(set(answer(row) or {}) - set(ELEMENTS)),
    "ungrounded_value": lambda row, other: absent(row),
    "mojibake": lambda row, other: any(
        mark in row["input"] for mark in ("â€", "Ã", "å", "æ", "ç", "è", "é", "浠", "\ufffd", "锟斤拷")
    ),
    "width": lambda row, other: any(0xFF10 <= ord(c) <= 0xFF5A and c.isalnum() for c in row["input"]),
    "markup": lambda row, other: any(mark in row["input"] for mark in ("<", "&nbsp;", "&lt;")),
    "empty": lambda row, other: not row["output"].strip(),
    "over_long": lambda row, other: len(row["input"]) > 1000,
    "control_character": lambda row, other: any(c in row["input"] for c in "\u200b\x07\ufeff\x1f\u202e\u200e"),
    "placeholder": lambda row, other: any(mark in row["input"] for mark in ("{{", "XXX", "____", "[")),
    "personal_data": lambda row, other: id_or_mobile(row),
}


def test_an_element_never_counts_as_unknown_by_its_number(rows: list[dict[str, Any]]) -> None:
    names = Counter(name for row in rows for name in (answer(row) or {}))
    answered = sum(bool(row["output"].strip()) for row in rows)
    assert all(count < 0.01 * answered for name, count in names.items() if name not in ELEMENTS)


def test_intents_are_balanced_and_inputs_differ() -> None:
    intents = lines("classification.jsonl")
    assert len({row["input"] for row in intents}) == 120
    assert set(Counter((row["output"], row["language"]) for row in intents).values()) == {10}
    assert {row["split"] for row in intents} == {"train", "test"}


def test_conversations_alternate_and_end_with_an_answer() -> None:
    for row in lines("conversations.jsonl"):
        roles = [message["role"] for message in row["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert len(turns) >= 6


def test_fill_notes_elements_and_not_near_misses() -> None:
    import random

    made = Composer(random.Random(3), "en").fill("{person} met {person} near {~spot}")
    assert list(made.elements) == ["person"]
    assert all(name in made.text for name in made.elements["person"])
    assert len(made.elements["person"]) == 2
