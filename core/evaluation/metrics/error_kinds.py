"""What happened to each gold and each predicted pair of one row: correct, or exactly one kind of error.

Counts add up exactly: every gold pair that was not found and every predicted pair that is not right has one kind,
``boundary`` and ``wrong_element`` taking one of each:

    gold      = correct + missed + boundary + wrong_element + format (answer unreadable)
    predicted = correct + boundary + wrong_element + spurious + hallucinated + duplicate + format (unknown element)

Rules, in order: equal pairs are correct (lists as multisets); a pair said more often than gold says it, or more than
once, is a ``duplicate``; an element outside the schema is ``format``; the same value under another element is
``wrong_element``; within an element, texts of which one holds the other, or whose places in the source overlap,
are paired by greatest overlap as ``boundary`` (unless only the gold stands in the source);
what is left is ``hallucinated`` when it isn't in the source, else ``spurious``; gold that is left is ``missed``.
Knows nothing of scores.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from core.data.answers import Answer, parse_answer
from core.data.grounding import locate
from core.evaluation.metrics.assignment import assign

ERROR_KINDS = ("missed", "spurious", "boundary", "wrong_element", "hallucinated", "duplicate", "format")
OUTCOME_KINDS = ("correct", *ERROR_KINDS)
Normalise = Callable[[str], str]


class Outcome(NamedTuple):
    """One pair's fate. ``gold`` or ``predicted`` is None where the kind has only the other side.

    ``element`` is the gold pair's where there is one; ``predicted_element`` the predicted pair's. ``detail`` of
    ``format``: ``not_json``, ``cut_off`` or ``unknown_element``.
    """

    kind: str
    element: str
    gold: str | None
    predicted: str | None
    predicted_element: str = ""
    detail: str = ""


Pair = tuple[str, str]


class Matched(NamedTuple):
    """A row's two answers and the fate of each of their pairs. ``fault``: ``not_json``, ``cut_off`` or nothing."""

    gold: Answer
    predicted: Answer
    outcomes: list[Outcome]
    fault: str

    @property
    def exact(self) -> bool:
        """Whether both answers can be read and hold the same pairs."""
        return self.gold.ok and self.predicted.ok and all(o.kind == "correct" for o in self.outcomes)


def match_row(
    gold: Answer,
    prediction: str,
    source: str,
    *,
    schema: Collection[str] | None = None,
    normalise: Normalise = str,
) -> Matched:
    """Read a prediction and find the fate of each pair of the row.

    ``source`` is the text that values must stand in (empty: not judged); ``schema`` the known elements (None: all are);
    ``normalise`` is applied to values before they are compared.
    """
    predicted = parse_answer(prediction)
    if not predicted.ok:
        fault = "cut_off" if _cut_off(prediction) else "not_json"
        lost = [Outcome("format", element, value, None, detail=fault) for element, value in gold.pairs]
        return Matched(gold, predicted, lost, fault)
    return Matched(gold, predicted, _outcomes(gold, predicted, source, schema, normalise), "")


def _outcomes(
    gold: Answer, predicted: Answer, source: str, schema: Collection[str] | None, normalise: Normalise
) -> list[Outcome]:
    """The fate of each pair when both answers can be read (an unreadable gold has no pairs)."""
    found, gold_left, predicted_left = _equal(gold.pairs, predicted.pairs, normalise)
    repeated, predicted_left = _duplicates(gold.pairs, predicted_left, normalise, found)
    found += repeated
    if schema is not None:
        known = set(schema)
        found += [Outcome("format", e, None, v, e, "unknown_element") for e, v in predicted_left if e not in known]
        predicted_left = [pair for pair in predicted_left if pair[0] in known]
    for kind, pairing in (("wrong_element", _wrong_element), ("boundary", _boundary)):
        paired = list(pairing(gold_left, predicted_left, source, normalise))
        for i, j in paired:
            (element, value), (other, said) = gold_left[i], predicted_left[j]
            found.append(Outcome(kind, element, value, said, other))
        gold_left = _without(gold_left, {i for i, _ in paired})
        predicted_left = _without(predicted_left, {j for _, j in paired})
    for element, value in predicted_left:
        kind = "spurious" if grounded(value, source) else "hallucinated"
        found.append(Outcome(kind, element, None, value, element))
    found += [Outcome("missed", element, value, None) for element, value in gold_left]
    return found


def grounded(value: str, source: str) -> bool:
    """Whether a value stands in the source, as it is or but for width, case, script, white space and how a number
    or date is written. No source: True."""
    return not source or value in source or not value.strip() or locate(value, source).kind in ("exact", "normalised")


