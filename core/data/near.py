"""Near duplicates among rows: their texts nearly the same, and not the same wording with other values.

What is compared is the text in a folded form (width, case, white space, script), so that spacing alone, or traditional
characters for simplified ones, make no difference. Two texts that are equal once their gold values are taken out, and
whose values differ, are of one template: that is variety to be kept, no duplicate. Knows nothing of what is done about
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.answers import parse_answer
from core.data.codes import column_codes, distinct, first_of_group, group_codes, is_first
from core.data.duplicates import BUCKET, CHUNK, Pairs, Tick, code_points, connected, listed, near_pairs, no_tick
from core.data.keys import question_and_answer_codes, spoken_texts
from core.data.normalise import to_simplified
from core.data.rules import blank

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_SLICE = 10_000
"""Rows folded at a time, so that memory is used again."""
_PAIRS = 50_000
"""Pairs whose texts are held without their values at a time."""
_WIDE_SPACE = r"[ ]*([\x{2E80}-\x{9FFF}\x{F900}-\x{FAFF}\x{FE30}-\x{FE4F}])[ ]*"


def folded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts with width (NFKC) and case folded, white space one space, none beside Chinese characters, none at the ends."""
    lower = pc.utf8_lower(pc.utf8_normalize(column, "NFKC"))
    found = pc.match_substring_regex(lower, r"[\s\x{85}\x{A0}\x{200B}-\x{200F}\x{2028}\x{2029}\x{FEFF}]")
    if not pc.any(found).as_py():
        return lower
    some = lower.filter(found)
    some = pc.replace_substring_regex(some, r"[\x{200B}-\x{200F}\x{FEFF}]+", "")
    some = pc.replace_substring_regex(some, r"[\s\x{85}\x{A0}\x{2028}\x{2029}]+", " ")
    some = pc.replace_substring_regex(some, _WIDE_SPACE, r"\1")
    some = pc.utf8_trim(some, characters=" ")
    return pa.chunked_array([pc.replace_with_mask(*(part.combine_chunks() for part in (lower, found, some)))])


@cache
def _simplified_points() -> npt.NDArray[np.uint32]:
    points = np.arange(0x110000, dtype="<u4")
    for char, simple in to_simplified().items():
        points[char] = ord(simple)
    return points


def in_simplified(texts: Sequence[str]) -> list[str]:
    """Texts with traditional characters as simplified ones, each as long as before; all at once, which is ten times as quick."""
    simple: list[str] = []
    for begin in range(0, len(texts), CHUNK):
        points, starts = code_points(texts[begin : begin + CHUNK])
        whole = str(_simplified_points().take(points, mode="clip").data, "utf-32-le", "surrogatepass")
        simple += [whole[start:end] for start, end in pairwise(starts.tolist())]
    return simple


@dataclass(frozen=True, slots=True)
class NearTexts:
    """The texts of a table as they are compared, each once within its group, and each row's place among them."""

    texts: list[str]
    groups: Codes
    place: Codes


