"""Rows that were kept aside, mended and taken in as a step that can be undone.

A mended text is read exactly as its file was: container, columns, shape and mapping are in the import's step.
A proposal is only ever shown, with every change in it; nothing is mended unseen. Knows nothing of pages.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

import pyarrow.compute as pc

from core.data.readers import conll, delimited, json_lines
from core.data.readers.base import Chunk, Document, Limits
from core.data.readers.rows import convert
from core.data.readers.shapes.registry import find_shape
from core.data.recipes import apply
from core.data.repair import guessed_json
from core.data.spreadsheet import MARK
from core.errors import InputFileError, NotFoundError
from core.records import Step, Version
from core.store import datasets as store

_BYTE = re.compile(r"(?:\\x[0-9a-f]{2})+")
_ROW_FIELDS = ("instruction", "input", "output", "messages", "split")


@dataclass(frozen=True, slots=True)
class Change:
    """A stretch of the raw text and what it became: ``kept`` (both the same), ``removed``, ``added`` or ``replaced``."""

    kind: Literal["kept", "removed", "added", "replaced"]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a quarantined text may have been meant as. ``text`` None: no proposal, mend it by hand.

    ``problem`` says why the row that ``text`` makes still couldn't be used, or is empty.
    """

    quarantine_id: str
    raw: str
    text: str | None
    how: str
    changes: tuple[Change, ...]
    problem: str


def find(name: str, quarantine_id: str) -> dict[str, Any]:
    """A quarantined row of the latest version (columns of ``schema.QUARANTINE``). NotFoundError if it isn't there."""
    aside = store.read_quarantine(name)
    found = aside.filter(pc.equal(aside["quarantine_id"], quarantine_id)).to_pylist()
    if not found:
        raise NotFoundError(
            f"Nothing with the identifier {quarantine_id!r} is kept aside in {name!r}", f"`python -m core quarantine {name}`."
        )
    row: dict[str, Any] = found[0]
    return row


def propose(name: str, quarantine_id: str) -> Proposal:
    """A proposal for a quarantined row: stray bytes read in another encoding, or JSON mended by json-repair."""
    row = find(name, quarantine_id)
    raw = row["raw"]
    text, how = _mended(raw, "can't be decoded" in row["reason"], _params_of(name, quarantine_id))
    if text is None or text == raw:
        return Proposal(quarantine_id, raw, None, "no proposal", (), row["reason"])
    try:
        read(name, quarantine_id, text)
        problem = ""
    except InputFileError as error:
        problem = error.message
    return Proposal(quarantine_id, raw, text, how, difference(raw, text), problem)


