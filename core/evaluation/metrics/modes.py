"""Other ways to count an extraction beside the strict one: normalised, partial, repaired.

    normalised   values are equal but for width, case, white space, script, and how a number or date is written
    partial      a wrong value of the right element earns its overlap with gold: longest common run of characters over the
                 longer text, by the assignment of greatest total overlap
    repaired     an unreadable answer is read as what it was probably meant as (``core.data.repair``); strict otherwise

Each adds columns to the strict statistics, so all have intervals. Knows nothing of how texts came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from core.data.answers import Answer, parse_answer
from core.data.normalise import narrow, to_simplified
from core.data.quantities import read_quantity
from core.data.repair import propose_repair
from core.errors import SpecError
from core.evaluation.metrics.assignment import assign
from core.evaluation.metrics.error_kinds import Matched, overlap
from core.evaluation.metrics.extraction import PARTS, share
from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, labels_of

Pair = tuple[str, str]


@dataclass(frozen=True)
class Normaliser:
    """Which differences between values don't count. All by default."""

    width: bool = True
    case: bool = True
    space: bool = True
    script: bool = True
    numbers: bool = True
    dates: bool = True

    def __call__(self, value: str) -> str:
        """What a value is compared as."""
        return _normalised(self, value)

    @property
    def signature(self) -> str:
        """The options that are on."""
        return ",".join(name for name, on in asdict(self).items() if on) or "none"


def read_normaliser(text: str) -> Normaliser:
    """The normaliser whose options are named, separated by commas; ``none``: no option. SpecError for another name."""
    named = {name.strip() for name in text.split(",")} - {"", "none"}
    options = tuple(asdict(Normaliser()))
    if named - set(options):
        raise SpecError(
            f"Nothing is normalised by {', '.join(sorted(named - set(options)))}", f"Options: {', '.join(options)}; or none."
        )
    return Normaliser(**{name: name in named for name in options})


@lru_cache(maxsize=65_536)
def _normalised(options: Normaliser, value: str) -> str:
    quantity = read_quantity(value) if options.numbers or options.dates else None
    if quantity is not None and (options.numbers if quantity.kind == "number" else options.dates):
        parts = (f"{part.normalize():f}" if isinstance(part, Decimal) else str(part) for part in quantity.value)
        return f"{quantity.kind} {' '.join(parts)}"
    if options.width:
        value = narrow(value, punctuation=True)
    if options.space:
        value = "".join(value.split())
    if options.script:
        value = value.translate(to_simplified())
    return value.casefold() if options.case else value


def normalised_hits(gold: Answer, predicted: Answer, normalise: Callable[[str], str]) -> Counter[str]:
    """Pairs that are equal once normalised, by element (lists as multisets)."""
    ours = Counter((element, normalise(value)) for element, value in gold.pairs)
    theirs = Counter((element, normalise(value)) for element, value in predicted.pairs)
    hits: Counter[str] = Counter()
    for (element, _), count in (ours & theirs).items():
        hits[element] += count
    return hits


def partial_credit(gold: Answer, predicted: Answer) -> dict[str, float]:
    """Credit of each element: 1 for an equal pair, overlap for the others' best assignment."""
    both = Counter(gold.pairs) & Counter(predicted.pairs)
    credit: dict[str, float] = {}
    for (element, _), count in both.items():
        credit[element] = credit.get(element, 0.0) + count
    left, right = Counter(gold.pairs) - both, Counter(predicted.pairs) - both
    for element in {e for e, _ in left} & {e for e, _ in right}:
        ours = [value for e, value in left.elements() if e == element]
        theirs = [value for e, value in right.elements() if e == element]
        weights = [[overlap(a, b) for b in theirs] for a in ours]
        credit[element] = credit.get(element, 0.0) + sum(weights[i][j] for i, j in assign(weights))
    return credit


def repair(prediction: str, predicted: Answer) -> str | None:
    """What an unreadable prediction was probably meant as; nothing if it can be read or there is no way to tell."""
    return None if predicted.ok else propose_repair(prediction)


