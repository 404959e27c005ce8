"""Chat, with endpoints of this machine as arms: asked, edited, asked anew, kept as rows, linked, renamed, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.jobs.engines import chat_engines
from core.records import Arm, Conversation, ModelRef, NamedEndpoint, Turn
from core.settings import get_settings
from core.store.datasets import get_version, read_rows
from core.store.endpoints import list_endpoints, save_endpoint
from core.store.runs import get_conversation, list_conversations, save_conversation
from pages.ui import engine
from tests.pages.filled import INSTRUCTION, Filled, fill
from tests.pages.stand_in_endpoint import StandIn, endpoint
from tests.tiny import make_tiny_model

PAGE = str(Path(__file__).resolve().parents[2] / "pages" / "4_Chat.py")
KEY = "sk-never-kept"
TEXT = "王建国于2023年5月6日加入华远律师事务所。"


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(tmp_path, evaluations=False)


@pytest.fixture
def there(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """An endpoint that takes a key, and one where nobody listens; both can be picked."""
    monkeypatch.setenv("TUNEWISE_ENDPOINT_KEY", KEY)
    monkeypatch.setattr("core.models.download.pause", lambda seconds: None)
    with endpoint(key=KEY) as stand:
        save_endpoint(NamedEndpoint(name="there", url=stand.url, model="m-1"))
        save_endpoint(NamedEndpoint(name="nobody", url="http://127.0.0.1:9/v1", model="m-2"))
        yield stand


def chat(*arms: str, **state: object) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=180)
    if arms:
        page.session_state["chat_arms"] = [f"endpoint:{arm}" for arm in arms]
    for key, value in state.items():
        page.session_state[key] = value
    page.run()
    assert not page.exception, page.exception
    return page


def ask(page: AppTest, text: str) -> AppTest:
    page.chat_input[0].set_value(text).run()
    assert not page.exception, page.exception
    return page


def press(page: AppTest, key: str) -> AppTest:
    """Press the first button whose key begins so."""
    next(button for button in page.button if (button.key or "").startswith(key)).click().run()
    assert not page.exception, page.exception
    return page


def words(page: AppTest) -> str:
    parts = [*page.header, *page.subheader, *page.markdown, *page.caption, *page.error, *page.warning]
    return "\n".join(str(part.value) for part in parts) + "\n".join(str(h.proto.body) for h in page.get("html"))


def talk() -> Conversation:
    return list_conversations()[0]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_an_endpoint_answers_with_the_template_and_its_key_is_kept_nowhere(there: StandIn, streamed: bool) -> None:
    there.say = lambda text: json.dumps({"person": ["王建国"], "date": ["1999"]}, ensure_ascii=False)
    page = chat("there")
    page.toggle(key="chat_streamed").set_value(streamed).run()
    ask(page, TEXT)
    assert there.keys == [f"Bearer {KEY}"]
    assert there.bodies[0]["model"] == "m-1"
    assert there.bodies[0]["messages"] == [{"role": "user", "content": f"{INSTRUCTION}\n{TEXT}"}]
    assert (there.bodies[0]["temperature"], there.bodies[0]["max_tokens"]) == (0.0, 256)
    shown = words(page)
    assert "there, chat" in shown
    assert '<mark class="predicted">王建国</mark>' in shown
    assert "not in the text" in shown
    assert "11 tokens in" in shown
    turn = talk().turns[1]
    assert (turn.error, turn.stopped, turn.tokens_in) == ("", False, 11)
    assert talk().turns[0].instruction == INSTRUCTION
    kept = [path for path in get_settings().workspace.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert kept == []


def test_one_arm_that_is_down_leaves_the_other_alone(there: StandIn) -> None:
    page = ask(chat("there", "nobody"), TEXT)
    assert [turn.arm for turn in talk().turns] == [None, 0, 1]
    good, bad = talk().turns[1:]
    assert good.content
    assert not good.error
    assert "nobody can't be reached" in bad.error
    assert any("nobody can't be reached" in error.value and "Is it running" in error.value for error in page.error)
    there.key = "another"
    ask(page, TEXT)
    assert "refuses the key" in talk().turns[-2].error
    assert KEY not in talk().model_dump_json()


def test_an_answer_says_what_it_took_and_cost_and_the_conversation_what_all_did(there: StandIn) -> None:
    save_endpoint(NamedEndpoint(name="dear", url=there.url, model="m", price_in=2000.0, price_out=10_000.0))
    there.say = lambda text: "{}"
    page = ask(chat("there", "dear"), TEXT)
    free, dear = talk().turns[1:]
    assert (free.cost, dear.cost) == (None, pytest.approx((11 * 2000 + 2 * 10_000) / 1e6))
    lines = [caption.value for caption in page.caption if "tokens/s" in caption.value]
    assert [line.startswith("11 tokens in, 2 out · ") and " s, " in line for line in lines] == [True, True]
    assert ["cost 0.0420" in line for line in lines] == [False, True]
    (so_far,) = [caption for caption in page.caption if caption.value.startswith("So far")]
    assert so_far.value.startswith("So far 2 answers: 22 tokens in, 4 out · ")
    assert so_far.value.endswith("of answering · cost 0.0420 (1 answer with a price)")
    assert "dear, chat: 1 answer: 11 tokens in, 2 out" in so_far.help.replace("\\", "")
    press(page, "chat_regenerate")  # the answers that are gone were paid for, too
    (so_far,) = [caption for caption in page.caption if caption.value.startswith("So far")]
    assert so_far.value.startswith("So far 4 answers: 44 tokens in")
    assert "cost 0.0840" in so_far.value
    assert "replaced by others since: 2 answers" in so_far.help


def test_an_arm_remembers_its_own_answers_and_free_chat_has_nothing_around_it(there: StandIn) -> None:
    page = chat("there")
    page.radio(key="chat_template_chat@1").set_value("plain@1").run()
    assert any("left out" in caption.value and "the oldest first" in caption.value for caption in page.caption)
    ask(ask(page, "first"), "second")
    assert [m["content"] for m in there.bodies[1]["messages"]] == ["first", there.say("first"), "second"]
    page.number_input(key="chat_seed").set_value(5).run()  # other settings make no stranger of it
    ask(page, "third")
    assert [m["content"] for m in there.bodies[2]["messages"]][::2] == ["first", "second", "third"]


def test_a_question_is_edited_what_followed_is_replaced_and_a_copy_of_it_kept(there: StandIn) -> None:
    page = ask(ask(chat("there"), "first"), "second")
    before = talk()
    press(page, f"edit_{before.conversation_id}_0")
    page.text_area(key=f"text_{before.conversation_id}_0").set_value("other words")
    press(page, f"FormSubmitter:form_{before.conversation_id}_0-Ask this instead")
    after = get_conversation(before.conversation_id)
    assert [turn.content for turn in after.turns if turn.role == "user"] == ["other words"]
    copy = next(other for other in list_conversations() if other.conversation_id != before.conversation_id)
    assert copy.turns == before.turns
    assert copy.name.endswith("(before the edit)")
    assert "second" not in words(page)


def test_the_last_question_is_asked_again_in_its_place(there: StandIn) -> None:
    page = ask(chat("there"), "first")
    there.say = lambda text: '{"person": ["anew"]}'
    press(page, "chat_regenerate")
    assert [turn.content for turn in talk().turns] == ["first", '{"person": ["anew"]}']
    assert len(list_conversations()) == 1


def test_asking_again_with_an_arm_that_cannot_answer_replaces_nothing(there: StandIn) -> None:
    page = ask(chat("there"), "first")
    before = talk().turns
    page.session_state["chat_pick"] = ["endpoint:there|instruct@1"]
    page.run()
    press(page, "chat_regenerate")
    assert any("it has no messages" in error.value and "Nothing was replaced" in error.value for error in page.error)
    assert talk().turns == before
    assert "there, chat" in words(page)  # and it is still shown


def test_a_corrected_answer_becomes_a_row_that_can_be_undone(there: StandIn, filled: Filled) -> None:
    page = ask(chat("there", dataset=filled.dataset), TEXT)
    press(page, "keep_chat")
    mark = f"{talk().conversation_id}_1"
    answer = '{"person": ["王建国"], "firm": ["华远律师事务所"]}'
    page.text_area(key=f"keep_answer_{mark}").set_value(answer[:-1]).run()
    assert "This is no JSON" in words(page)
    page.text_area(key=f"keep_answer_{mark}").set_value(answer).run()
    assert "has no element firm" in words(page)
    page.button_group(key="keep_split").set_value("dev").run()
    press(page, "keep_add")
    assert f"Kept as a row of **{filled.dataset} v2**, dev" in words(page)
    row = read_rows(filled.dataset).to_pylist()[-1]
    assert (row["input"], row["output"], row["instruction"]) == (TEXT, answer, INSTRUCTION)
    assert (row["source"], row["split"]) == ("chat", "dev")
    press(page, "keep_chat")
    page.text_area(key=f"keep_answer_{mark}").set_value(answer).run()
    assert "has this row already" in words(page)
    press(page, "keep_add")
    assert get_version(filled.dataset).number == 2
    press(page, "keep_leave")


def test_a_kept_row_is_undone_from_the_same_place(there: StandIn, filled: Filled) -> None:
    page = press(ask(chat("there", dataset=filled.dataset), TEXT), "keep_chat")
    press(page, "keep_add")
    press(page, "keep_undo")
    version = get_version(filled.dataset)
    assert (version.number, version.rows) == (3, 60)
    assert "chat" not in read_rows(filled.dataset)["source"].to_pylist()


BROKEN = (
    ('{"person": ["王建国"', "character 18", "it ends there"),
    ("Sure! {}", "character 1", "it begins with other text"),
    ('{"person": ["王建国"],\n "date": 2023年}', "line 2, character 14", "a comma was expected"),
    ('{"person": "王', "character 12", "the string that begins there doesn't end"),
)


@pytest.mark.parametrize(("content", "where", "why"), BROKEN)
def test_an_answer_that_is_no_json_says_where_it_breaks(filled: Filled, content: str, where: str, why: str) -> None:
    turns = (Turn(role="user", content=TEXT), Turn(role="assistant", content=content, arm=0, tokens_out=9, seconds=1.0))
    save_conversation(Conversation(conversation_id="chat-b", name="Broken", arms=(Arm(name="base"),), turns=turns))
    shown = words(chat(conversation="chat-b")).replace("\\", "")
    assert f"No JSON from {where} on:] {why}" in shown
    assert '<mark class="hit">' in shown


def test_conversations_are_linked_renamed_and_deleted_after_a_second_look(there: StandIn) -> None:
    page = ask(chat("there"), TEXT)
    key = talk().conversation_id
    assert page.query_params["conversation"] == key
    other = AppTest.from_file(PAGE, default_timeout=180)
    other.query_params["conversation"] = key
    other.run()
    assert "1 question" in other.header[0].value
    assert other.session_state["chat_arms"] == ["endpoint:there"]
    other.text_input(key=f"name_{key}").set_value("Who joined").run()
    assert get_conversation(key).name == "Who joined"
    press(other, "chat_delete")
    assert get_conversation(key).name == "Who joined"
    press(other, "chat_delete")
    assert list_conversations() == []
    assert "conversation" not in other.query_params
    lost = AppTest.from_file(PAGE, default_timeout=180)
    lost.query_params["conversation"] = "chat-none"
    lost.run()
    assert "no conversation" in lost.error[0].value
    assert "Ask the base model" in lost.header[0].value


def test_settings_begin_with_the_models_own_and_warn_of_another_template(filled: Filled, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    own = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}
    (folder / "generation_config.json").write_text(json.dumps(own), encoding="utf-8")
    page = chat("there", chat_arms=["base"], model=str(folder))
    assert page.slider(key="chat_temperature_own_model").value == 0.6
    assert page.number_input(key="chat_top_k_own_model").value == 20
    page.button_group(key="chat_preset").set_value("Creative").run()
    assert page.slider(key="chat_temperature_Creative").value == 1.0
    tuned = chat(chat_arms=[filled.run])
    assert not tuned.warning
    tuned.radio(key="chat_template_chat@1").set_value("plain@1").run()
    assert "was trained with chat@1" in tuned.warning[0].value
    added = chat(chat_arms=[filled.run], chat_pick=[f"{filled.run}|chat-zh@1"])
    assert "asked with chat-zh@1" in added.warning[0].value


def test_the_number_format_is_chosen_and_kept_with_the_arm(filled: Filled, tmp_path: Path) -> None:
    folder = str(make_tiny_model(tmp_path / "tiny"))
    page = chat(chat_arms=["base"], model=folder)
    page.number_input(key="chat_tokens_own_tiny").set_value(4).run()
    for chosen in ("float32", "own", "float32"):
        page.selectbox(key="chat_numbers_auto").set_value(chosen).run()
        ready = "is in memory" if engine.in_memory(_asked(chosen, folder)) else "is loaded with the next question"
        assert ready in words(page)
        ask(page, "Anna")
        assert engine.in_memory(_asked(chosen, folder))
    assert [arm.model for arm in talk().arms] == [_asked(chosen, folder) for chosen in ("float32", "own", "float32")]
    answers = [turn for turn in talk().turns if turn.role == "assistant"]
    assert [(turn.error, turn.tokens_out > 0) for turn in answers] == [("", True)] * 3
    assert chat_engines().release()


def _asked(chosen: str, folder: str) -> ModelRef:
    return ModelRef(source="path", name=folder, dtype="float32" if chosen == "float32" else "auto")


def test_four_answer_at_most_and_endpoints_are_added_and_forgotten(there: StandIn, filled: Filled) -> None:
    for n in range(3):
        save_endpoint(NamedEndpoint(name=f"more-{n}", url=there.url, model="m"))
    page = chat("there", "nobody", "more-0", "more-1", "more-2")
    assert "4 answer at once: more-2 is left out" in words(page).replace("\\", "")
    page.button_group(key="chat_add_kind").set_value("An endpoint").run()
    page.text_input(key="chat_endpoint_name").set_value("mine")
    page.text_input(key="chat_endpoint_url").set_value(there.url)
    page.text_input(key="chat_endpoint_model").set_value("m")
    page.text_input(key="chat_endpoint_key").set_value("PATH")
    press(page, "chat_add_endpoint")
    assert "'PATH' is no variable of a key" in page.error[0].value
    page.text_input(key="chat_endpoint_key").set_value("TUNEWISE_ENDPOINT_KEY")
    page.number_input(key="chat_endpoint_in").set_value(0.5)
    press(page, "chat_add_endpoint")
    assert {one.name: one.price_in for one in list_endpoints()}["mine"] == 0.5
    assert "endpoint:mine" in page.session_state["chat_arms"]
    press(page, "chat_forget_mine")
    assert "endpoint:mine" not in page.session_state["chat_arms"]


def test_a_long_conversation_shows_its_end_first(filled: Filled) -> None:
    turns = [
        t for n in range(50) for t in (Turn(role="user", content=f"question {n}."), Turn(role="assistant", content="{}", arm=0))
    ]
    arm = Arm(name="base", model=ModelRef())
    save_conversation(Conversation(conversation_id="chat-l", name="Long", arms=(arm,), turns=tuple(turns)))
    page = chat(conversation="chat-l")
    assert "question 30." in words(page)
    assert "question 29." not in words(page)
    press(page, "chat_show_all")
    assert "question 0." in words(page)