def _mended(raw: str, has_bytes: bool, params: Mapping[str, Any] | None) -> tuple[str | None, str]:
    text, how = raw, []
    if has_bytes:
        text = _BYTE.sub(lambda match: _decoded(bytes.fromhex(match[0].replace("\\x", ""))), raw)
        how.append("stray bytes read as characters")
    if params is None or params["container"] in ("json", "jsonl"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            guess = guessed_json(text)
            if guess is not None:
                text = guess
                how.append("JSON mended by json-repair, which can change values: compare")
    return (text, " and ".join(how)) if how else (None, "")


def _decoded(stray: bytes) -> str:
    """Bytes that weren't UTF-8: a surrogate pair written as two characters (CESU-8), GB18030 pairs, or Windows-1252."""
    try:
        return stray.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError:
        pass
    for encoding in ("gb18030", "cp1252") if len(stray) >= 4 else ("cp1252",):
        try:
            return stray.decode(encoding)
        except UnicodeDecodeError:
            continue
    return stray.decode("latin-1")


def difference(before: str, after: str) -> tuple[Change, ...]:
    """All of both texts in stretches that were kept, removed, added or replaced."""
    kinds: dict[str, Literal["kept", "removed", "added", "replaced"]] = {
        "equal": "kept",
        "delete": "removed",
        "insert": "added",
        "replace": "replaced",
    }
    same = _shared(before, after)
    tail = min(_shared(before[::-1], after[::-1]), len(before) - same, len(after) - same)
    old, new = before[same : len(before) - tail], after[same : len(after) - tail]
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    middle = [Change(kinds[tag], old[a:b], new[c:d]) for tag, a, b, c, d in codes]
    first, last = (tuple([Change("kept", end, end)] if end else []) for end in (before[:same], before[len(before) - tail :]))
    return (*first, *middle, *last)


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def repair(name: str, quarantine_id: str, corrected_text: str, note: str = "") -> Version:
    """Take the row in with a mended text: a new version, whose step can be undone.

    InputFileError, with nothing changed, if the text still makes no row, or makes more than one.
    """
    row = read(name, quarantine_id, corrected_text)
    params = {"rows": [{"quarantine_id": quarantine_id, **row}]}
    return apply(name, [Step(op="take_in", params=params)], note=note or f"take in {quarantine_id}")


def read(name: str, quarantine_id: str, text: str) -> dict[str, Any]:
    """The row that a text makes (instruction, input, output, messages, split), read as the file of the import was."""
    find(name, quarantine_id)
    params = _params_of(name, quarantine_id)
    if params is None:
        return _read_set_aside(text)
    limits = Limits.current()
    converter = find_shape(params["shape"]).converter(params["mapping"], params.get("options") or {})
    bodies = list(convert(_chunks(params, text, limits), converter, limits))
    faults = [fault for body in bodies for fault in body.faults]
    rows = [row for body in bodies for row in body.rows.to_pylist()]
    if faults or len(rows) != 1:
        reason = faults[0].reason if faults else f"it makes {len(rows)} rows"
        raise InputFileError(f"The text can't be taken in: {reason}", "Mend it further; it must make one row.")
    row = {field: rows[0][field] for field in _ROW_FIELDS}
    row["split"] = row["split"] or params.get("split", "")
    return row


def _read_set_aside(text: str) -> dict[str, Any]:
    """A row that a cleaning step put aside: its raw text is the JSON of its columns."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"The text can't be taken in: not valid JSON: {error}", "Mend it further.") from error
    if not isinstance(value, dict) or not isinstance(value.get("output"), str):
        raise InputFileError("The text can't be taken in: it is not an object with input and output", "Mend it further.")
    return {field: value.get(field) if field == "messages" else value.get(field) or "" for field in _ROW_FIELDS}


def is_from_file(name: str, quarantine_id: str) -> bool:
    """Whether a quarantined row couldn't be read at an import; otherwise a step put it aside, as the JSON of its columns."""
    return _params_of(name, quarantine_id) is not None


def _params_of(name: str, quarantine_id: str) -> dict[str, Any] | None:
    """The parameters of the import that a quarantined row came with; None for a row that a cleaning step put aside."""
    for step in store.get_version(name).recipe:
        if step.op == "import" and quarantine_id.startswith(f"q-{step.params.get('prefix')}-"):
            return dict(step.params)
    return None


def _chunks(params: Mapping[str, Any], text: str, limits: Limits) -> Sequence[Chunk]:
    container = params["container"]
    if container == "delimited" or (container == "excel" and not text.lstrip().startswith("{")):
        dialect = (
            delimited.Dialect(params["delimiter"], params["quoted"]) if container == "delimited" else delimited.Dialect("\t")
        )
        header = io.StringIO()
        marked = [MARK] if params.get("marked") else []
        csv.writer(header, delimiter=dialect.delimiter, lineterminator="\n").writerow([*params["columns"], *marked])
        return list(delimited.read(_document(header.getvalue() + text), "utf-8", limits, dialect))
    if container == "conll":
        return list(conll.read(_document(text), "utf-8", limits))
    return list(json_lines.read(_document(_on_one_line(text)), "utf-8", limits))


def _on_one_line(text: str) -> str:
    """A JSON value that may be written over several lines, on one (line breaks inside strings are escaped in JSON)."""
    return " ".join(text.split("\n"))


def _document(text: str) -> Document:
    return Document("mended", lambda: io.BytesIO(text.encode("utf-8", "surrogatepass")))