def compared_texts(rows: pa.Table) -> NearTexts:
    """What of each row is compared for nearness.

    An instruction that stands in at least three rows is a template: only the inputs are compared, and only
    among rows of the same instruction. Other rows are compared by instruction and input together.
    A conversation is compared by its turns.
    """
    said, instruction = distinct(rows["instruction"])
    instruction = column_codes(pa.array(in_simplified(said.to_pylist()), pa.large_string()))[instruction]
    counts = np.bincount(instruction, minlength=1)
    has_input = ~blank(rows["input"])
    talk = pc.is_valid(rows["messages"]).to_numpy()
    template = (counts[instruction] >= 3) & has_input & ~talk
    if template.all():
        text = rows["input"]
    else:
        joined = pc.binary_join_element_wise(rows["instruction"], rows["input"], pa.scalar("\n", pa.large_string()))
        text = pc.if_else(pa.array(template), rows["input"], pc.if_else(pa.array(has_input), joined, rows["instruction"]))
        text = pc.if_else(pa.array(talk), pc.fill_null(spoken_texts(rows), ""), text)
    group = np.where(template, instruction + 1, 0)
    seen: dict[tuple[int, str], int] = {}
    place: list[int] = []
    for begin in range(0, len(text), _SLICE):
        part = in_simplified(folded(text.slice(begin, _SLICE)).to_pylist())
        place += [seen.setdefault(key, len(seen)) for key in zip(group[begin : begin + _SLICE].tolist(), part, strict=True)]
    texts = [words for _, words in seen]
    groups = np.fromiter((number for number, _ in seen), np.int64, len(seen))
    return NearTexts(texts, groups, np.array(place, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Near:
    """Near-duplicate rows of a table.

    ``cluster``: for each row the position of the first row of its cluster (itself where there is no other).
    ``pairs``: positions of rows, the first row of each text, with their similarity.
    """

    cluster: Codes
    pairs: Pairs
    place: Codes


def near_rows(rows: pa.Table, threshold: float = 0.8, tick: Tick = no_tick) -> Near:
    """Near-duplicate rows by exact Jaccard similarity of folded texts; pairs of one template with other values left out.

    ``tick`` is called now and then and may raise.
    """
    compared = compared_texts(rows)
    found = near_pairs(compared.texts, threshold, compared.groups, tick)
    first = np.flatnonzero(is_first(compared.place))
    kept = ~_same_template(rows, first, found, tick)
    linked = connected(len(compared.texts), found.left[kept], found.right[kept])
    cluster = first[linked][compared.place]
    return Near(cluster, Pairs(first[found.left[kept]], first[found.right[kept]], found.similarity[kept]), compared.place)


def masked(text: str, answer: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A text with the values of its answer replaced by their elements' names, and the values that were replaced."""
    taken: list[tuple[str, str]] = []
    for element, value in sorted(parse_answer(answer).pairs, key=lambda pair: -len(pair[1])):
        if value.strip() and value in text:
            text = text.replace(value, f"\x00{element}\x01")
            taken.append((element, value))
    return text, tuple(sorted(taken))


def _same_template(rows: pa.Table, first: Codes, pairs: Pairs, tick: Tick) -> Mask:
    """Pairs of texts that are equal without their values, and whose values differ; ``first``: the row of each text."""
    same = np.zeros(len(pairs.left), dtype=np.bool_)
    texts = rows.select(["input", "output"])
    for begin in range(0, len(same), _PAIRS):
        tick()
        ones, others = first[pairs.left[begin : begin + _PAIRS]], first[pairs.right[begin : begin + _PAIRS]]
        places = np.unique(np.concatenate([ones, others]))
        taken = texts.take(pa.array(places))
        asked, answered = (in_simplified(taken[name].to_pylist()) for name in ("input", "output"))
        made = {place: masked(*row) for place, *row in zip(places.tolist(), asked, answered, strict=True)}
        same[begin : begin + _PAIRS] = [
            made[a][1] != made[b][1] and made[a][0] == made[b][0] and bool(made[a][1])
            for a, b in zip(ones.tolist(), others.tolist(), strict=True)
        ]
    return same


def near_duplicates(rows: pa.Table, near: Near) -> dict[int, tuple[int, float]]:
    """Rows to be called near duplicates, each with the row that it is nearest to and their similarity.

    These are the rows of a cluster that ask something else than its first row, exact duplicates aside.
    """
    members = np.flatnonzero(np.bincount(near.cluster, minlength=len(near.cluster))[near.cluster] > 1)
    if not len(members):
        return {}
    asked, answered = question_and_answer_codes(rows.take(pa.array(members)))
    fresh = is_first(group_codes(asked, answered))
    head = asked[np.searchsorted(members, near.cluster[members])]
    best: dict[int, tuple[float, int]] = {}
    for a, b, similarity in listed(near.pairs.left, near.pairs.right, near.pairs.similarity):
        if similarity > best.get(b, (0.0, 0))[0]:
            best[b] = (similarity, a)
    first_text = first_of_group(near.place)
    found: dict[int, tuple[int, float]] = {}
    for place in members[(asked != head) & fresh].tolist():
        text = int(first_text[place])
        if text == int(near.cluster[place]):
            found[place] = (text, 1.0)
        else:
            similarity, other = best.get(text, (0.0, int(near.cluster[place])))
            found[place] = (other, similarity)
    return found


def near_leaks(near: Near, questions: Codes, in_train: Mask, held: Mask) -> tuple[dict[int, int], dict[int, int]]:
    """Held-out rows with nearly the text of a train row, and those train rows, each with one row of the other side."""
    sides: dict[int, tuple[list[int], list[int]]] = {}
    linked = np.bincount(near.place, minlength=1) > 1
    linked[near.place[near.pairs.left]] = linked[near.place[near.pairs.right]] = True
    wanted = linked[near.place]
    for row in np.flatnonzero(wanted & (in_train | held)).tolist():
        sides.setdefault(int(near.place[row]), ([], []))[0 if in_train[row] else 1].append(row)
    out: dict[int, int] = {}
    back: dict[int, int] = {}
    ends = listed(near.place[near.pairs.left], near.place[near.pairs.right]) if sides else iter(())
    for one, other in chain(((text, text) for text in sides), (pair for a, b in ends for pair in ((a, b), (b, a)))):
        trained, tested = sides.get(one, ([], []))[0], sides.get(other, ([], []))[1]
        for row in tested:
            match = next((train for train in trained if questions[train] != questions[row]), None)
            if match is not None:
                out.setdefault(row, match)
        for train in trained:
            match = next((row for row in tested if questions[train] != questions[row]), None)
            if match is not None:
                back.setdefault(train, match)
    _crowded_leaks(near, questions, in_train, held, out, back)
    return out, back


def _crowded_leaks(near: Near, questions: Codes, in_train: Mask, held: Mask, out: dict[int, int], back: dict[int, int]) -> None:
    """The same for clusters of which not every pair is known: any train row of the cluster counts."""
    firsts = is_first(near.place)
    texts = np.bincount(near.cluster[firsts], minlength=len(near.cluster))
    inside = texts[near.cluster] > BUCKET
    if not inside.any():
        return
    for mine, theirs, told in ((held, in_train, out), (in_train, held, back)):
        other: dict[int, int] = {}
        for row in np.flatnonzero(inside & theirs).tolist():
            other.setdefault(int(near.cluster[row]), row)
        for row in np.flatnonzero(inside & mine).tolist():
            match = other.get(int(near.cluster[row]))
            if match is not None and questions[match] != questions[row]:
                told.setdefault(row, match)
