"""Versions, ledger and undo: what must hold for any recipe on any rows."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.data.importing import import_file
from core.data.ledger import rebuild
from core.data.recipes import apply, default_recipe, dump_recipe, load_recipe, preview, preview_undo, replay, undo
from core.errors import InputFileError, NotFoundError, SpecError, UserError
from core.records import Step, Task
from core.store.content import content_hash
from core.store.database import forget_engines
from core.store.datasets import get_dataset, get_version, list_versions, read_ledger, read_quarantine, read_rows
from tests.data.make import rows_of, save_rows

texts = st.sampled_from(["", " a", "ａ  b", "张三\n在北京", "张三 在北京", "x" * 30, "x" * 29 + "y"])
answers = st.sampled_from(["", "{}", '{"n":["张三"]}', '{"n":["李四"],"z":"在北京"}', '{"n":"ａ"}', "{broken", '{"odd":[1]}'])
rows = st.lists(
    st.fixed_dictionaries({"input": texts, "output": answers, "split": st.sampled_from(["", "train", "test"])}),
    min_size=1,
    max_size=8,
)
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("strip_markup", {}),
    ("drop_near_duplicates", {}),
    ("drop_issues", {"issues": ["ungrounded_value"]}),
    ("normalise", {}),
    ("replace_text", {"replacements": {"张三": "李四", "n": None}}),
    ("normalise", {"punctuation": True, "join_lines": True}),
    ("drop_empty", {}),
    ("fix_json", {}),
    ("fix_json", {"action": "repair", "otherwise": "drop"}),
    ("unknown_elements", {"elements": ["n"]}),
    ("unknown_elements", {}),
    ("ungrounded_values", {}),
    ("ungrounded_values", {"action": "align"}),
    ("map_elements", {"mapping": {"n": "name", "z": None}}),
    ("lists_of_strings", {}),
    ("drop_exact_duplicates", {}),
    ("resolve_conflicts", {"rule": "merge"}),
    ("resolve_conflicts", {"rule": "majority"}),
    ("resolve_leaks", {"action": "move_to_train"}),
    ("resolve_leaks", {"near": True}),
    ("filter", {"test": "shorter_than", "value": 2}),
    ("sample", {"share": 0.7}),
    ("split", {"dev": 0.2, "test": 0.2}),
    ("hand_edit", {"edits": [{"row_id": "aaaaaa-0000002", "column": "output", "value": '{"n":["x"]}'}]}),
    ("drop_rows", {"row_ids": ["aaaaaa-0000001"]}),
    ("take_in", {"rows": [{"quarantine_id": "aaaaaa-0000002", "input": "b", "output": "{}"}]}),
    ("add_rows", {"rows": [{"row_id": "chat-1", "input": "b", "output": "{}"}]}),
]
recipes = st.lists(st.sampled_from(STEPS), min_size=1, max_size=5).map(
    lambda chosen: [Step(op=op, params=params) for op, params in chosen]
)
several = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def dataset_of(given_rows: list[dict[str, Any]]) -> str:
    name = f"d{uuid4().hex}"
    save_rows(name, rows_of(*given_rows))
    return name


@several
@given(rows, recipes)
def test_a_recipe_applied_and_undone_gives_the_same_content(some: list[dict[str, Any]], steps: list[Step]) -> None:
    name = dataset_of(some)
    before = get_version(name)
    for step in apply(name, steps).recipe[1:]:
        undo(name, step.step_id)
    after = get_version(name)
    assert after.content_hash == before.content_hash
    assert after.recipe == before.recipe
    assert read_rows(name).equals(read_rows(name, 1))
    assert read_quarantine(name).num_rows == 0


@several
@given(rows, recipes, st.randoms(use_true_random=False))
def test_any_order_of_undo_is_as_if_never_applied(some: list[dict[str, Any]], steps: list[Step], chance: random.Random) -> None:
    name = dataset_of(some)
    recipe = list(apply(name, steps).recipe[1:])
    gone = chance.sample(recipe, chance.randint(1, len(recipe)))
    for step in gone:
        undo(name, step.step_id)
    kept = [step for step in recipe if step not in gone]
    fresh = f"f{uuid4().hex}"
    save_rows(fresh, rows_of(*some))
    expected = apply(fresh, kept).content_hash if kept else get_version(fresh).content_hash
    assert get_version(name).content_hash == expected


@several
@given(rows, recipes, st.randoms(use_true_random=False))
def test_the_ledger_alone_rebuilds_each_version(some: list[dict[str, Any]], steps: list[Step], chance: random.Random) -> None:
    name = dataset_of(some)
    cut = chance.randint(0, len(steps) - 1)
    for part in (steps[:cut], steps[cut:]):
        if part:
            apply(name, part)
    undo(name, chance.choice(get_version(name).recipe[1:]).step_id)
    for version in list_versions(name)[1:]:
        made = rebuild(read_rows(name, version.parent), read_ledger(name, version.number))
        assert made.equals(read_rows(name, version.number))
        assert content_hash(made) == version.content_hash


@several
@given(rows, recipes)
def test_no_row_is_lost_without_an_entry(some: list[dict[str, Any]], steps: list[Step]) -> None:
    name = dataset_of(some)
    seen = preview(name, steps)
    version = apply(name, steps)
    ledger = read_ledger(name)
    assert seen.changes.drop_columns(["step_id"]).equals(ledger.drop_columns(["version", "step_id"]))
    assert seen.rows_after == version.rows
    old = {row["row_id"]: row for row in read_rows(name, 1).to_pylist()}
    new = {row["row_id"]: row for row in read_rows(name).to_pylist()}
    touched = set(ledger["row_id"].to_pylist())
    assert {row_id for row_id in old.keys() | new.keys() if old.get(row_id) != new.get(row_id)} <= touched
    assert sum(step.affected for step in seen.steps) == ledger.num_rows


@several
@given(rows, recipes)
def test_replay_from_the_import_gives_the_same(some: list[dict[str, Any]], steps: list[Step]) -> None:
    name = dataset_of(some)
    for step in steps:
        apply(name, [step])
    version = get_version(name)
    other = f"f{uuid4().hex}"
    save_rows(other, rows_of(*some))
    assert apply(other, steps).content_hash == version.content_hash
    assert content_hash(replay(name, version.recipe).rows) == version.content_hash


def test_preview_writes_nothing() -> None:
    name = dataset_of([{"input": " a"}, {"input": " a"}])
    seen = preview(name, [Step(op="normalise"), Step(op="drop_exact_duplicates")])
    assert [(step.changed, step.dropped) for step in seen.steps] == [(2, 0), (0, 1)]
    assert (seen.rows_before, seen.rows_after, seen.affected) == (2, 1, 2)
    assert len(list_versions(name)) == 1


def test_undo_out_of_order_shows_what_changes() -> None:
    name = dataset_of([{"input": "a "}, {"input": "a"}, {"input": "b"}])
    first, *_ = apply(name, [Step(op="normalise"), Step(op="drop_exact_duplicates")]).recipe[1:]
    seen = preview_undo(name, first.step_id)
    assert seen.changes["row_id"].to_pylist() == ["aaaaaa-0000001", "aaaaaa-0000002"]
    version = undo(name, first.step_id)
    assert (version.number, version.parent, version.rows) == (3, 2, 3)
    assert read_rows(name)["input"].to_pylist() == ["a ", "a", "b"]
    assert [step.op for step in version.recipe] == ["import", "drop_exact_duplicates"]


def test_a_version_is_described_by_the_titles_of_the_steps_that_touched_rows() -> None:
    name = dataset_of([{"input": "<b>a</b> "}])
    apply(name, [Step(op="strip_markup"), Step(op="drop_empty"), Step(op="normalise")])
    undone = undo(name)
    assert [version.note for version in list_versions(name)][1:] == [
        "Strip HTML; Normalise white space and width", "undo: Normalise white space and width",
    ]  # fmt: skip
    assert [entry["reason"] for entry in read_ledger(name, undone.number).to_pylist()] == [
        "undone: Normalise white space and width"
    ]
    apply(name, [Step(op="drop_empty")])
    assert list_versions(name)[-1].note == "Drop empty rows"


def test_undo_last_and_its_faults() -> None:
    name = dataset_of([{"input": "a "}])
    apply(name, [Step(op="normalise"), Step(op="drop_empty")])
    assert [step.op for step in undo(name).recipe] == ["import", "normalise"]
    with pytest.raises(NotFoundError, match="no step 'nope'"):
        undo(name, "nope")
    undo(name)
    with pytest.raises(UserError, match="only import"):
        undo(name)


def test_renamed_elements_come_back_when_undone() -> None:
    save_rows("d", rows_of({"output": '{"a":["x"]}', "input": "x"}), elements=("a", "b"))
    apply("d", [Step(op="map_elements", params={"mapping": {"a": "c", "b": None}})])
    assert get_dataset("d").elements == ("c",)
    undo("d")
    assert get_dataset("d").elements == ("a", "b")


def test_a_step_applied_twice_gets_its_own_identifier() -> None:
    name = dataset_of([{"input": "a "}])
    step = Step(op="normalise")
    apply(name, [step])
    recipe = apply(name, [step, step]).recipe
    assert len({each.step_id for each in recipe}) == 4


def test_an_import_is_no_cleaning_step() -> None:
    with pytest.raises(SpecError, match="import"):
        apply(dataset_of([{}]), [Step(op="import")])


def test_an_import_in_between_is_a_step_like_others(tmp_path: Path) -> None:
    for name, texts in (("one", ("a ", "b")), ("two", ("c ", "b"))):
        lines = (json.dumps({"instruction": "i", "input": text, "output": "{}"}) for text in texts)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    import_file(tmp_path / "one.jsonl", "d")
    first = apply("d", [Step(op="normalise")]).recipe[1]
    import_file(tmp_path / "two.jsonl", "d")
    apply("d", [Step(op="drop_exact_duplicates")])
    assert read_rows("d")["input"].to_pylist() == ["a", "b", "c "]
    second = get_version("d").recipe[2]
    undo("d", first.step_id)
    assert read_rows("d")["input"].to_pylist() == ["a ", "b", "c "]
    undo("d", second.step_id)
    assert read_rows("d")["input"].to_pylist() == ["a ", "b"]
    assert content_hash(rebuild(read_rows("d", 5), read_ledger("d", 6))) == get_version("d", 6).content_hash


@pytest.mark.parametrize("task", ["extraction", "classification", "generation", "chat", "code"])
def test_default_recipes_fit_their_task(task: Task) -> None:
    code = "def f():\n    return  1"
    save_rows("d", rows_of({"instruction": code, "output": code}, {"instruction": code, "output": code + " "}), task=task)
    ops = {step.op for step in default_recipe("d")}
    assert ("normalise" in ops) == ("resolve_conflicts" in ops) == (task in ("extraction", "classification"))
    apply("d", default_recipe("d"))
    if task in ("generation", "chat", "code"):
        assert read_rows("d")["output"].to_pylist() == [code, code + " "]


def test_default_recipe_cleans_and_settles() -> None:
    name = dataset_of([{"input": " 张三", "output": '{"n":["张三","李四"]}'}] * 2 + [{"input": "b", "output": "{"}])
    apply(name, default_recipe(name))
    assert read_rows(name).select(["input", "output"]).to_pylist() == [{"input": "张三", "output": '{"n":["张三"]}'}]
    assert read_quarantine(name)["line"].to_pylist() == [3]
    assert preview(name, default_recipe(name)).affected == 0


def test_default_recipe_keeps_a_right_answer_beside_one_that_it_emptied() -> None:
    right = {"input": "张三", "output": '{"n":["张三"]}'}
    odd = {"input": "丙丁", "output": '{"odd":["丙丁"]}'}
    others = [{"input": f"王五{n}", "output": '{"n":["王五"]}'} for n in range(120)]
    conflict = [{"input": "甲乙", "output": "{}"}, {"input": "甲乙", "output": '{"n":["甲乙"]}'}]
    name = dataset_of(
        [right, {**right, "output": '{"n":["李四"]}'}, odd, {**odd, "output": '{"n":["丙丁"]}'}, *conflict, *others]
    )
    apply(name, default_recipe(name))
    assert read_rows(name)["line"].to_pylist() == [1, 4, *range(7, 127)]  # an answer of {} as it came is an answer
    aside = read_quarantine(name)
    assert aside["line"].to_pylist() == [3, 2]
    assert aside["reason"].to_pylist()[1] == "not in the text: n = 李四; nothing is left of the answer"
    assert content_hash(rebuild(read_rows(name, 1), read_ledger(name, 2))) == get_version(name, 2).content_hash


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_recipes_are_saved_and_read(tmp_path: Path, form: str) -> None:
    name = dataset_of([{"input": "张三", "output": '{"n":["张三"]}'}])
    steps = [Step(op=op, params=params) for op, params in STEPS]
    recipe = apply(name, steps).recipe
    path = tmp_path / "recipe"
    path.write_text(dump_recipe(recipe, form), "utf-8")
    loaded = load_recipe(path)
    bound = {"import", "hand_edit", "drop_rows", "take_in", "add_rows"}
    assert [(s.op, s.params) for s in loaded] == [(s.op, s.params) for s in recipe if s.op not in bound]


def test_short_recipes_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("- normalise\n- op: split\n  dev: 0.2\n")
    assert [(s.op, s.params) for s in load_recipe(path)] == [("normalise", {}), ("split", {"dev": 0.2})]
    path.write_text("- op: nope\n- {}\n- op: sample\n  params: {rows: 0, x: 1}\n")
    with pytest.raises(SpecError) as caught:
        load_recipe(path)
    assert len(caught.value.faults) == 4
    for text in ("", "a: [", "steps: {}"):
        path.write_text(text)
        with pytest.raises(SpecError):
            load_recipe(path)
    path.write_bytes("- normalise  # 归一".encode("gbk"))
    with pytest.raises(InputFileError, match="not UTF-8"):
        load_recipe(path)
    path.write_bytes("\ufeff- normalise\n".encode())
    assert [step.op for step in load_recipe(path)] == ["normalise"]
    with pytest.raises(InputFileError):
        load_recipe(tmp_path / "absent.yaml")


def _clean_for_ever(name: str) -> None:
    while True:
        apply(name, [Step(op="normalise"), Step(op="sample", params={"share": 0.999})])


def test_kill_at_any_moment_leaves_whole_versions() -> None:
    name = dataset_of([{"input": f" {n}  x" * 20} for n in range(300)])
    spawn = multiprocessing.get_context("fork")
    for round_number in range(6):
        forget_engines()  # a connection must not be used on both sides of a fork
        worker = spawn.Process(target=_clean_for_ever, args=(name,))
        worker.start()
        time.sleep(0.05 + 0.07 * round_number)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        for version in list_versions(name):
            table = read_rows(name, version.number)
            assert content_hash(table) == version.content_hash
            assert isinstance(read_ledger(name, version.number), pa.Table)
    assert apply(name, [Step(op="drop_empty")]).number == len(list_versions(name))
    assert json.loads(get_version(name).model_dump_json())["parent"] == len(list_versions(name)) - 1
