"""Tokens: lengths against a maximum length, one row's tokens with the mask, templates side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from core.data.importing import import_file
from core.figures import budget
from core.lengths import measure
from core.lengths.places import places
from core.lengths.truncation import Truncation
from core.models import catalogue
from core.prompts.templates import find_template
from core.records import ModelRef
from pages.ui import tokencost, tokenview
from tests.pages.conftest import check, texts
from tests.pages.filled import fill
from tests.tiny import make_tiny_tokenizer

TOKENS = "pages/2_Tokens.py"
VIEWS = (
    "One row", "Template studio", "Templates side by side", "Tokenizers", "Groups", "Padding and packing", "Longest rows",
)  # fmt: skip
CONFIG = {
    "hidden_size": 1024, "num_attention_heads": 8, "num_hidden_layers": 8, "intermediate_size": 4096, "vocab_size": 32000,
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in the place of the default one, so that no cache is needed."""
    folder = make_tiny_tokenizer(tmp_path / "tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(tokencost, "resolve", lambda ref: folder)
    monkeypatch.setattr(catalogue, "default_model_path", lambda progress=None: folder)
    return folder


def test_empty(open_page: Callable[..., AppTest]) -> None:
    app = open_page(TOKENS)
    check(app)
    assert "How long your rows are" in app.header[0].value


def test_all_fit_and_too_short(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS)
    check(app)
    assert "60 rows fit in" in app.header[0].value
    app.select_slider(key="max_length").set_value(64).run()
    assert "would be left out" in app.header[0].value or app.header[0].value.startswith("All 60 rows fit in 64")
    assert app.button(key="tokens_train").label == "Train with max length 64"


def test_a_length_that_was_only_advised_follows_what_is_selected_and_a_chosen_one_stays(
    open_page: Callable[..., AppTest], tmp_path: Path, small: Path
) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS)
    advised = app.select_slider(key="max_length").value
    app.selectbox(key="template").set_value("json-en@1").run()
    longer = app.select_slider(key="max_length").value
    assert longer > advised
    assert app.header[0].value.startswith("All 60 rows fit in")
    app.select_slider(key="max_length").set_value(64).run()
    app.selectbox(key="template").set_value("chat@1").run()
    assert app.select_slider(key="max_length").value == 64


def test_a_length_into_which_no_row_fits_leads_to_the_advised_one(
    open_page: Callable[..., AppTest], tmp_path: Path, small: Path
) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, max_length=16)  # type: ignore[arg-type]
    assert app.header[0].value.startswith("0 % of 60 rows fit in 16")
    assert app.button(key="tokens_train").disabled
    app.button(key="tokens_advised").click().run()
    check(app)
    assert app.header[0].value.startswith("All 60 rows fit in")
    assert not app.button(key="tokens_train").disabled


@pytest.mark.parametrize("view", VIEWS)
def test_views(open_page: Callable[..., AppTest], tmp_path: Path, small: Path, view: str) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view=view)
    check(app)
    if view == "One row":
        assert any('class="learnt' in html.value and 'class="given' in html.value for html in app.html)
        assert any("are learnt" in text for text in texts(app))
    if view == "Templates side by side":
        assert len([text for text in texts(app) if text.startswith("**chat")]) >= 1


def test_a_model_that_is_none_is_told(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, model=str(tmp_path / "nothing"))
    assert not app.exception
    assert any("There is no folder" in error.value for error in app.error)


@given(st.lists(st.integers(1, 5000), min_size=1), st.floats(0.5, 1.0))
def test_a_sound_length_holds_its_share(lengths: list[int], share: float) -> None:
    limit = budget.sound(lengths, share)
    assert sum(length <= limit for length in lengths) >= share * len(lengths)


def test_the_studio_tells_a_fault_and_saves_the_next_version(
    open_page: Callable[..., AppTest], tmp_path: Path, small: Path
) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view="Template studio")
    assert app.button(key="studio_save").disabled
    app.text_area(key="studio_user_chat@1").set_value("{% if input %}{{ input }}").run()
    assert not app.exception
    assert any("chat@1, user" in error.value for error in app.error)
    app.text_area(key="studio_user_chat@1").set_value("{{ colour }} {{ input }}").run()
    assert any("no variable" in error.value for error in app.error)
    app.text_area(key="studio_user_chat@1").set_value("PLEASE {{ input }}").run()
    assert not app.error
    assert any("PLEASE" in re.sub("<[^>]+>", "", html.value) for html in app.html)
    assert any("PLEASE" in code.value for code in app.code)
    assert app.button(key="studio_save").label == "Save as chat@2"
    app.button(key="studio_save").click().run()
    check(app)
    assert app.selectbox(key="template").value == "chat@2"
    assert find_template("chat@2").user == "PLEASE {{ input }}"
    assert find_template("chat@1").user != "PLEASE {{ input }}"


