"""Scores of free text against one reference: corpus BLEU and chrF, from sacreBLEU's statistics of each row.

The tokeniser of BLEU is ``zh`` if any reference holds Han characters, else ``13a`` (sacreBLEU's default gives
identical Chinese sentences 0). The aggregation is sacreBLEU's own formula (Papineni et al. 2002 with exponential
smoothing, Post 2018; chrF: Popović 2015), written for many sums at once; tests hold it to sacreBLEU's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, ratio

_HAN = re.compile(r"[\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
BLEU_NAMES = ("sys_length", "ref_length", *(f"correct{n}" for n in range(1, 5)), *(f"total{n}" for n in range(1, 5)))
CHRF_NAMES = tuple(f"{kind}{n}" for n in range(1, 7) for kind in ("hyp", "ref", "match"))


def has_han(text: str) -> bool:
    """Whether a text holds a Han character."""
    return _HAN.search(text) is not None


def bleu_tokeniser(references: Sequence[str]) -> str:
    """The tokeniser for these references: ``zh`` or ``13a``."""
    return "zh" if any(map(has_han, references)) else "13a"


def bleu_statistics(predictions: Sequence[str], references: Sequence[str], tokeniser: str) -> Statistics:
    """Columns ``bleu:…``: lengths, matched and total n-grams of orders 1 to 4 of each row."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize=tokeniser, force=True)
    lines = metric._extract_corpus_statistics(list(predictions), [list(references)]) if predictions else []
    return Statistics(tuple(f"bleu:{name}" for name in BLEU_NAMES), np.array(lines, float).reshape(-1, len(BLEU_NAMES)))


def chrf_statistics(predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Columns ``chrf:…``: character n-grams of orders 1 to 6 of prediction, reference and both, of each row."""
    from sacrebleu.metrics.chrf import CHRF

    lines = CHRF()._extract_corpus_statistics(list(predictions), [list(references)]) if predictions else []
    return Statistics(tuple(f"chrf:{name}" for name in CHRF_NAMES), np.array(lines, float).reshape(-1, len(CHRF_NAMES)))


def bleu(sums: Sums) -> Floats:
    """Corpus BLEU, 0 to 100, shape (...)."""
    system, reference = sums["bleu:sys_length"], sums["bleu:ref_length"]
    correct = np.stack([sums[f"bleu:correct{n}"] for n in range(1, 5)], axis=-1)
    total = np.stack([sums[f"bleu:total{n}"] for n in range(1, 5)], axis=-1)
    misses = np.cumsum((correct == 0) & (total > 0), axis=-1)  # each order without a match halves the next one's floor
    precisions = np.where(correct > 0, ratio(correct, total), ratio(np.exp2(-misses), total))
    scored = (correct.sum(axis=-1) > 0) & (total > 0).all(axis=-1)
    logs = np.log(np.where(scored[..., None], precisions, 1.0)).mean(axis=-1)
    brevity = np.minimum(0.0, 1 - np.divide(reference, system, out=np.ones_like(system), where=system > 0))
    result: Floats = np.where(scored, 100 * np.exp(logs + brevity), 0.0)
    return result


def chrf(sums: Sums) -> Floats:
    """Corpus chrF2, 0 to 100, shape (...): F with beta 2 of mean precision and recall over the orders that both have."""
    hyp, ref, match = (np.stack([sums[f"chrf:{kind}{n}"] for n in range(1, 7)], axis=-1) for kind in ("hyp", "ref", "match"))
    both = (hyp > 0) & (ref > 0)
    orders = both.sum(axis=-1).astype(float)
    precision = ratio((ratio(match, hyp) * both).sum(axis=-1), orders)
    recall = ratio((ratio(match, ref) * both).sum(axis=-1), orders)
    return 100 * ratio(5 * precision * recall, 4 * precision + recall)


def metrics(names: Collection[str]) -> dict[str, Metric]:
    """The metrics that these columns allow."""
    found: dict[str, Metric] = {}
    if "bleu:sys_length" in names:
        found["bleu"] = bleu
    if "chrf:hyp1" in names:
        found["chrf"] = chrf
    return found


def signature(tokeniser: str) -> dict[str, str]:
    """How the two are computed, in sacreBLEU's own words."""
    import sacrebleu

    version = sacrebleu.__version__
    return {
        "bleu": f"nrefs:1|case:mixed|eff:no|tok:{tokeniser}|smooth:exp|version:{version}",
        "chrf": f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}",
    }
