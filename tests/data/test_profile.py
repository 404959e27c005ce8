"""The profile's counting rules on small tables, its cache, and on real data the counts that were measured by others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data.importing import import_file
from core.data.operations.registry import OPERATIONS
from core.data.profile import FORMAT, ISSUES, Profile, is_kept, profile
from core.data.recipes import apply
from core.errors import UserError
from core.jobs.handlers import handler_of
from core.records import Job, SilentReporter, Step
from core.store.datasets import read_rows, version_folder
from tests.data.make import rows_of, save_rows

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "datasets"
SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def profile_of(*rows: dict[str, Any], **kwargs: Any) -> Profile:
    save_rows("d", rows_of(*rows), **kwargs)
    return profile("d")


def places(made: Profile) -> dict[str, list[int]]:
    return {name: made.positions(name).tolist() for name in ISSUES if len(made.positions(name))}


def test_each_issue_has_its_rows_and_no_other() -> None:
    made = profile_of(
        {"input": "张三在北京工作", "output": '{"人":["张三"]}', "split": "train"},
        {"input": "张三在北京工作", "output": '{"人":["张三"]}', "split": "test"},
        {"input": "张三在北京工作", "output": '{"人":["张三"],"地":["北京"]}', "split": "train"},
        {"input": "李四在上海", "output": '{"人":["王五"]}'},
        {"input": "赵六住ＡＢ座", "output": '{"人":["赵六"],"座":["AB"]}'},
        {"input": "孙七", "output": '{"人":"孙七"'},
        {"input": "周八", "output": " "},
        {"input": "钱九", "output": "{}"},
        {"input": "<b>吴十</b>\u200b{{name}}13812345678 锟斤拷", "output": '{"人":["吴十"]}'},
        {"input": "郑一", "output": '{"人":["郑一"],"人":["郑一"],"地":[5]}'},
        elements=("人", "地"),
    )
    assert places(made) == {
        "exact_duplicate": [1],
        "conflicting_output": [0, 1, 2],
        "leak_exact": [1],
        "ungrounded_value": [3, 9],
        "normalised_value": [4],
        "unknown_element": [4],
        "width": [4],
        "invalid_json": [5],
        "repairable_json": [5],
        "empty": [6],
        "empty_answer": [7],
        "markup": [8],
        "control_character": [8],
        "placeholder": [8],
        "personal_data": [8],
        "mojibake": [8],
        "repeated_key": [9],
    }
    assert made.issues["conflicting_output"] == 1
    assert {name: made.issues[name] for name in ("exact_duplicate", "leak_exact", "empty")} == {
        "exact_duplicate": 1,
        "leak_exact": 1,
        "empty": 1,
    }
    assert made.positions("invalid_json").tolist() == [5]
    assert made.details("personal_data") == ["input: mobile"]
    assert made.details("normalised_value") == ["座: AB → ＡＢ"]
    assert {name for name in ISSUES if 4 in made.positions(name)} == {"normalised_value", "unknown_element", "width"}
    assert made.facts["values"] == {"exact": 8, "normalised": 1, "fuzzy": 0, "absent": 2}
    assert made.facts["element_counts"]["人"] == {"rows": 7, "values": 8, "distinct": 5}
    assert made.faulty == 9


def test_json_keys_are_fixed() -> None:
    told = profile_of({"input": "a", "output": '{"n":["a"]}'}).as_dict()
    assert told["rows"] == 1
    assert {
        "empty", "exact_duplicate", "near_duplicate", "conflicting_output", "invalid_json", "unknown_element", "ungrounded_value",
        "leak_exact", "leak_near", "mojibake", "markup", "control_character", "placeholder", "personal_data",
    } <= told["issues"].keys()  # fmt: skip
    assert set(told["issues"]) == set(ISSUES)
    assert json.loads(json.dumps(told)) == told


def test_leaks_are_of_test_and_dev_only() -> None:
    long = "一段足够长的文本用来说明近似重复是怎样在训练集和测试集之间出现的，请仔细核对"
    made = profile_of(
        {"input": "a", "split": "test"},
        {"input": "a", "split": "dev"},
        {"input": long, "split": "train"},
        {"input": long + "。", "split": "test"},
        {"input": long + "！", "split": ""},
        {"input": "b", "split": "train"},
        {"input": "b", "split": "dev", "output": '{"x":["b"]}'},
    )
    assert places(made)["leak_exact"] == [6]
    assert places(made)["leak_near"] == [3]


def test_elements_are_inferred_from_one_row_in_a_hundred() -> None:
    rows = [{"input": f"值{n}", "output": json.dumps({"a": [f"值{n}"]}, ensure_ascii=False)} for n in range(198)]
    made = profile_of(*rows, {"input": "x", "output": '{"rare":["x"]}'}, {"input": "y", "output": '{"rare":["y"],"odd":["y"]}'})
    assert (made.elements, made.elements_inferred) == (("a", "rare"), True)
    assert made.positions("unknown_element").tolist() == [199]


def test_value_types() -> None:
    rows = [{"input": f"值{n}", "output": f'{{"a":["值{n}"],"n":{n}}}'} for n in range(20)]
    made = profile_of(*rows, {"input": "x 1", "output": '{"a":"x","n":"1"}'}, {"input": "x 1 2", "output": '{"a":["x",2]}'})
    assert dict(zip(made.positions("value_type").tolist(), made.details("value_type"), strict=True)) == {
        20: "a: no list where others are lists; n: string where others are number",
        21: "a: number where others are string",
    }


def test_lengths_and_languages() -> None:
    rows = [{"input": f"第{n}条：乙方应当按照约定支付款项" + "并承担责任" * (n % 4)} for n in range(300)]
    made = profile_of(
        *rows,
        {"input": "长文本条款" * 400},
        {"input": "短"},
        {"input": "これは日本語のテキストです"},
        {"input": "國際貿易发展与规划"},
    )
    assert places(made)["over_long"] == [300]
    assert places(made)["over_short"] == [301]
    assert places(made)["language_mix"] == [302, 303]
    assert made.facts["languages"]["Hans"] == 300 + 1


def test_other_tasks_have_no_answer_issues() -> None:
    made = profile_of(
        {"instruction": "Who?", "output": "I am {{name}}"}, {"instruction": "Who?", "output": "x"}, task="generation"
    )
    assert places(made) == {"conflicting_output": [0, 1], "placeholder": [0]}


def test_conversations() -> None:
    def talk(*turns: tuple[str, str]) -> dict[str, Any]:
        listed = [{"role": role, "content": text} for role, text in turns]
        return {"instruction": "", "input": "q", "output": "a", "messages": json.dumps(listed)}

    good = talk(("user", "p"), ("assistant", "b"), ("user", "q"), ("assistant", "a"))
    made = profile_of(
        good, good, talk(("user", "q"), ("user", "q"), ("assistant", "a")), talk(("user", "q"), ("assistant", "")), task="chat"
    )
    assert places(made) == {"exact_duplicate": [1], "turn_fault": [2, 3]}


def test_a_profile_is_kept_and_made_anew_for_another_version() -> None:
    first = profile_of({"input": "a"}, {"input": "a"})
    assert (version_folder("d", 1) / f"profile-{FORMAT}" / "found.parquet").is_file()
    again = profile("d")
    assert again.as_dict() == first.as_dict()
    assert [p.positions("exact_duplicate").tolist() for p in (again, first)] == [[1], [1]]
    apply("d", [Step(op="drop_exact_duplicates")])
    assert profile("d").issues["exact_duplicate"] == 0
    assert profile("d", 1).issues["exact_duplicate"] == 1


def test_an_empty_version() -> None:
    made = profile_of()
    assert made.rows == sum(made.issues.values()) == 0
    assert made.sentence == "There are no rows."


def test_every_issue_names_an_operation_that_there_is() -> None:
    assert {issue.operation for issue in ISSUES.values()} - {""} <= OPERATIONS.keys()


def test_drop_issues_agrees_with_the_profile() -> None:
    made = profile_of({"input": "a {{x}}"}, {"input": "b"}, {"input": "c", "output": '{"n":["z"]}'})
    version = apply("d", [Step(op="drop_issues", params={"issues": ["placeholder", "ungrounded_value"]})])
    assert (version.rows, version.quarantined) == (1, 2)
    assert [made.positions(name).tolist() for name in ("placeholder", "ungrounded_value")] == [[0], [2]]


# ---------------------------------------------------------------- measured data

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared datasets aren't here")
DIRT: dict[str, Any] = json.loads((SHARED / "dirt.json").read_text("utf-8")) if SHARED.is_dir() else {}


@needs_shared
@pytest.mark.parametrize("key", DIRT)
def test_duplicates_and_conflicts_of_real_files(key: str) -> None:
    import_file(SHARED / f"{key}.jsonl", "d")
    made = profile("d")
    measured = DIRT[key]
    assert made.rows == measured["rows"]
    assert made.positions("exact_duplicate").tolist() == measured["exact_dup_idx"]
    assert made.positions("conflicting_output").tolist() == measured["conflict_idx"]
    assert made.issues["conflicting_output"] == measured["conflicting_inputs"]
    assert made.facts["values"]["exact"] == measured["values"] - measured["values_not_verbatim"]


@needs_shared
@pytest.mark.parametrize("name", sorted({key.partition(".")[0] for key in DIRT}))
def test_leaks_of_real_sets(name: str) -> None:
    for split in ("train", "dev", "test"):
        if f"{name}.{split}" in DIRT:
            import_file(SHARED / f"{name}.{split}.jsonl", "d", split=split)
    named = read_rows("d")["split"].to_pylist()
    leaked = profile("d").positions("leak_exact").tolist()
    for split in ("dev", "test"):
        if f"{name}.{split}" in DIRT:
            begin = named.index(split)
            assert [place - begin for place in leaked if named[place] == split] == DIRT[f"{name}.{split}"]["leak_idx"]


@pytest.mark.skipif(not (SAMPLES / "dirt.json").is_file(), reason="the samples aren't made yet")
def test_seeded_dirt_is_found() -> None:
    dirt = json.loads((SAMPLES / "dirt.json").read_text("utf-8"))
    import_file(SAMPLES / dirt["file"], "d", task="extraction")
    made = profile("d")
    for kind in {entry["kind"] for entry in dirt["dirt"]}:
        found = set(made.positions(kind).tolist())
        ends = [{e["line"]} | ({e["of"]} if "duplicate" in kind else set()) for e in dirt["dirt"] if e["kind"] == kind]
        assert sum(bool(lines & found) for lines in ends) >= 0.95 * len(ends), kind
        assert len(found & set().union(*ends)) >= 0.90 * len(found), kind


@pytest.mark.parametrize("calls", [1, 5, 7])
def test_a_profile_can_be_stopped_also_inside_a_check(calls: int) -> None:
    class Stopping(SilentReporter):
        asked = 0

        def should_stop(self) -> bool:
            self.asked += 1
            return self.asked >= calls

    version = save_rows("d", rows_of(*({"input": f"some text number {n}", "output": '{"n": ["text"]}'} for n in range(30))))
    stopping = Stopping()
    with pytest.raises(UserError, match="stopped"):
        profile("d", reporter=stopping)
    assert stopping.asked == calls
    assert handler_of("profile")(Job(job_id="j", kind="profile", payload={"name": "d", "version": 1}), stopping) is False
    assert not is_kept("d", version.number)