def test_the_studio_takes_yaml(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view="Template studio")
    text = "name: mine\nuser: 'Q {{ input }}'\nstop: ['###']\n"
    app.file_uploader(key="studio_upload_0").set_value(("mine.yaml", text.encode(), "application/yaml")).run()
    check(app)
    assert app.selectbox(key="template").value == "mine@1"
    assert find_template("mine").stop == ("###",)
    app.file_uploader(key="studio_upload_1").set_value(("bad.yaml", b"name: [", "application/yaml")).run()
    assert any("no YAML" in error.value.replace("\\", "") for error in app.error)


def test_what_is_lost_depends_on_the_policy(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, max_length=128)  # type: ignore[arg-type]
    check(app)
    assert "would be left out" in app.header[0].value
    at = Truncation(
        measure("notices", None, find_template("chat"), ModelRef()), places("notices", None, find_template("chat"), ModelRef())
    )
    told = at.simulate(128, "drop")
    shown = " ".join(texts(app))
    assert told.losing > 0
    assert f"Show the {told.losing} rows that lose values" in shown
    assert f"{told.over} of {told.rows}" in shown
    assert f"teach {at.simulate(128, 'cut').end_lost} answers without an end" in shown
    app.selectbox(key="overflow").set_value("shorten_input").run()
    check(app)
    cut = at.simulate(128, "shorten_input")
    assert f"{cut.shortened} would have a shortened input" in app.header[0].value
    assert (f"{cut.dropped} would be left out" in app.header[0].value) == bool(cut.dropped)
    app.button(key="tokens_losing").click().run()
    check(app)
    assert [frame for frame in app.dataframe if "output" in frame.value.columns]
    app.button(key="tokens_advised").click().run()
    assert app.select_slider(key="max_length").value == at.recommend()[0]