def overlap(left: str, right: str) -> float:
    """Longest common run of characters over the longer text's length, 0 to 1."""
    from difflib import SequenceMatcher

    if not left or not right:
        return 0.0
    if left in right or right in left:
        return min(len(left), len(right)) / max(len(left), len(right))
    match = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
    return match.size / max(len(left), len(right))


def _cut_off(text: str) -> bool:
    """Whether an answer began as an object and its text ended before the object did."""
    stripped = text.strip()
    if not stripped.startswith("{"):
        return False
    try:
        json.JSONDecoder().raw_decode(stripped)
    except json.JSONDecodeError as error:
        return error.pos >= len(stripped) or error.msg.startswith("Unterminated")
    except RecursionError:
        return False
    return False


def _without(pairs: list[Pair], dropped: set[int]) -> list[Pair]:
    return [pair for i, pair in enumerate(pairs) if i not in dropped] if dropped else pairs


def _equal(
    gold: tuple[Pair, ...], predicted: tuple[Pair, ...], normalise: Normalise
) -> tuple[list[Outcome], list[Pair], list[Pair]]:
    """Equal pairs as outcomes, and what is left of both sides."""
    open_predictions: dict[Pair, list[int]] = {}
    for j, (element, value) in enumerate(predicted):
        open_predictions.setdefault((element, normalise(value)), []).append(j)
    found, gold_left, used = [], [], set()
    for element, value in gold:
        waiting = open_predictions.get((element, normalise(value)))
        if waiting:
            j = waiting.pop(0)
            used.add(j)
            found.append(Outcome("correct", element, value, predicted[j][1], element))
        else:
            gold_left.append((element, value))
    return found, gold_left, [pair for j, pair in enumerate(predicted) if j not in used]


def _duplicates(
    gold: tuple[Pair, ...], left: list[Pair], normalise: Normalise, correct: list[Outcome]
) -> tuple[list[Outcome], list[Pair]]:
    """Predictions of ``left`` that repeat one already counted (as correct or earlier in ``left``)."""
    said = Counter((o.element, normalise(o.predicted or "")) for o in correct)
    allowed = Counter((element, normalise(value)) for element, value in gold)
    repeated, kept = [], []
    for element, value in left:
        key = (element, normalise(value))
        said[key] += 1
        if said[key] > max(1, allowed[key]):
            repeated.append(Outcome("duplicate", element, None, value, element))
        else:
            kept.append((element, value))
    return repeated, kept


def _wrong_element(gold: list[Pair], predicted: list[Pair], source: str, normalise: Normalise) -> Iterator[tuple[int, int]]:
    """Same value, another element."""
    waiting: dict[str, list[int]] = {}
    for j, (_, value) in enumerate(predicted):
        waiting.setdefault(normalise(value), []).append(j)
    for i, (_, value) in enumerate(gold):
        candidates = waiting.get(normalise(value))
        if candidates:
            yield i, candidates.pop(0)


def _boundary(gold: list[Pair], predicted: list[Pair], source: str, normalise: Normalise) -> Iterator[tuple[int, int]]:
    """Same element, overlapping text: the assignment of greatest total overlap within each element."""
    for element in dict.fromkeys(e for e, _ in gold):
        ours = [i for i, (e, _) in enumerate(gold) if e == element]
        theirs = [j for j, (e, _) in enumerate(predicted) if e == element]
        if not theirs:
            continue
        weights = [[_shared(gold[i][1], predicted[j][1], source, normalise) for j in theirs] for i in ours]
        yield from ((ours[a], theirs[b]) for a, b in assign(weights))


def _shared(gold: str, predicted: str, source: str, normalise: Normalise) -> float:
    """Overlap of two values if it makes them a boundary error, else 0."""
    if source and grounded(gold, source) and not grounded(predicted, source):
        return 0.0
    left, right = normalise(gold), normalise(predicted)
    if left and right and (left in right or right in left):
        return overlap(left, right)
    return _places_overlap(gold, predicted, source) / max(len(gold), len(predicted), 1)


def _places_overlap(left: str, right: str, source: str) -> int:
    """The most characters that an occurrence of ``left`` in the source shares with one of ``right``."""
    ours, theirs = _places(left, source), _places(right, source)
    shared = (min(a + len(left), b + len(right)) - max(a, b) for a in ours for b in theirs)
    return max(0, max(shared, default=0))


def _places(value: str, source: str, at_most: int = 50) -> list[int]:
    found: list[int] = []
    start = source.find(value) if value else -1
    while start >= 0 and len(found) < at_most:
        found.append(start)
        start = source.find(value, start + 1)
    return found
