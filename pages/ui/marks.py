"""A text with its gold and predicted values marked, as HTML. Escapes everything it is given.

Gold is a solid mark, predicted an outline, so that the two are told apart without their colour;
both at once is right. Knows nothing of Streamlit.
"""

from __future__ import annotations

import difflib
import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.data.answers import Answer
from core.data.grounding import locate
from core.prompts import studio

MOST_MARKS = 400


@dataclass(frozen=True)
class Mark:
    """A stretch of the text: ``look`` is ``gold``, ``predicted`` or ``hit`` (what an issue found)."""

    start: int
    end: int
    look: str
    label: str = ""


@dataclass(frozen=True)
class Value:
    """A value of an answer and how it stands in the text: exact, normalised, fuzzy or absent."""

    text: str
    kind: str


def ground(answer: Answer, text: str, look: str) -> tuple[list[Mark], dict[str, list[Value]]]:
    """Where the values of an answer stand in the text: marks, and each element's values."""
    marks: list[Mark] = []
    values: dict[str, list[Value]] = {}
    for element, value in answer.pairs[:MOST_MARKS]:
        match = locate(value, text)
        values.setdefault(element, []).append(Value(value, match.kind))
        if match.kind != "absent" and match.end > match.start:
            marks.append(Mark(match.start, match.end, look, element))
    return marks, values


def marked(text: str, marks: Sequence[Mark]) -> str:
    """The text as HTML with the marks in it; overlapping marks are cut where they meet."""
    cuts = sorted({0, len(text), *(place for mark in marks for place in (mark.start, mark.end) if 0 <= place <= len(text))})
    parts: list[str] = []
    for start, end in pairwise(cuts):
        over = [mark for mark in marks if mark.start <= start and mark.end >= end]
        piece = html.escape(text[start:end])
        if over:
            looks = " ".join(sorted({mark.look for mark in over}))
            if "hit" in looks and not text[start:end].isprintable():
                piece = html.escape(_visible(text[start:end]))
            piece = f'<mark class="{looks}">{piece}</mark>'
            labels = dict.fromkeys(mark.label for mark in over if mark.end == end and mark.label)
            if labels:
                piece += f'<span class="tw-label">{html.escape(", ".join(labels))}</span>'
        parts.append(piece)
    return f'<div class="tw-text tw-row">{"".join(parts)}</div>'


def key(*, predicted: bool, hits: bool = False) -> str:
    """The key to the marks."""
    entries = ['<span><mark class="gold">gold</mark> in the answer that is held to be right</span>']
    if predicted:
        entries.append('<span><mark class="predicted">predicted</mark> by the model</span>')
        entries.append('<span><mark class="gold predicted">both</mark> agree</span>')
    if hits:
        entries.append('<span><mark class="hit">found</mark> by the check</span>')
    return f'<div class="tw-text tw-key">{"".join(entries)}</div>'


