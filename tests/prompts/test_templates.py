"""Templates: built in, stored, versions, YAML, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InputFileError, NotFoundError, SpecError, UserError
from core.prompts.studio import faults
from core.prompts.templates import (
    builtin_templates,
    check_texts,
    dump_template,
    find_template,
    import_template,
    list_templates,
    parse_template,
    save_as_next_version,
    text_hash,
)
from core.records import Template
from core.store.runs import mark_template_used, save_template
from tests.prompts.toys import GEMMA, byte_level

LANGUAGES = ("zh", "en")
BUILT_IN = {"chat", "instruct", "instruct-en"} | {
    f"{kind}-{tongue}" for kind in ("chat", "json", "few-shot", "rag") for tongue in LANGUAGES
}


def test_built_in_templates_are_sound_and_need_no_database(workspace: Path) -> None:
    assert {t.name for t in builtin_templates()} == BUILT_IN
    assert all(not faults(t, byte_level(), ["姓名"]) for t in builtin_templates())
    assert not workspace.exists()


@pytest.mark.parametrize("template", builtin_templates(), ids=lambda t: t.name)
def test_yaml_there_and_back(template: Template) -> None:
    again = parse_template(dump_template(template))
    assert again.model_dump(exclude={"created_at"}) == template.model_dump(exclude={"created_at"})


def test_a_change_is_a_new_version_and_the_newest_is_found() -> None:
    chat = find_template("chat")
    changed = save_as_next_version(chat.model_copy(update={"system": "Be brief."}))
    assert changed.ref == "chat@2"
    assert find_template("chat") == changed
    assert find_template("chat@1") == chat
    assert save_as_next_version(chat.model_copy(update={"system": "Be brief.", "description": "x"})) == changed
    assert [t.ref for t in list_templates()][:2] == ["chat@1", "chat@2"]
    assert text_hash(changed) != text_hash(chat)


def test_a_used_template_does_not_change() -> None:
    template = save_as_next_version(Template(name="mine", user="{{ input }}"))
    mark_template_used(template)
    with pytest.raises(UserError, match="in use"):
        save_template(template.model_copy(update={"user": "{{ input }}!"}))


def test_import_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("name: 我的\nkind: raw\nuser: '问：{{ input }}答：'\nanswer: '{{ output }}。'\nstop: ['。']\n", "utf-8")
    assert import_template(path).ref == "我的@1"
    path.write_text(path.read_text("utf-8").replace("问", "题"), "utf-8")
    assert import_template(path).ref == "我的@2"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputFileError):
        import_template(path)


WRONG = [
    ("name: a\nuser: '{{ input'", "line 1"),
    ("name: a\nuser: '{% if input %}x'", "endif"),
    ("name: a\nuser: '{{ outptu }}'", "outptu"),
    ("name: a\nuser: '{{ output }}'", "can't stand in the prompt"),
    ("name: a\nanswer: 'nothing'", "does not write the output"),
    ("name: a\nsystem: '{{ x }}'\nuser: '{{ y }}'", "'x'"),
    ("name: a\nusr: x", "usr"),
    ("name: a\nkind: poem", "kind"),
    ("- a", "mapping"),
    ("name: [", "line"),
    ("name: '../x'", "template name"),
    ("a: &a [*a, *a]", "template"),
]


@pytest.mark.parametrize(("text", "word"), WRONG)
def test_what_is_wrong_is_said(text: str, word: str) -> None:
    with pytest.raises(UserError) as caught:
        save_as_next_version(parse_template(text))
    assert word in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_all_faults_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        check_texts(Template(name="a", system="{{ x }}", user="{% for %}", answer="{{ y }}"))
    assert len(caught.value.faults) == 3


def test_no_such_template() -> None:
    with pytest.raises(NotFoundError) as caught:
        find_template("chat@9")
    assert "few-shot-zh" in caught.value.hint


def test_faults_for_a_tokenizer() -> None:
    assert "system role" in faults(find_template("json-en"), byte_level(GEMMA, bos=True))[0].message
    assert "no chat template" in faults(find_template("chat"), byte_level(None))[0].message
    assert "doesn't hold the input" in faults(Template(name="t", user="x"), byte_level())[0].message