def test_kept_lengths_are_those_of_the_outcome(tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    of = ("notices", None, find_template("chat"), ModelRef())
    at = Truncation(measure(*of), places(*of))
    for overflow in ("drop", "shorten_input"):
        kept = at.kept(128, overflow)  # type: ignore[arg-type]
        told = at.simulate(128, overflow)  # type: ignore[arg-type]
        assert (kept > 0).sum() == told.rows - told.dropped
        assert kept.max() <= 128


def test_groups_by_element_and_language(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view="Groups", tokens_by="element")
    check(app)
    [frame] = [f.value for f in app.dataframe if "group" in f.value.columns and "share" in f.value.columns][-1:]
    assert {"person", "organization", "date", "colour"} <= set(frame["group"])
    app = open_page(TOKENS, tokens_view="Groups", tokens_by="language")
    check(app)
    assert {"zh", "en"} <= set([f.value for f in app.dataframe if "share" in f.value.columns][-1]["group"])


def test_two_tokenizers_side_by_side_and_one_that_is_none(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    other, nothing = str(make_tiny_tokenizer(tmp_path / "other")), str(tmp_path / "nothing")
    (tmp_path / "other" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "other" / "model.safetensors").touch()
    app = open_page(TOKENS, tokens_view="Tokenizers", tokens_models=["default", other, nothing])  # type: ignore[arg-type]
    check(app)
    assert any("There is no folder" in error.value for error in app.error)
    frame = [f.value for f in app.dataframe if "vocabulary" in f.value.columns][-1]
    assert list(frame["model"]) == ["default", other]
    assert {"cpt_zh", "cpt_en"} <= set(frame.columns)


def test_time_and_memory_name_their_basis(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view="Padding and packing")
    check(app)
    assert [metric.label for metric in app.metric] == ["Time an epoch, about", "Peak memory, about"]
    assert any(re.search(r"Time ± \d+ % over \d+ measured runs|No run on .* is measured", text) for text in texts(app))
    before = app.metric[1].value
    app.selectbox(key="tokens_method").set_value("full").run()
    check(app)
    assert app.metric[1].value != before


def test_every_choice_is_in_the_address(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page()
    app.query_params |= {"overflow": "shorten_left", "max_length": "100", "tokens_row": "3", "tokens_cut": "true"}
    app.switch_page(TOKENS).run()
    check(app)
    assert app.selectbox(key="overflow").value == "shorten_left"
    assert app.select_slider(key="max_length").value == 100
    assert app.number_input(key="tokens_row").value == 3
    assert app.toggle(key="tokens_cut").value
    app.selectbox(key="overflow").set_value("shorten_around").run()
    assert app.query_params["overflow"] == "shorten_around"
    app.selectbox(key="overflow").set_value("drop").run()
    assert "overflow" not in app.query_params
    app.query_params |= {"overflow": "nonsense", "tokens_row": "99999"}
    app.run()
    check(app)


def test_choices_of_other_views_are_in_the_address(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    asked = {"tokens_batch": "32", "tokens_method": "full", "tokens_by": "language"}
    for view, key in {"Padding and packing": "tokens_batch", "Groups": "tokens_by"}.items():
        app = open_page(tokens_view=view)
        app.query_params |= asked
        app.switch_page(TOKENS).run()
        check(app)
        kinds = [*app.number_input, *app.selectbox, *app.button_group]
        held = {widget.key: widget.value for widget in kinds if widget.key in asked}
        assert key in held
        assert {name: str(value) for name, value in held.items()} == {name: asked[name] for name in held}


def test_what_is_chosen_here_is_taken_along_to_train(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view="Padding and packing", overflow="shorten_around", max_length=128)  # type: ignore[arg-type]
    app.number_input(key="tokens_batch").set_value(24).run()
    app.selectbox(key="tokens_method").set_value("lora").run()
    app.session_state["_held_tokens_turns"] = "last"
    app.button(key="tokens_train").click().run()
    state = app.session_state
    assert any(caption.value.startswith("Train — ") for caption in app.caption)
    handed = [state[f"train_{name}"] for name in ("length", "overflow", "batch_size", "method", "turns")]
    assert handed == [128, "shorten_around", 24, "lora", "last"]


def test_a_bound_choice_does_not_keep_from_going_to_another_page(
    open_page: Callable[..., AppTest], tmp_path: Path, small: Path
) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page()
    app.query_params |= {"tokens_view": "Groups"}
    app.switch_page(TOKENS).run()
    app.selectbox(key="template").set_value("json-en@1").run()
    check(app)
    assert app.query_params["tokens_view"] == "Groups"
    app.button(key="tokens_train").click().run()
    assert any(caption.value.startswith("Train — ") for caption in app.caption)
    assert app.selectbox(key="template").value == "json-en@1"


def test_an_empty_answer_is_told(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    path = tmp_path / "silent.jsonl"
    rows = [{"input": "why?", "output": ""}, {"input": "how?", "output": "so"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    import_file(path, "silent", task="generation")
    app = open_page(TOKENS)
    check(app)
    assert any("The answer is empty" in warning.value for warning in app.warning)
    assert any("Rows with an empty answer" in html.value for html in app.html)
    app.number_input(key="tokens_row").set_value(2).run()
    assert not any("The answer is empty" in warning.value for warning in app.warning)


def test_a_long_count_can_be_stopped_and_goes_on(
    open_page: Callable[..., AppTest], tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, evaluations=False)
    monkeypatch.setattr(tokenview, "LONG", 10)
    app = open_page(TOKENS)
    check(app)
    assert "60 rows" in app.header[0].value
    app.selectbox(key="template").set_value("json-en@1")
    app.session_state["_tokens_stopped"] = "notices · v1 json-en@1 SmolLM2-135M-Instruct"  # what a press of Stop leaves
    app.run()
    check(app)
    assert "stopped" in app.header[0].value
    app.button(key="tokens_go_on").click().run()
    check(app)
    assert "60 rows" in app.header[0].value


def test_a_row_without_a_trained_token_says_so(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    path = tmp_path / "open.jsonl"
    asked, told = {"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in ([asked, told], [asked])), encoding="utf-8")
    import_file(path, "open", task="chat")
    app = open_page(TOKENS, tokens_row=2)  # type: ignore[arg-type]
    check(app)
    assert any("leaves this row out" in warning.value for warning in app.warning)
    assert any("Rows without a token to learn" in html.value for html in app.html)


def test_a_conversation_can_be_learnt_by_its_last_turn(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    talk = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, "abcd", strict=True)]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    import_file(path, "talk", task="chat")
    app = open_page(TOKENS)
    check(app)
    every = _learnt(app)
    app.segmented_control(key="tokens_turns").set_value("last").run()
    check(app)
    assert 0 < _learnt(app) < every


def _learnt(app: AppTest) -> int:
    [said] = [text for text in texts(app) if "are learnt" in text]
    return int(said.split("of which ")[1].split()[0])
