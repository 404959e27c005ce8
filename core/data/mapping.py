"""Which column of a file is which field of a row: guessed by the many names that people use, or given.

Knows only names; what the columns hold is judged by ``core.data.readers.detect``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.errors import InputFileError
from core.records import SPLITS

FIELDS = ("instruction", "input", "output", "system", "history", "messages", "spans", "tokens", "tags", "split", "extra")
"""What a column can be mapped to; ``extra`` keeps it beside the row, unused."""

NAMES: dict[str, tuple[str, ...]] = {
    "output": (
        "output", "outputs", "response", "responses", "completion", "completions", "answer", "answers", "target",
        "label", "labels", "category", "class", "intent", "reply", "assistant", "bot", "gpt", "model_output", "result",
        "summary", "translation", "solution", "canonical_solution", "gold", "a", "tgt", "chosen",
        "输出", "答案", "回答", "回复", "标签", "类别", "分类", "结果", "答",
    ),
    "input": (
        "input", "inputs", "text", "context", "passage", "document", "content", "sentence", "utterance", "article",
        "question", "query", "prompt", "problem", "user", "human", "ask", "source", "src", "message", "title", "q",
        "输入", "文本", "原文", "内容", "句子", "问题", "提问", "问",
    ),
    "instruction": (
        "instruction", "instructions", "instruct", "task", "prompt", "question", "query", "指令", "任务", "提示", "问题",
    ),
    "system": ("system", "system_prompt", "系统"),
    "history": ("history", "历史"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "对话"),
    "tokens": ("tokens", "words"),
    "tags": ("ner_tags", "tags", "labels", "bio_tags"),
    "split": ("split", "数据集划分"),
}  # fmt: skip
"""Known names of each field, the likeliest first; compared without case and surrounding blanks."""

BESIDE = "tunewise_extra_"
"""Begins the name of an exported column that would be read as a field of the row otherwise, which it isn't."""

_SPLIT_NAMES = {
    "train": "train", "training": "train", "dev": "dev", "valid": "dev", "validation": "dev", "val": "dev", "eval": "dev",
    "test": "test", "testing": "test", "训练": "train", "验证": "dev", "测试": "test", "": "",
}  # fmt: skip


def split_named(value: str) -> str | None:
    """The split that a name means (``validation`` is ``dev``), or None for a name that means none."""
    return _SPLIT_NAMES.get(value.strip().lower())


def names_a_field(column: str, *, talk: bool) -> bool:
    """Whether a column of this name beside ``talk`` (messages) or a single turn would be read as one of the row's fields."""
    names = {"instruction", "input", "output", *NAMES["split"], *NAMES["history"]}
    if talk:
        names |= {"messages", *NAMES["system"]}
    return column.startswith(BESIDE) or column.strip().lower() in names


def plain_names(columns: Sequence[str]) -> dict[str, str]:
    """Columns beside a row → their names before an export put ``BESIDE`` before some; unchanged where two would be one."""
    names = {name: name.removeprefix(BESIDE) for name in columns}
    return names if len(set(names.values())) == len(names) else {name: name for name in columns}


def guess_flat(columns: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Column → field for a table of texts; what is ``given`` stands, the other fields are guessed by name.

    The answer is looked for first, then the text it is about, then an instruction beside it.
    """
    mapping = dict(given or {})
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(column.strip().lower(), column)
    for field in ("output", "input", "instruction", "system", "history", "split"):
        if field in mapping.values():
            continue
        for name in NAMES[field]:
            column = by_name.get(name, "")
            if column in columns and column not in mapping:
                mapping[column] = field
                break
    return mapping


def column_for(field: str, columns: Sequence[str]) -> str | None:
    """The first column that goes by one of the field's known names."""
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in NAMES[field] if name in by_name), None)


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """``column=field`` texts of the command line as a mapping."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        column, separator, field = pair.rpartition("=")
        if not separator or not column or not field:
            raise InputFileError(f"{pair!r} is not column=field", "For example: --map text=input --map label=output")
        mapping[column] = field
    check_fields(mapping)
    return mapping


def check_fields(mapping: Mapping[str, str]) -> None:
    """InputFileError if a column is mapped to something that isn't a field, or two columns to the same one."""
    used: dict[str, str] = {}
    for column, field in mapping.items():
        if field not in FIELDS:
            raise InputFileError(f"There is no field {field!r} to map {column!r} to", f"Fields: {', '.join(FIELDS)}.")
        if field != "extra" and field in used:
            raise InputFileError(
                f"Columns {used[field]!r} and {column!r} are both mapped to {field!r}", "Map one of them to extra."
            )
        used[field] = column


def check_mapping(mapping: Mapping[str, str], columns: Sequence[str], source: str) -> None:
    """InputFileError if a mapped column isn't in the file."""
    check_fields(mapping)
    for column in mapping:
        if column not in columns:
            raise InputFileError(f"{source} has no column {column!r}", f"Its columns: {', '.join(columns) or 'none'}.")


def check_split(split: str) -> str:
    """``split`` if it is one; InputFileError otherwise."""
    if split and split not in SPLITS:
        raise InputFileError(f"There is no split {split!r}", f"Splits: {', '.join(SPLITS)}.")
    return split
