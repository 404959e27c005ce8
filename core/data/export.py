"""Writing a version's rows, ledger or quarantine to a file that other tools read.

``jsonl``, ``json``, ``csv`` and ``parquet`` hold what an import reads back as the same rows; ``alpaca``,
``sharegpt`` and ``openai`` are the shapes of those names (``core.data.export_shapes``), ``datasets`` a folder for
``load_from_disk``. Knows nothing of pages.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from core.data.export_columns import beside_names, save_folder, with_extras
from core.data.export_shapes import SHAPES, check_held, extra_of, left_out, left_out_words, messages_of, shape_of, tool_words
from core.data.spreadsheet import MARK, harmless, harmless_name, quoted_columns
from core.errors import SpecError, UserError
from core.store.datasets import get_version, read_ledger, read_quarantine, read_rows
from core.store.files import atomic_file, write_parquet

FORMATS: dict[str, str] = {
    "jsonl": ".jsonl",
    "json": ".json",
    "csv": ".csv",
    "parquet": ".parquet",
    "alpaca": ".json",
    "sharegpt": ".json",
    "openai": ".jsonl",
    "datasets": "",
}
"""Formats and the ending of their files."""
What = Literal["rows", "ledger", "quarantine"]
Record = dict[str, Any]
_BATCH = 10_000


def _own(row: Record, talk: bool, names: Mapping[str, str]) -> Record:
    """A row as an import reads it back; in a dataset with conversations each row is one. ``names``: see ``beside_names``."""
    if talk:
        body: Record = {"messages": messages_of(row)}
    else:
        body = {"instruction": row["instruction"], "input": row["input"], "output": row["output"]}
    split = {"split": row["split"]} if row["split"] else {}
    return body | split | {names[key]: value for key, value in extra_of(row).items()}


def _batches(table: pa.Table) -> Iterator[Record]:
    for batch in table.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()


def _json_lines(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _json_array(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("[")
        for number, record in enumerate(records):
            file.write((",\n" if number else "\n") + json.dumps(record, ensure_ascii=False))
        file.write("\n]\n")


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv(path: Path, records: Callable[[], Iterable[Record]]) -> None:
    """Rows as cells, none of which a spreadsheet runs; with the column ``MARK`` if any had to be quoted for that."""
    columns: dict[str, None] = {}
    marked = False
    for record in records():
        columns.update(dict.fromkeys(record))
        marked = marked or bool(quoted_columns({key: _text(value) for key, value in record.items()}))
    names = [harmless_name(column) for column in columns]
    marked = marked or names != list(columns)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, MARK] if marked else names)
        for record in records():
            cells = {column: _text(record.get(column)) for column in columns}
            quoted = quoted_columns(cells) if marked else []
            told = [json.dumps(quoted, ensure_ascii=False) if quoted else ""] if marked else []
            writer.writerow([*map(harmless, cells.values()), *told])


def _columns(rows: pa.Table, *, talk: bool, nested: bool) -> pa.Table:
    """Rows as columns with what stands beside them; the turns of a conversation ``nested`` or as JSON text."""
    if talk:
        turns = [messages_of(row) for row in _batches(rows)]
        body: dict[str, Any] = {"messages": turns if nested else [_text(said) for said in turns]}
    else:
        body = {name: rows[name] for name in ("instruction", "input", "output")}
    if not nested and pc.any(pc.not_equal(rows["split"], "")).as_py():
        body["split"] = rows["split"]
    extras = rows["extra"].to_pylist() if rows["extra"].null_count < rows.num_rows else []
    return with_extras(body, extras, beside_names(rows, talk=talk))


def _table_of(name: str, version: int, what: What, split: str | None) -> pa.Table:
    if what == "rows":
        return read_rows(name, version, split=split)
    return read_ledger(name, version) if what == "ledger" else read_quarantine(name, version)


def check_form(form: str, what: What) -> None:
    """SpecError if rows, ledger or quarantine can't be exported as ``form``."""
    if form not in FORMATS or (what != "rows" and form in (*SHAPES, "datasets")):
        usable = FORMATS if what == "rows" else ("jsonl", "json", "csv", "parquet")
        raise SpecError(f"The {what} can't be exported as {form!r}", f"Formats: {', '.join(usable)}.")


def check_part(name: str, number: int, split: str | None) -> None:
    """UserError if a version has no row in a split that is asked for."""
    sizes = get_version(name, number).split_sizes
    if split is not None and not sizes.get(split):
        there = ", ".join(part or "(none)" for part, size in sizes.items() if size)
        raise UserError(f"No row of version {number} of {name} is in split {split!r}", f"Splits with rows: {there or 'none'}.")


def export(
    name: str,
    form: str,
    path: Path,
    *,
    version: int | None = None,
    split: str | None = None,
    what: What = "rows",
    overwrite: bool = False,
) -> int:
    """Write rows (of one split), ledger or quarantine of a version to ``path``; returns how many.

    Ledger and quarantine: as jsonl, json, csv or parquet. What a format has no place for, ``left_out_of`` says.
    UserError if the path exists and may not be overwritten.
    """
    check_form(form, what)
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already", "Choose another path, or allow overwriting it.")
    number = get_version(name, version).number
    if what == "rows":
        check_part(name, number, split)
    table = _table_of(name, number, what, split)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(table, form, path, what)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}", "Choose a folder that can be written.") from None
    return int(table.num_rows)


def left_out_of(name: str, form: str, *, version: int | None = None, split: str | None = None) -> dict[str, int]:
    """Columns beside the rows that an export in ``form`` leaves out → how many rows have something there; mostly none.

    ``split`` is one of them unless rows of one split alone are asked for.
    """
    if form not in SHAPES:
        return {}
    rows = read_rows(name, get_version(name, version).number, split=split, columns=["split", "extra"])
    return {column: count for column, count in left_out(form, rows).items() if split is None or column != "split"}


def remarks(name: str, form: str, left: Mapping[str, int], *, version: int | None = None, split: str | None = None) -> list[str]:
    """What somebody should know of an export's file, in sentences. ``left``: what it leaves out (see ``left_out_of``).

    UserError if ``form`` can't hold all rows.
    """
    if form not in SHAPES:
        return []
    number = get_version(name, version).number
    sizes = get_version(name, number).split_sizes if split is None else {}
    rows = read_rows(name, number, split=split, columns=["row_id", "messages"])
    check_held(form, rows)
    return left_out_words(form, left, sizes) + tool_words(form, rows)


def _write(table: pa.Table, form: str, path: Path, what: What) -> None:
    talk = what == "rows" and table["messages"].null_count < table.num_rows
    if form == "datasets":
        save_folder(path, _columns(table, talk=talk, nested=True), table["split"])
        return
    if form == "parquet":
        write_parquet(path, _columns(table, talk=talk, nested=False) if what == "rows" else table)
        return
    if what != "rows":
        shape: Callable[[Record], Record] = dict
    elif form in SHAPES:
        shape = shape_of(form, table)
    else:
        shape = partial(_own, talk=talk, names=beside_names(table, talk=talk))

    def records() -> Iterator[Record]:
        return (shape(row) for row in _batches(table))

    with atomic_file(path) as temporary:
        if form == "csv":
            _csv(temporary, records)
        elif form in ("jsonl", "openai"):
            _json_lines(temporary, records())
        else:
            _json_array(temporary, records())
