"""Checks of single texts: wrong encodings, HTML, unseen characters, width, placeholders, personal data, language, length.

A pattern sieves whole columns; what it lets through is judged text by text. Knows nothing of answers' elements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.checks.base import Finding, of_details, of_mask
from core.data.codes import distinct
from core.data.detect import characters, language, markup, mojibake, personal, placeholders
from core.data.detect.turns import turn_fault
from core.data.keys import source_texts, spoken_texts
from core.store.schema import TEXT_COLUMNS

Mask = npt.NDArray[np.bool_]
RARE_LANGUAGE = 0.01
"""A language in fewer of the rows than this is rare, if there are at least ``MANY`` rows."""
MANY = 200
SPREAD = 3.0
"""How many interquartile ranges (of the logarithm of the length) beyond the quartiles an outlier lies."""


class Texts:
    """The text columns of a table, each distinct cell once where cells repeat much (instructions do)."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self._parts: dict[str, tuple[pa.Array, npt.NDArray[np.int64] | None]] = {}
        for name in TEXT_COLUMNS:
            column = rows[name]
            if column.null_count == len(column):
                continue
            cells = pc.fill_null(column, "").combine_chunks()
            head = cells.slice(0, 2000)
            if len(cells) > 50 and pc.count_distinct(head).as_py() <= len(head) // 4:
                self._parts[name] = distinct(cells)
            else:
                self._parts[name] = (cells, None)

    def matching(self, pattern: str, judge: Callable[[str], bool] | None = None) -> Mask:
        """Rows in which a column's text matches (and is judged so)."""
        found = np.zeros(self.rows.num_rows, dtype=np.bool_)
        for name in self._parts:
            found |= self._matching(name, pattern, judge)
        return found

    def _matching(self, name: str, pattern: str, judge: Callable[[str], bool] | None) -> Mask:
        cells, codes = self._parts[name]
        found = pc.match_substring_regex(cells, pattern).to_numpy(zero_copy_only=False).copy()
        if judge is not None and found.any():
            found[found] = [judge(text) for text in cells.filter(pa.array(found)).to_pylist()]
        mask: Mask = found if codes is None else found[codes]
        return mask

    def details(self, pattern: str, tell: Callable[[str], str]) -> dict[int, str]:
        """What is to be said of rows in which a column's text matches; nothing where ``tell`` says nothing."""
        told: dict[int, str] = {}
        for name, (cells, codes) in self._parts.items():
            found = pc.match_substring_regex(cells, pattern).to_numpy(zero_copy_only=False)
            words = {int(place): tell(cells[int(place)].as_py()) for place in np.flatnonzero(found)}
            if codes is not None:
                rows = np.flatnonzero(found[codes]).tolist()
                words = {row: words[int(codes[row])] for row in rows}
            for row, word in words.items():
                if word:
                    told[row] = f"{told[row]}; {name}: {word}" if row in told else f"{name}: {word}"
        return told


def _kinds_of(text: str) -> str:
    counts = Counter(found.kind for found in personal.find_personal(text))
    return ", ".join(
        f"{kind.replace('_', ' ')} × {count}" if count > 1 else kind.replace("_", " ") for kind, count in counts.items()
    )


def text_findings(rows: pa.Table) -> list[Finding]:
    """Findings of all checks of characters: each with the rows in which instruction, input, output or a turn shows it."""
    texts = Texts(rows)
    garbled = texts.matching(mojibake.PATTERN, mojibake.is_mojibake)
    unseen = texts.matching(characters.PATTERN, characters.has_hidden)
    decoded = ~texts.matching(characters.PATTERN_BUT_LATIN)  # what a wrong decoding leaves is that, and no control character
    return [
        of_mask("mojibake", garbled),
        of_mask("control_character", unseen & ~(decoded & garbled)),
        of_mask("markup", texts.matching(markup.PATTERN)),
        of_mask("width", texts.matching(characters.WIDE_LETTERS)),
        of_mask("placeholder", texts.matching(placeholders.PATTERN)),
        of_details("personal_data", texts.details(personal.PATTERN, _kinds_of)),
    ]


def language_and_length_findings(rows: pa.Table) -> list[Finding]:
    """Mixed scripts, rare languages (rows of each language as facts), and rows far longer or shorter than the others."""
    spoken = spoken_texts(rows)
    texts = pc.if_else(pc.is_null(spoken), source_texts(rows), pc.fill_null(spoken, "")).to_pylist()
    counts = language.count_kinds(texts)
    return [*_language_findings(texts, counts), *_length_findings(counts)]


def _language_findings(texts: list[str], counts: language.Counts) -> list[Finding]:
    named = language.languages(counts)
    sizes = np.bincount(named, minlength=len(language.LANGUAGES))
    chinese = [language.LANGUAGES.index(name) for name in ("Hans", "Hant", "Han")]
    mixed = language.mixes_scripts(counts)
    details = {int(place): "simplified and traditional characters" for place in np.flatnonzero(mixed)}
    if len(texts) >= MANY:
        rare = (sizes > 0) & (sizes < RARE_LANGUAGE * len(texts))
        rare[[language.LANGUAGES.index(name) for name in ("none", "mixed", "Han")]] = False
        if sizes[chinese].sum() >= RARE_LANGUAGE * len(texts) and sizes[chinese[0]] == 0 and sizes[chinese[1]] == 0:
            rare[chinese] = False
        for place in np.flatnonzero(rare[named]).tolist():
            details.setdefault(place, f"{language.LANGUAGES[named[place]]}, rare here")
    facts = {name: int(size) for name, size in zip(language.LANGUAGES, sizes, strict=True) if size}
    finding = of_details("language_mix", details)
    return [Finding("language_mix", finding.positions, finding.details, facts={"languages": facts})]


def _length_findings(counts: language.Counts) -> list[Finding]:
    """Rows more than ``SPREAD`` interquartile ranges beyond the quartiles of the logarithm of the length.

    These are Tukey's outer fences, the range at least 0.15 so that even lengths make no outliers. A Chinese character
    weighs as three Latin letters, so that a set in both languages has one measure.
    """
    sizes = counts.sum(axis=1)
    facts: dict[str, object] = {}
    over = under = np.zeros(len(sizes), dtype=np.bool_)
    if len(sizes):
        weights = language.weighted_lengths(counts)
        logs = np.log1p(weights)
        low, middle, high = np.quantile(logs, [0.25, 0.5, 0.75])
        spread = max(high - low, 0.15)
        over = (logs > high + SPREAD * spread) & (weights > 3 * np.expm1(middle))
        under = (logs < low - SPREAD * spread) & (sizes > 0)
        p50, p95 = np.quantile(sizes, [0.5, 0.95])
        facts = {"characters": {"p50": int(p50), "p95": int(p95), "max": int(sizes.max()), "min": int(sizes.min())}}
    told = [{int(p): f"{sizes[p]:,} characters" for p in np.flatnonzero(mask)} for mask in (over, under)]
    long, short = of_details("over_long", told[0]), of_details("over_short", told[1])
    return [Finding("over_long", long.positions, long.details, facts=facts), short]


def turn_findings(rows: pa.Table) -> list[Finding]:
    """Conversations with a fault in their turns."""
    if rows["messages"].null_count == rows.num_rows:
        return [of_details("turn_fault", {})]
    faults = {place: turn_fault(text) for place, text in enumerate(rows["messages"].to_pylist()) if text is not None}
    return [of_details("turn_fault", {place: fault for place, fault in faults.items() if fault})]
