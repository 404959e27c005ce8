"""The pages Train, Chat and Compare, on an empty and on a filled workspace."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from streamlit.testing.v1 import AppTest

from core.data.importing import import_file
from core.evaluation.compare import compare
from core.jobs import queue
from core.records import Conversation, Turn
from core.store.jobs import list_jobs
from core.store.runs import get_run, save_conversation, save_run
from pages.ui import comparison
from tests.pages.filled import Filled, fill, make_evaluation

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"train": "pages/3_Train.py", "chat": "pages/4_Chat.py", "compare": "pages/5_Compare.py"}


def open_page(name: str, **state: Any) -> AppTest:
    page = AppTest.from_file(str(ROOT / PAGES[name]), default_timeout=180)
    for key, value in state.items():
        page.session_state[key] = value
    page.run()
    assert not page.exception, page.exception
    return page


def words(page: AppTest) -> str:
    """All headings, text and HTML of a page."""
    parts = [*page.header, *page.subheader, *page.markdown, *page.caption]
    return "\n".join(str(part.value) for part in parts) + "\n".join(str(h.proto.body) for h in page.get("html"))


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("train", "See a fine-tune learn"), ("chat", "Ask the base model"), ("compare", "A prompt and a fine-tune")],
)
def test_an_empty_workspace_says_what_the_page_will_show(name: str, sentence: str) -> None:
    page = open_page(name)
    assert sentence in words(page)
    if name != "chat":
        assert [b.label for b in page.button if b.label.startswith("Open")]


def test_compare_says_in_plain_words_what_is_still_needed(tmp_path: Path) -> None:
    filled = fill(tmp_path, evaluations=False)
    page = open_page("compare", dataset=filled.dataset)
    assert page.header[0].value.startswith("Nothing has answered rows of notices yet")
    make_evaluation(filled.version, None, "仅提示", keep=2)
    one = open_page("compare", dataset=filled.dataset)
    assert one.header[0].value.startswith("Only 仅提示 has answered rows of notices yet")
    make_evaluation(filled.version, filled.run, "fine-tune", keep=5)
    two = open_page("compare", dataset=filled.dataset)
    two.multiselect(key="arms").set_value([]).run()
    assert two.header[0].value.startswith("Choose two that answered the same rows")
    for shown in (page, one, two):
        assert not re.search(r"\barms?\b", shown.header[0].value)


def test_train_shows_the_last_run_its_curve_and_the_form(filled: Filled) -> None:
    page = open_page("train")
    assert "lora-r16 is trained" in page.header[0].value
    assert "20 steps" in page.header[0].value
    assert {m.label for m in page.metric} >= {"Step", "Tokens per second", "Time spent"}
    assert page.button(key="train_start").label.startswith("Train 1 epoch")
    assert "method: lora" in "\n".join(c.value for c in page.code)


def test_a_spec_that_cannot_be_trained_names_its_faults_and_starts_nothing(filled: Filled) -> None:
    page = open_page("train")
    before = len(list_jobs())
    page.selectbox(key="model")
    page.number_input(key="train_batch_size").set_value(4)
    page.run()
    assert not page.exception
    assert not page.button(key="train_start").disabled
    assert len(list_jobs()) == before


def test_compare_holds_the_fine_tune_against_the_prompt(filled: Filled) -> None:
    page = open_page("compare")
    head = page.header[0].value
    assert "fine-tune answers" in head
    assert "of 20 rows exactly against" in head
    assert "[+" in head
    assert "fine-tune is better" in words(page) or "No clear difference" in words(page)
    assert len(page.get("plotly_chart")) == 2
    assert "Gained" in str(page.get("segmented_control") or page.get("button_group"))


def test_compare_says_in_words_that_no_row_differs_and_names_the_score_that_tells(filled: Filled) -> None:
    again = make_evaluation(filled.version, None, "again", keep=2)
    page = open_page("compare", arms=[filled.base, again])
    assert page.header[0].value == "again and prompt alone score the same on each of 20 rows: 9 exactly right"
    assert "At most 16% of such rows can score otherwise (95 %)" in words(page)
    assert "No row tells" not in words(page)  # the headline says so
    found = compare([filled.base, filled.tuned])
    poor = replace(found, arms=tuple(replace(arm, scores=arm.scores | {"exact_match": 0.0}) for arm in found.arms))
    told = comparison.headline(poor, poor.versus[0])
    assert re.fullmatch(r"fine-tune reaches Micro-F1 0\.\d\d against 0\.\d\d by prompt alone: \+0\.\d\d\s\[.*\]", told), told


def test_compare_with_one_arm_asks_for_the_other(tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    page = open_page("compare")
    assert page.header[0].value.startswith("Nothing has answered rows of notices yet")
    assert page.button(key="arm_start").label == "Answer 20 rows with the prompt"


def test_compare_warns_of_a_prompt_that_says_nothing_of_the_task(tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text('{"text": "Anna joined in 2001.", "answer": "{\\"person\\": [\\"Anna\\"]}"}\n', encoding="utf-8")
    import_file(path, "bare")
    page = open_page("compare")
    assert page.selectbox(key="template").value == "json-en@1"  # what such rows begin with
    assert not page.warning
    page.selectbox(key="template").set_value("chat@1").run()
    assert ["doesn't say what to extract" in w.value and "json-en@1" in w.value for w in page.warning] == [True]
    assert "chat-en@1" not in page.warning[0].value
    page.slider(key="arm_shots").set_value(1).run()
    assert not page.warning
    page.slider(key="arm_shots").set_value(0).run()
    page.selectbox(key="template").set_value("json-en@1").run()
    assert not page.warning


def test_compare_does_not_warn_where_rows_have_an_instruction(tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    page = open_page("compare")
    assert page.button(key="arm_start")
    assert not page.warning


def test_chat_shows_a_kept_conversation_with_its_elements(filled: Filled) -> None:
    from core.records import Arm

    talk = Conversation(
        conversation_id="chat-1",
        name="Who joined",
        arms=(Arm(name="base"),),
        turns=(
            Turn(role="user", content="王建国于2023年5月6日加入华远律师事务所。<b>"),
            Turn(role="assistant", content='{"person": ["王建国"], "date": ["1999"]}', arm=0, tokens_out=12, seconds=1.5),
        ),
    )
    save_conversation(talk)
    page = AppTest.from_file(str(ROOT / PAGES["chat"]), default_timeout=180)
    page.session_state["conversation"] = "chat-1"
    page.run()
    assert not page.exception
    shown = words(page)
    assert "Who joined: 1 question" in shown
    assert "王建国" in shown
    assert "not in the text" in shown
    assert "<b>" not in shown.replace("&lt;b&gt;", "")
    assert "8 tokens/s" in shown.replace("8.00", "8")


def test_no_page_reaches_torch_before_an_answer_is_asked_for(filled: Filled) -> None:
    import subprocess

    code = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        f"for page in {list(PAGES.values())!r}:\n"
        "    ran = AppTest.from_file(page, default_timeout=180).run(); assert not ran.exception, ran.exception\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_compare_asks_for_the_arm_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = fill(tmp_path, evaluations=False)
    monkeypatch.setenv("TUNEWISE_DEVICES", "cpu")
    assert queue.claim_device("cpu", "chat-1")  # nothing that is queued starts
    page = open_page("compare")
    assert page.selectbox(key="arm_who").value == "the prompt alone"
    page.button(key="arm_start").click().run()
    assert not page.exception
    assert page.selectbox(key="arm_who").value.startswith("lora-r16")
    assert page.button(key="arm_start").label == "Answer 20 rows with the fine-tune"
    page.selectbox(key="arm_who").set_value("the prompt alone").run()
    assert "answers these rows already" in words(page)
    assert page.button(key="arm_start").proto.type == "secondary"
    save_run(get_run(filled.run).model_copy(update={"complete": False}))
    page = open_page("compare")
    assert [b.label for b in page.button if b.proto.type == "primary"] == ["Train a fine-tune"]


def test_a_run_that_train_sends_is_held_against_the_prompt_or_is_the_next_arm(filled: Filled) -> None:
    run = get_run(filled.run)
    with mock.patch.object(comparison.st, "session_state", {}) as state:
        comparison.choose(run)
        assert state["arms"] == [filled.base, filled.tuned]
    other = run.model_copy(update={"run_id": "run-other", "name": "other"})
    save_run(other)
    with mock.patch.object(comparison.st, "session_state", {}) as state:
        comparison.choose(other)
    assert "arms" not in state
    page = AppTest.from_file(str(ROOT / PAGES["compare"]), default_timeout=180)
    for key, value in state.items():
        page.session_state[key] = value
    page.run()
    assert not page.exception
    assert page.selectbox(key="arm_who").value.startswith("other")
