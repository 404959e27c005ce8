"""Other ways to count an extraction beside the strict one: normalised, partial, repaired.

    normalised   values are equal but for width, case, white space, script, and how a number or date in them is written
    partial      a wrong value of the right element earns its overlap with gold: longest common run of characters over the
                 longer text, by the assignment of greatest total overlap
    repaired     an unreadable answer is read as what it was probably meant as (``core.data.repair``); strict otherwise

Each adds columns to the strict statistics, so all have intervals. Knows nothing of how texts came about.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from core.data.answers import Answer, parse_answer
from core.data.normalise import narrow, to_simplified
from core.data.quantities import Quantity, find_quantities, read_quantity
from core.data.repair import propose_repair
from core.errors import SpecError
from core.evaluation.metrics.assignment import assign
from core.evaluation.metrics.error_kinds import Matched, overlap
from core.evaluation.metrics.extraction import PARTS, share
from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, labels_of

Pair = tuple[str, str]
_HAN_DIGIT = re.compile("[零〇○一二三四五六七八九两兩十拾壹贰貳叁參肆伍陆陸柒捌玖]")
_NUMBER = re.compile(
    r"(?<![0-9.])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?![0-9])[万亿萬億]?|[零〇○一二三四五六七八九两兩十百千万萬亿億拾佰仟点點壹贰貳叁參肆伍陆陸柒捌玖]+"
)
_HALF = re.compile("[\uff61-\uffdc\uffe0-\uffee]+")
"""What has another width beside ASCII: half katakana and hangul and their punctuation, full-width currency and other signs."""
_CIRCLED = re.compile("(?<![0-9⓪①-⑳㉑-㉟㊱-㊿])[⓪①-⑳㉑-㉟㊱-㊿](?![0-9⓪①-⑳㉑-㉟㊱-㊿])")
_CORNERS = {ord(corner): curly for corner, curly in zip("「」『』", "“”‘’", strict=True)}
FOLDED = {
    "width": "full and half forms as by NFKC, 。 as .",
    "script": "OpenCC TSCharacters, 「」『』 as “”‘’",
    "numbers": "Chinese, grouped, ① alone",
}
"""What the options overlook that their names leave open; other compatibility forms (², ㎡, ㈠) stay as they are written."""
_CLOCK = frozenset("年月日号號时時点點分秒")
_MONEY = frozenset("元圆圓块塊%％¥￥$€£")


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

    @property
    def folded(self) -> str:
        """``FOLDED`` of the options that are on: ``width:…|script:…``, each with a bar before it; empty where none says more."""
        return "".join(f"|{name}:{what}" for name, what in FOLDED.items() if asdict(self)[name])


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
    folded = _folded(options, value)
    if not options.numbers and not options.dates:
        return folded
    whole = read_quantity(value) or read_quantity(folded)
    if whole is not None:
        looked = options.numbers if whole.kind == "number" else options.dates
        return _said(whole, folded, 0, len(folded)) if looked else folded
    pieces, end = [], 0
    for start, stop, said in _quantities(options, folded):  # of the folded text, so that white space within a number is nothing
        pieces += [folded[end:start], said]
        end = stop
    return "".join([*pieces, folded[end:]])


def _folded(options: Normaliser, value: str) -> str:
    """A text without quantities as it is compared."""
    if options.width:
        value = narrow(_HALF.sub(lambda half: unicodedata.normalize("NFKC", half[0]), value), punctuation=True)
    if options.space:
        value = "".join(value.split())
    if options.script:
        value = value.translate(to_simplified()).translate(_CORNERS)
    if options.numbers:
        value = _CIRCLED.sub(lambda circled: unicodedata.normalize("NFKC", circled[0]), value)
    return value.casefold() if options.case else value


def _quantities(options: Normaliser, folded: str) -> list[tuple[int, int, str]]:
    """The numbers and dates within a folded value (start, end, how they are compared), in order, none over another.

    Dates go before the numbers in them. A quantity whose kind isn't overlooked stands as it is.
    """
    taken = [
        (start, end, _said(quantity, folded, start, end) if options.dates else folded[start:end])
        for quantity, start, end in find_quantities(folded)
        if quantity.kind == "date"
    ]
    for match in _NUMBER.finditer(folded) if options.numbers else ():
        if (quantity := read_quantity(match[0])) is not None and quantity.kind == "number":
            taken.append((*match.span(), _said(quantity, folded, *match.span())))
    found: list[tuple[int, int, str]] = []
    for start, end, said in taken:
        if all(end <= a or b <= start for a, b, _ in found):
            found.append((start, end, said))
    return sorted(found)


def _said(quantity: Quantity, value: str, start: int, end: int) -> str:
    """How ``value[start:end]`` is compared: as its quantity, or as it is written where its digits are a code or a word.

    Codes: a zero in front (007, but not 05月), parts of a longer row of digits (192.160.1.1). Words: 百度, 万科. Beside other
    words, zeros behind the point are dropped of sums of money and of whole numbers only: clause 3.10 isn't clause 3.1.
    """
    written, after = narrow(value[start:end]), narrow(value[end : end + 2])
    if quantity.kind == "date":
        return "-".join(map(str, quantity.value))
    digits = written.lstrip("+-")
    code = (digits[:1] == "0" and digits[1:2].isdecimal() and after[:1] not in _CLOCK) or (
        after[:1] == "." and after[1:].isdecimal()
    )
    if code or not (digits[:1].isdecimal() or _HAN_DIGIT.search(written)):
        return value[start:end]
    number = quantity.value[0]
    said = f"{number:f}" if isinstance(number, Decimal) else str(number)
    whole, point, rest = said.partition(".")
    money = after[:1] in _MONEY or narrow(value[start - 1 : start]) in _MONEY
    if money or end - start == len(value) or not rest.strip("0"):
        rest = rest.rstrip("0")
    return whole + point + rest if rest else whole


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
        if labels_of(names, f"{mode}_tp") or "normalised_exact" in names:
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
