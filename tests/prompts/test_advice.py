"""Which template to begin with: the usual one where rows say what to extract, else one that does, in their language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data.importing import import_file
from core.prompts.advice import advised_template
from core.store.datasets import get_dataset

ZH = {"input": "张三于2024年加入上海某公司，任法务总监。", "output": '{"人": ["张三"]}'}
EN = {"input": "Alice joined Acme in 2024 as head of legal.", "output": '{"person": ["Alice"]}'}


def named(tmp_path: Path, rows: list[dict[str, Any]], task: str = "extraction") -> str:
    """The template advised for rows that are imported as a new dataset."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    import_file(path, "rows", task=task)  # type: ignore[arg-type]
    return advised_template(get_dataset("rows"))


@pytest.mark.parametrize(
    ("rows", "template"),
    [
        ([ZH, ZH | {"input": "李四在北京工作。"}, EN], "json-zh"),
        ([EN, EN | {"input": "Bob left in May."}, ZH], "json-en"),
        ([ZH | {"instruction": "抽取要素"}, ZH | {"input": "李四在北京工作。"}], "chat"),
        ([EN | {"input": "2024-05-01 12.50"}], "json-en"),
    ],
)
def test_rows_without_a_task_get_a_template_that_names_it(
    workspace: Path, tmp_path: Path, rows: list[dict[str, Any]], template: str
) -> None:
    assert named(tmp_path, rows) == template


def test_other_tasks_begin_as_usual(workspace: Path, tmp_path: Path) -> None:
    assert named(tmp_path, [{"input": "你好", "output": "问候"}], "classification") == "chat"
