"""The same scores as ``evaluate.Metric`` objects, for code that is written against Hugging Face's ``evaluate``.

No network: the classes are made here, not loaded by name from a hub. ``evaluate`` (which imports torch) is imported when
one is asked for. Nothing is computed here: all goes through ``core.evaluation.scoring`` and ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import NotFoundError
from core.evaluation.metrics import generation, perplexity, rouge
from core.evaluation.scoring import score_frame

Compute = Callable[..., dict[str, Any]]


def load_metric(name: str, *, cache: Path | None = None) -> Any:
    """An ``evaluate.Metric`` by name: ``extraction``, ``classification``, ``bleu``, ``chrf``, ``rouge_l`` or ``perplexity``.

    ``compute(predictions=…, references=…)`` of texts gives the keys of the command ``score``; extraction takes
    ``elements=…`` and ``inputs=…`` (source texts, for hallucinated values) beside. ``perplexity`` takes ``nll`` (nats) and
    ``tokens`` of each row. ``cache``: folder of evaluate's own files. NotFoundError for another name.
    """
    import datasets
    import evaluate

    if name not in _METRICS:
        raise NotFoundError(f"There is no metric {name!r}", f"Metrics: {', '.join(_METRICS)}.")
    compute, kinds, text = _METRICS[name]
    features = datasets.Features({key: datasets.Value(kind) for key, kind in kinds.items()})

    class Metric(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            return evaluate.MetricInfo(description=text, citation="", inputs_description=text, features=features)

        def _compute(self, **columns: Any) -> dict[str, Any]:
            return compute(**columns)

    Metric.__name__ = Metric.__qualname__ = f"Tunewise{name.capitalize()}"
    return Metric(config_name=name, keep_in_memory=True, cache_dir=str(cache) if cache else None)


def _texts(
    task: Any,
    predictions: Sequence[str],
    references: Sequence[str],
    elements: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
) -> dict[str, Any]:
    frame = {"input": list(inputs or [""] * len(predictions)), "output": references, "prediction": predictions}
    return score_frame(frame, task, elements, with_intervals=False).scores


def _bleu(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    tokeniser = generation.bleu_tokeniser(references)
    value = generation.bleu(generation.bleu_statistics(predictions, references, tokeniser).sums())
    return {"bleu": float(value), "signature": generation.signature(tokeniser)["bleu"]}


def _chrf(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    value = generation.chrf(generation.chrf_statistics(predictions, references).sums())
    return {"chrf": float(value), "signature": generation.signature("13a")["chrf"]}


def _rouge_l(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    values = rouge.row_statistics(predictions, references).values
    return {"rouge_l": float(values.mean()) if values.size else 0.0, "signature": rouge.SIGNATURE}


def _perplexity(nll: Sequence[float], tokens: Sequence[int]) -> dict[str, Any]:
    statistics = perplexity.row_statistics({"nll": nll, "nll_tokens": tokens})
    return {"perplexity": float(perplexity.perplexity(statistics.sums())), "tokens": int(sum(tokens))}


_TEXTS = {"predictions": "string", "references": "string"}
_METRICS: Mapping[str, tuple[Compute, Mapping[str, str], str]] = {
    "extraction": (
        partial(_texts, "extraction"),
        _TEXTS,
        "Strict precision, recall and F1 over (element, value) pairs of JSON answers, with error kinds.",
    ),
    "classification": (partial(_texts, "classification"), _TEXTS, "Accuracy and macro-F1 of labels read from free text."),
    "bleu": (_bleu, _TEXTS, "Corpus sacreBLEU, tokeniser zh if any reference holds Han characters, else 13a."),
    "chrf": (_chrf, _TEXTS, "Corpus chrF2 as sacreBLEU computes it."),
    "rouge_l": (_rouge_l, _TEXTS, "Mean F1 of the rows' longest common subsequences; Chinese by characters, else by words."),
    "perplexity": (
        _perplexity,
        {"nll": "float64", "tokens": "int64"},
        "Token-weighted perplexity from summed negative log likelihoods (nats) and token counts of rows.",
    ),
}
