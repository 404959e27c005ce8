"""Tokens with a tag each (BIO, IOB1, BIOES, BILOU, BMES) → an extraction row.

Chinese characters are joined without spaces, other tokens by one. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.data.mapping import column_for, guess_flat
from core.data.readers.base import RowError
from core.data.readers.shapes.answers import answer_of
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, split_of

TAG = re.compile(r"^(?:O|([BIMESLUW])[-_](.+))$")
_WIDE = re.compile("[\u2e80-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff“”‘’—…·]")
_CHARACTERS = 0.3
"""From this share of single Chinese characters among all tokens, every token is taken for a character."""


def matches(records: Sequence[Any], columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Column → field if records hold a list of tokens and a list of tags as long."""
    by_field = {field: column for column, field in given.items()}
    tokens = by_field.get("tokens") or column_for("tokens", columns)
    tags = by_field.get("tags") or column_for("tags", columns)
    if tokens is None or tags is None:
        return None
    objects = [record for record in records if isinstance(record, dict)]
    fitting = sum(1 for record in objects if _fits(record.get(tokens), record.get(tags)))
    if 2 * fitting <= len(objects):
        return None
    mapping = dict(given) | {tokens: "tokens", tags: "tags"}
    split = {c: f for c, f in guess_flat(columns, mapping).items() if f == "split" and c not in mapping}
    return mapping | split


def _fits(tokens: Any, tags: Any) -> bool:
    return (
        isinstance(tokens, list)
        and isinstance(tags, list)
        and len(tokens) == len(tags)
        and all(isinstance(tag, str) and TAG.match(tag) for tag in tags)
    )


def options(records: Sequence[Any]) -> dict[str, Any]:
    """``joined``: the tokens are single characters, so none is to be parted from the next by a space."""
    tokens = [token for record in records for token in next((v for v in _lists(record)), [])]
    characters = sum(1 for token in tokens if len(token) == 1 and _WIDE.match(token))
    return {"joined": characters >= _CHARACTERS * len(tokens) > 0}


def _lists(record: Any) -> Iterator[list[str]]:
    if isinstance(record, dict):
        yield from (v for v in record.values() if isinstance(v, list) and all(isinstance(item, str) for item in v))


def converter(mapping: Mapping[str, str], options: Mapping[str, Any]) -> Converter:
    """Extraction rows. An unknown tag, or numbers of tokens and tags that differ, are faults."""
    fields = fields_of(mapping)
    token_column, tag_column, split = fields["tokens"], fields["tags"], fields.get("split")
    used = frozenset(name for name in (token_column, tag_column, split) if name is not None)
    joined = bool(options.get("joined"))

    def convert(record: Any) -> Converted:
        if not isinstance(record, dict):
            raise RowError("not an object with named fields")
        tokens, tags = record.get(token_column), record.get(tag_column)
        if not isinstance(tokens, list) or not isinstance(tags, list) or not tokens:
            raise RowError(f"{token_column!r} and {tag_column!r} are not both lists")
        if len(tokens) != len(tags):
            raise RowError(f"{len(tokens)} tokens and {len(tags)} tags")
        words = [str(token) for token in tokens]
        found = [(label, join(words[start:end], joined)) for start, end, label in entities(tags)]
        extra = None if record.keys() <= used else rest_of(record, used)
        return Converted("", join(words, joined), answer_of(found), None, split_of(record, split), extra)

    return convert


def join(tokens: Sequence[str], joined: bool) -> str:
    """Tokens as text: without spaces if ``joined``, else by a space, except where both neighbours are Chinese."""
    if joined:
        return "".join(tokens)
    parts: list[str] = []
    for token in tokens:
        if parts and not (_WIDE.match(parts[-1][-1:]) and _WIDE.match(token[:1])):
            parts.append(" ")
        parts.append(token)
    return "".join(parts)


def entities(tags: Sequence[Any]) -> Iterator[tuple[int, int, str]]:
    """Start, end (excluded) and label of each entity. A continuation without a beginning begins one."""
    start, label = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        match = TAG.match(tag) if isinstance(tag, str) else None
        if match is None:
            raise RowError(f"the tag {tag!r} is not O, or a letter of BIMESLUW with a label")
        letter, name = match[1] or "O", match[2] or ""
        goes_on = letter in "IMEL" and name == label and label
        if label and not goes_on:
            yield start, place, label
            label = ""
        if letter != "O" and not goes_on:
            start, label = place, name
        if label and letter in "ESLUW":
            yield start, place + 1, label
            label = ""