def row_statistics(
    matched: Sequence[Matched], repairs: Sequence[str | None], strict: Statistics, normalise: Normaliser
) -> Statistics:
    """Columns ``normalised_tp:E``, ``partial_tp:E``, ``normalised_exact``, and ``repaired_…`` (``tp``, ``predicted``, ``exact``,
    ``valid``, ``rows``) of each row, for the elements of the strict statistics."""
    elements = labels_of(strict.names, "tp")
    lines = []
    for row, repaired in zip(matched, repairs, strict=True):
        hits = normalised_hits(row.gold, row.predicted, normalise)
        equal = row.gold.ok and row.predicted.ok and sum(hits.values()) == len(row.gold.pairs) == len(row.predicted.pairs)
        line: dict[str, float] = {f"normalised_tp:{element}": count for element, count in hits.items()}
        line |= {f"partial_tp:{element}": credit for element, credit in partial_credit(row.gold, row.predicted).items()}
        line["normalised_exact"] = float(equal)
        lines.append(line | _repaired(row, repaired))
    names = [f"{mode}_tp:{element}" for mode in ("normalised", "partial") for element in elements]
    names += ["normalised_exact", *(f"repaired_{name}" for name in ("tp:all", "predicted:all", "exact", "valid", "rows"))]
    return Statistics.from_rows(lines, names)


def _repaired(row: Matched, repaired: str | None) -> dict[str, float]:
    answer = row.predicted if repaired is None else parse_answer(repaired)
    hits = Counter(row.gold.pairs) & Counter(answer.pairs)
    return {
        "repaired_tp:all": hits.total(),
        "repaired_predicted:all": len(answer.pairs),
        "repaired_exact": float(row.gold.ok and answer.ok and Counter(row.gold.pairs) == Counter(answer.pairs)),
        "repaired_valid": float(answer.ok),
        "repaired_rows": float(repaired is not None),
    }


def micro(mode: str, part: str) -> Metric:
    """``precision``, ``recall`` or ``f1`` over all pairs, counted by a mode."""
    predicted = "repaired_predicted" if mode == "repaired" else "predicted"

    def metric(sums: Sums) -> Floats:
        return PARTS[part](*(sums.group(kind).sum(axis=-1) for kind in (f"{mode}_tp", predicted, "gold")))

    return metric


def of_element(mode: str, element: str) -> Metric:
    """F1 of one element, counted by a mode."""
    return lambda sums: PARTS["f1"](sums[f"{mode}_tp:{element}"], sums[f"predicted:{element}"], sums[f"gold:{element}"])


def metrics(names: Collection[str]) -> dict[str, Metric]:
    """``normalised_micro_f1``, ``partial_micro_f1``, ``repaired_micro_f1`` and their like, as far as the columns allow."""
    found: dict[str, Metric] = {}
    for mode in ("normalised", "partial", "repaired"):
        if labels_of(names, f"{mode}_tp"):
            found |= {f"{mode}_micro_{part}": micro(mode, part) for part in PARTS}
    if "normalised_exact" in names:
        found["normalised_exact_match"] = share("normalised_exact")
    if "repaired_exact" in names:
        found |= {"repaired_exact_match": share("repaired_exact"), "repaired_json_valid": share("repaired_valid")}
    for mode in ("normalised", "partial"):
        found |= {f"{mode}_f1:{element}": of_element(mode, element) for element in labels_of(names, f"{mode}_tp")}
    return found


def scores(statistics: Statistics) -> dict[str, Any]:
    """Keys ``normalised``, ``partial`` and ``repaired`` of the scores, each with ``micro``."""
    sums = statistics.sums()
    elements = labels_of(statistics.names, "tp")
    found: dict[str, Any] = {
        mode: {"micro": {part: float(micro(mode, part)(sums)) for part in PARTS}}
        for mode in ("normalised", "partial", "repaired")
    }
    for mode in ("normalised", "partial"):
        found[mode]["per_element"] = {element: {"f1": float(of_element(mode, element)(sums))} for element in elements}
    found["normalised"]["exact_match"] = float(share("normalised_exact")(sums))
    found["repaired"] |= {
        "exact_match": float(share("repaired_exact")(sums)),
        "json_valid": float(share("repaired_valid")(sums)),
        "rows_repaired": int(sums["repaired_rows"]),
    }
    return found
