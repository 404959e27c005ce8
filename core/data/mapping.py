"""Which column of a file is which field of a row: guessed by the many names that people use, or given.

Knows only names; what the columns hold is judged by ``core.data.readers.detect``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.errors import InputFileError
from core.records import SPLITS

FIELDS = (
    "instruction", "input", "output", "system", "history", "messages", "spans", "tokens", "tags", "split", "element", "extra",
)  # fmt: skip
"""What a column can be mapped to; ``element`` holds one element's values, ``extra`` is kept beside the row, unused."""

SEVERAL = frozenset({"element", "extra"})
"""Fields that more than one column can be."""

BESIDE_ELEMENTS = ("instruction", "input", "split", "extra")
"""Fields that a file whose answer is in one column for each element can have beside them."""

EVERY_OTHER = "*"
"""Stands for all columns that are nothing else; only ever elements. A column of that very name is meant before them."""

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

_SURELY_INSTRUCTION = ("instruction", "instructions", "instruct", "指令")

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


def guess_beside_elements(columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Column → field, in the columns' order, for a file with a column for each element; text and split are guessed by name.

    So is an instruction, but only by a name that means nothing else: ``任务`` may be an element, and would tell the answer.
    """
    mapping = dict(given)
    for column, field in guess_flat(columns, given).items():
        if field in ("input", "split") or (field == "instruction" and column.strip().lower() in _SURELY_INSTRUCTION):
            mapping.setdefault(column, field)
    return {column: mapping[column] for column in columns if column in mapping}


def with_every_other(given: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """``given`` with ``*`` replaced by the columns that are nothing else and have a heading. InputFileError if there is none."""
    if given.get(EVERY_OTHER) != "element" or EVERY_OTHER in columns:
        return dict(given)
    mapping = guess_beside_elements(columns, {column: field for column, field in given.items() if column != EVERY_OTHER})
    rest = [
        column
        for place, column in enumerate(columns, 1)
        if column not in mapping and column != f"column_{place}" and not column.startswith(BESIDE)
    ]
    if not rest and "element" not in mapping.values():
        raise InputFileError("No column is left to be an element", f"Columns: {', '.join(columns) or 'none'}.")
    return mapping | dict.fromkeys(rest, "element")  # put in order by the shape


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
        if field not in SEVERAL and field in used:
            raise InputFileError(
                f"Columns {used[field]!r} and {column!r} are both mapped to {field!r}", "Map one of them to extra."
            )
        used[field] = column
    other = next((field for field in used if field not in (*BESIDE_ELEMENTS, "element")), None)
    if "element" in used and other is not None:
        raise InputFileError(
            f"Column {used['element']!r} is mapped to element, and {used[other]!r} to {other}",
            f"Beside a column for each element there can be: {', '.join(BESIDE_ELEMENTS)}.",
        )


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
