"""Conversations: exchanges, what an arm remembers, branches of an edit, export that can be imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.chat.settings import PLAIN, context_length, own_settings
from core.chat.talk import arm_of, before, branch, exchanges, first_of, history_of, opened, to_json_lines, to_markdown
from core.data.importing import import_file
from core.records import Arm, Conversation, GenerationSettings, ModelRef, Turn
from core.store.datasets import read_rows

ONE, TWO = Arm(name="one"), Arm(name="two")
TALK = Conversation(
    conversation_id="chat-1",
    name="Talk",
    arms=(ONE, TWO),
    system="Be short.",
    turns=(
        Turn(role="user", content="a"),
        Turn(role="assistant", content="A", arm=0),
        Turn(role="assistant", content="", arm=1, error="it is down", hint="start it"),
        Turn(role="user", content="b"),
        Turn(role="assistant", content="B", arm=0),
        Turn(role="assistant", content="BB", arm=1),
        Turn(role="user", content="c"),
    ),
)


def test_each_arm_remembers_its_own_answers_and_no_question_that_it_did_not_answer() -> None:
    assert [m["content"] for m in history_of(TALK, 0)] == ["a", "A", "b", "B"]
    assert [m["content"] for m in history_of(TALK, 1)] == ["b", "BB"]
    assert history_of(TALK, 5) == []


def test_an_arm_remembers_what_it_said_with_other_settings_and_beside_others() -> None:
    short, new = ONE.model_copy(update={"generation": GenerationSettings(max_new_tokens=8)}), Arm(name="new")
    talk = opened(TALK.model_copy(update={"turns": TALK.turns[:6]}), "c", (short,))
    assert [arm.generation.max_new_tokens for arm in talk.arms] == [128, 128, 8]
    assert [m["content"] for m in history_of(talk, 2)] == ["a", "A", "b", "B"]
    talk = talk.model_copy(update={"turns": (*talk.turns, Turn(role="assistant", content="C", arm=2))})
    talk = opened(talk, "d", (new, ONE))
    assert history_of(talk, 3) == []
    assert [m["content"] for m in history_of(talk, 4)] == ["a", "A", "b", "B", "c", "C"]
    sides = [json.loads(line) for line in to_json_lines(talk).splitlines()]
    assert [(side["arm"], len(side["messages"])) for side in sides] == [("two", 2), ("one", 6)]


def test_exchanges_name_places() -> None:
    found = exchanges(TALK)
    assert [(e.place, e.question.content, [place for place, _ in e.answers]) for e in found] == [
        (0, "a", [1, 2]), (3, "b", [4, 5]), (6, "c", []),
    ]  # fmt: skip
    assert [t.content for t in before(TALK, 3).turns] == ["a", "A", ""]


def test_an_edit_leaves_a_copy_of_the_course_that_is_replaced() -> None:
    kept = branch(TALK, 3)
    assert kept is not None
    assert kept.turns == TALK.turns
    assert kept.conversation_id != TALK.conversation_id
    assert kept.name == "Talk (before the edit)"
    assert branch(TALK, 6) is None  # nothing was answered from there on


def test_the_first_question_names_the_conversation_and_arms_are_kept_once() -> None:
    talk = opened(Conversation(conversation_id="x", name="New conversation"), "张三加入华信。\nmore", (ONE,), instruction="i")
    assert talk.name == "张三加入华信"
    assert (talk.turns[-1].content, talk.turns[-1].instruction) == ("张三加入华信。\nmore", "i")
    again = opened(talk, "b", (ONE,))
    assert (again.name, again.arms, first_of(again, (ONE,))) == (talk.name, (ONE,), 0)
    assert opened(again, "c", (ONE, TWO)).arms == (ONE, ONE, TWO)


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Tom Baker joined the Prague office in 2010.", "Tom Baker joined the Prague office in…"),
        ("Tom Baker joined the Prague branch in 2010, they say", "Tom Baker joined the Prague branch in…"),
        ("Tom Baker joined the Prague agency in 09 they say", "Tom Baker joined the Prague agency in 09…"),
        ("甲" * 39 + "。", "甲" * 39),
        ("甲" * 41, "甲" * 40 + "…"),
        ("Nr " + "7" * 60, "Nr " + "7" * 37 + "…"),
    ],
)
def test_a_long_question_is_cut_after_a_word_and_seen_to_be(question: str, name: str) -> None:
    assert opened(Conversation(conversation_id="x", name="New conversation"), question, (ONE,)).name == name


def test_arms_are_named_after_what_answers() -> None:
    settings = GenerationSettings()
    endpoint = ModelRef(source="endpoint", name="far")
    assert arm_of(None, ModelRef(), PLAIN, settings).name == "SmolLM2-135M-Instruct, plain"
    assert arm_of(None, endpoint, PLAIN, settings).model == endpoint


def test_the_export_tells_failures_and_can_be_imported(tmp_path: Path) -> None:
    assert "(no answer: it is down)" in to_markdown(TALK)
    assert to_markdown(TALK).startswith("# Talk\n\n> Be short.\n\n**You**\n\na\n\n**one**\n\nA")
    path = tmp_path / "talk.jsonl"
    path.write_text(to_json_lines(TALK), encoding="utf-8")
    assert [json.loads(line)["arm"] for line in path.read_text("utf-8").splitlines()] == ["one", "two"]
    import_file(path, "talks")
    first, second = read_rows("talks").to_pylist()
    assert [m["content"] for m in json.loads(first["messages"])] == ["Be short.", "a", "A", "b", "B"]
    assert (second["instruction"], second["input"], second["output"]) == ("Be short.", "b", "BB")


@pytest.mark.parametrize(
    ("config", "made"),
    [
        ({}, GenerationSettings(max_new_tokens=256)),
        ({"do_sample": False, "temperature": 0.6}, GenerationSettings(max_new_tokens=256)),
        (
            {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05},
            GenerationSettings(max_new_tokens=256, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05),
        ),
        ({"do_sample": True, "max_new_tokens": 64}, GenerationSettings(max_new_tokens=64, temperature=1.0, top_k=50)),
        ({"do_sample": True, "temperature": "hot", "top_p": 7, "top_k": None}, GenerationSettings(
            max_new_tokens=256, temperature=1.0, top_p=1.0, top_k=50)),
    ],
)  # fmt: skip
def test_generation_begins_as_the_models_makers_say(tmp_path: Path, config: dict[str, object], made: GenerationSettings) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 4096}}', encoding="utf-8")
    assert own_settings(tmp_path) == made
    assert context_length(tmp_path) == 4096
    assert own_settings(None) == own_settings(tmp_path / "nowhere") == GenerationSettings(max_new_tokens=256)