def elements_table(
    gold: Mapping[str, list[Value]],
    predicted: Mapping[str, list[Value]] | None,
    faults: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Elements as a table: gold beside predicted, values that aren't in the text in red and saying so.

    ``faults``: of each element how many values have which fault, in words; none: values are only held against each other.
    """
    names = list(dict.fromkeys([*gold, *(predicted or {})]))
    if not names:
        return '<div class="tw-key">No element is named in this row.</div>'
    heads = ["Element", "Gold"] + (["Predicted", ""] if predicted is not None else [])
    rows = []
    for name in names:
        cells = [f'<td class="name">{html.escape(name)}</td>', f"<td>{_chips(gold.get(name, []), 'gold')}</td>"]
        if predicted is not None:
            verdict = _verdict(gold.get(name, []), predicted.get(name, []))
            if faults is not None:
                told = ", ".join(f"{amount} {fault}" for fault, amount in faults.get(name, {}).items())
                verdict = html.escape(told) or "right"
            cells += [f"<td>{_chips(predicted.get(name, []), 'predicted')}</td>", f"<td>{verdict}</td>"]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f'<table class="tw-table"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def values_table(values: Mapping[str, list[Value]]) -> str:
    """Elements and their values as a table, values that aren't in the text in red and saying so."""
    if not values:
        return '<div class="tw-key">No element found: the answer is {}.</div>'
    rows = "".join(
        f'<tr><td class="name">{html.escape(name)}</td><td>{_chips(found, "predicted")}</td></tr>'
        for name, found in values.items()
    )
    head = "<tr><th>Element</th><th>Value</th></tr>"
    return f'<table class="tw-table"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def broken(text: str, position: int) -> str:
    """A text with the place where it stops being readable marked; behind its end if it breaks off there."""
    if position >= len(text):
        return marked(f"{text}…", [Mark(len(text), len(text) + 1, "hit", "breaks off here")])
    return marked(text, [Mark(position, position + 1, "hit", "here")])


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(text)


def facts(entries: Sequence[tuple[str, str]]) -> str:
    """Names and values as a quiet table of two columns."""
    lines = "".join(f'<tr><td class="name">{html.escape(name)}</td><td>{html.escape(value)}</td></tr>' for name, value in entries)
    return f'<table class="tw-table"><tbody>{lines}</tbody></table>'


@dataclass(frozen=True)
class Piece:
    """Tokens that make a text together: one, or the few that share a character. ``note`` is shown when it is pointed at."""

    text: str
    tokens: int
    learnt: bool
    special: bool = False
    note: str = ""


def piece(found: studio.Piece) -> Piece:
    """A piece of the mask view, its ids and loss weight as the note."""
    note = f"{', '.join(map(str, found.ids))}; weight {found.weight:g}"
    return Piece(found.text, len(found.ids), found.trained, found.kind == "special", note)


def tokens(found: Sequence[Piece], *, plain: bool = False) -> str:
    """Pieces as HTML, learnt and given apart, neighbours told apart by shade; ``plain`` marks only what is learnt."""
    parts: list[str] = []
    for place, piece in enumerate(found):
        text = html.escape(piece.text).replace("\n", "↵\n") or "∅"
        look = ("learnt" if piece.learnt else "given") + ("" if place % 2 or plain else " odd")
        look += " special" if piece.special else ""
        title = f' title="{html.escape(piece.note)}"' if piece.note else ""
        parts.append(text if plain and not piece.learnt else f'<mark class="{look}"{title}>{text}</mark>')
    return f'<div class="tw-text tw-tokens">{"".join(parts)}</div>'


def diff(before: str, after: str) -> str:
    """One text made into another: what goes is struck through, what comes is underlaid."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    opcodes = matcher.get_opcodes() if len(before) + len(after) <= 4000 else [("replace", 0, len(before), 0, len(after))]
    return stretches((before[a:b], after[c:d]) for _, a, b, c, d in opcodes)


def stretches(pairs: Iterable[tuple[str, str]]) -> str:
    """A change given as stretches of (before, after), equal where nothing changed, drawn as in ``diff``."""
    parts: list[str] = []
    for old, new in pairs:
        if old == new:
            parts.append(html.escape(_middle(old)))
            continue
        if old:
            parts.append(f"<del>{html.escape(_visible(old))}</del>")
        if new:
            parts.append(f"<ins>{html.escape(_visible(new))}</ins>")
    return f'<div class="tw-text tw-diff">{"".join(parts)}</div>'


def _chips(values: Iterable[Value], look: str) -> str:
    chips = []
    for value in values:
        note = {"absent": "not in the text", "fuzzy": "nearly in the text", "normalised": "in another writing"}.get(
            value.kind, ""
        )
        shown = html.escape(value.text) or "(empty)"
        chip = f'<span class="tw-chip {"absent" if value.kind == "absent" else look}">{shown}</span>'
        chips.append(chip + (f'<span class="tw-label">{note}</span>' if note else ""))
    return "".join(chips) or '<span class="tw-label">none</span>'


def _verdict(gold: Sequence[Value], predicted: Sequence[Value]) -> str:
    right, answered = Counter(v.text for v in gold), Counter(v.text for v in predicted)
    if right == answered:
        return "right"
    missed, extra = (right - answered).total(), (answered - right).total()
    return ", ".join(text for amount, text in ((missed, f"{missed} missed"), (extra, f"{extra} wrong")) if amount)


def _middle(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def _visible(text: str) -> str:
    """White space and invisible characters as something that can be seen."""
    shown = text.replace(" ", "·").replace("\t", "→").replace("\n", "↵\n").replace("\u3000", "□")
    return "".join(c if c.isprintable() or c == "\n" else f"‹U+{ord(c):04X}›" for c in shown)
