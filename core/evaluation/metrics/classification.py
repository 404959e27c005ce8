"""Classification scores: a label read out of free text, accuracy, balanced accuracy, macro-F1, confusion matrix.

The label of an answer, by the first rule that gives one: the whole text is a label; it is a JSON object or string of one
value that is a label; its first line is a label; exactly one label occurs in it (a label inside a longer one that occurs
there doesn't count; labels in Latin script only as whole words). Compared without case, width, outer white space, quotes and
punctuation. Otherwise there is no label: always wrong, and no class of its own. Knows nothing of extraction.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from core.data.answers import parse_answer
from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, labels_of, ratio

NO_LABEL = ""
_OUTER = " \t\r\n\"'`*.,:;!?，。：；！？、“”‘’「」《》()（）[]【】{}"


def fold(text: str) -> str:
    """A text as labels are compared: NFKC, case folded, white space runs as one space, outer marks gone."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip(_OUTER)


class LabelReader:
    """Reads labels out of answers by the module's rule. ``labels`` are the classes, as they are shown."""

    def __init__(self, labels: Collection[str]) -> None:
        self.labels = tuple(dict.fromkeys(labels))
        self._folded: dict[str, str] = {}
        for label in self.labels:
            self._folded.setdefault(fold(label), label)
        ordered = sorted((f for f in self._folded if f), key=lambda f: (-len(f), f))
        self._anywhere = re.compile("|".join(_bounded(f) for f in ordered)) if ordered else None

    def read(self, text: str) -> str:
        """The label of an answer, or ``NO_LABEL``."""
        if text in self.labels:
            return text
        for candidate in (text, *_json_values(text), text.strip().partition("\n")[0]):
            label = self._folded.get(fold(candidate))
            if label is not None and fold(candidate):
                return label
        if self._anywhere is None:
            return NO_LABEL
        found = {match.group() for match in self._anywhere.finditer(fold(text))}
        return self._folded[found.pop()] if len(found) == 1 else NO_LABEL


def _bounded(folded: str) -> str:
    """A pattern for a folded label; ends in Latin letters or digits must be ends of words."""
    start = r"(?<![0-9a-z_])" if re.match(r"[0-9a-z_]", folded) else ""
    end = r"(?![0-9a-z_])" if re.search(r"[0-9a-z_]$", folded) else ""
    return start + re.escape(folded) + end


def _json_values(text: str) -> list[str]:
    """The one value of a JSON answer, if it has one."""
    pairs = parse_answer(text).pairs
    return [pairs[0][1]] if len(pairs) == 1 else []


def gold_label(text: str) -> str:
    """The label that a gold answer stands for: its one JSON value if it is such an object, else the text without outer space."""
    return (_json_values(text) or [text.strip()])[0]


def row_statistics(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Statistics:
    """Columns ``rows``, ``correct``, ``unreadable``, and ``hit:L``, ``said:L``, ``is:L`` of each label."""
    lines = []
    for g, p in zip(gold, predicted, strict=True):
        right = g == p and g != NO_LABEL
        line: dict[str, float] = {"rows": 1, "correct": float(right)}
        line |= {} if g == NO_LABEL else {f"is:{g}": 1}
        line |= {"unreadable": 1} if p == NO_LABEL else {f"said:{p}": 1}
        line |= {f"hit:{g}": 1} if right else {}
        lines.append(line)
    names = ["rows", "correct", "unreadable"] + [f"{kind}:{label}" for kind in ("hit", "said", "is") for label in labels]
    return Statistics.from_rows(lines, names)


def accuracy(sums: Sums) -> Floats:
    """Share of rows whose label is right."""
    return ratio(sums["correct"], sums["rows"])


def macro_f1(sums: Sums) -> Floats:
    """Mean F1 of the labels that occur in gold or predictions."""
    hit, said, gold = (sums.group(kind) for kind in ("hit", "said", "is"))
    return ratio(ratio(2 * hit, said + gold).sum(axis=-1), np.asarray((said + gold > 0).sum(axis=-1), float))


def balanced_accuracy(sums: Sums) -> Floats:
    """Mean recall of the labels that occur in gold."""
    hit, gold = sums.group("hit"), sums.group("is")
    return ratio(ratio(hit, gold).sum(axis=-1), np.asarray((gold > 0).sum(axis=-1), float))


def metrics(names: Collection[str]) -> dict[str, Metric]:
    """The metrics that these columns allow; ``f1:L`` for each label."""
    labels = labels_of(names, "is")
    if not labels and "unreadable" not in names:
        return {}
    found: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1, "balanced_accuracy": balanced_accuracy}
    return found | {f"f1:{label}": _label_f1(label) for label in labels}


def _label_f1(label: str) -> Metric:
    return lambda sums: ratio(2 * sums[f"hit:{label}"], sums[f"said:{label}"] + sums[f"is:{label}"])


def scores(statistics: Statistics, gold: Sequence[str], predicted: Sequence[str]) -> dict[str, Any]:
    """The fixed keys of ``score`` for classification, per-label counts and the confusion matrix.

    ``confusion``: ``labels`` (gold, lines), ``predicted`` (columns; the last, ``""``, is no label) and ``counts``.
    """
    sums = statistics.sums()
    labels = sums.labels("is")
    place = {label: i for i, label in enumerate((*labels, NO_LABEL))}
    counts = np.zeros((len(labels), len(labels) + 1), int)
    for g, p in zip(gold, predicted, strict=True):
        if g != NO_LABEL:
            counts[place[g], place[p]] += 1
    hit, said, is_ = (sums.group(kind) for kind in ("hit", "said", "is"))
    per_label = np.stack([ratio(hit, said), ratio(hit, is_), ratio(2 * hit, said + is_), is_], axis=-1)
    return {
        "rows": statistics.rows,
        "accuracy": float(accuracy(sums)),
        "macro_f1": float(macro_f1(sums)),
        "balanced_accuracy": float(balanced_accuracy(sums)),
        "unreadable": int(sums["unreadable"]),
        "per_label": {
            label: dict(zip(("precision", "recall", "f1", "gold"), map(float, line), strict=True))
            for label, line in zip(labels, per_label, strict=True)
        },
        "confusion": {"labels": list(labels), "predicted": [*labels, NO_LABEL], "counts": counts.tolist()},
    }
