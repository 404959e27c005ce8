"""Do merged weights answer like the adapter they were made of? The same rows by both, and how sure the difference is.

Differences have the paired interval of two arms (``core.evaluation.statistics``). Torch is imported where models answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, ratio
from core.evaluation.scoring import metrics_of as score_metrics
from core.evaluation.scoring import rate_differences
from core.evaluation.statistics import paired, wilson
from core.evaluation.unvaried import widened_differences
from core.models.tokenizer import load_tokenizer
from core.prompts.examples import IGNORED, Example
from core.prompts.render import stop_strings
from core.records import GenerationSettings, ModelRef, Quantisation, Reporter, Run, TrainSpec
from core.store.datasets import get_dataset, get_version, read_rows
from core.training.artefacts import result_folder
from core.training.data import examples_of, last_answer
from core.training.looking import LOOK_SECONDS
from core.training.scores import micro_name, scored_answers, scores_of

CHECKED_ROWS = 16
OFFERED_ROWS, MOST_ROWS = 32, 512
"""Rows that a page offers to compare, and the most that it lets anybody choose."""
PARITY_HEADINGS = ("micro-F1", "difference [95 %]", "exact match", "loss", "difference [95 %]", "same answers as the adapter")
WAYS = {"merged": "The merged weights in bf16", "merged_nf4": "The merged weights loaded in 4 bits"}
FORMATS: dict[Quantisation, str] = {"nf4": "4 bits (nf4)", "int8": "8 bits (int8)"}


def go_on(reporter: Reporter) -> None:
    """Raise a UserError where a stop was asked for: nothing of an export is kept then."""
    if reporter.should_stop():
        raise UserError("The export was stopped", "Nothing of it was written; start it again.")


def parity(run: Run, merged: Path, rows: int, reporter: Reporter) -> dict[str, dict[str, float]]:
    """Adapter, merged and merged in 4 bits on the same rows: ``loss`` (nats a token) of the gold answers, scores of greedy ones.

    ``same_as_adapter`` is the share of equal answers; ``loss_difference`` and ``micro_f1_difference`` are against the
    adapter, each with the ends of its paired 95 % interval, ``…_low`` and ``…_high``. Rows are the run's dev rows, else the
    first it was trained on.
    """
    examples, gold = _checked_examples(run, rows)
    dataset = get_dataset((run.spec.dev or run.spec.data[0]).dataset)
    prompts = [example.input_ids[: example.prompt] for example in examples]
    answers = [[token for token in example.labels[example.prompt :] if token != IGNORED] for example in examples]
    longest = max(map(len, answers)) + 16
    base = run.spec.model.model_copy(update={"quantisation": base_format(run.spec)})
    whole = ModelRef(source="path", name=str(merged), dtype="bfloat16")
    ways = {
        "adapter": (base, result_folder(run)),
        "merged": (whole, None),
        "merged_nf4": (whole.model_copy(update={"quantisation": "nf4"}), None),
    }
    found: dict[str, dict[str, float]] = {}
    texts: dict[str, list[str]] = {}
    counted: dict[str, Statistics] = {}
    for name, (reference, adapter) in ways.items():
        go_on(reporter)
        reporter.progress(len(found), len(ways), unit="models", message=f"answering {len(prompts)} rows: {name}")
        losses, texts[name] = _answer(run, reference, adapter, prompts, answers, longest)
        same = sum(a == b for a, b in zip(texts[name], texts["adapter"], strict=True)) / len(prompts)
        scored = scored_answers(gold, texts[name], dataset.task, dataset.elements)
        counted[name] = scored.statistics.beside(Statistics(("gold_nll", "gold_tokens"), np.array(losses, np.float64)))
        loss = float(_loss(counted[name].sums()))
        found[name] = {"loss": loss, "same_as_adapter": same, "rows": float(len(prompts)), **scores_of(scored, dataset.task)}
        found[name] |= differences(counted["adapter"], counted[name])
    return found


def comparable_rows(run: Run) -> int:
    """How many rows there are to compare merged weights on: the run's dev rows, else those it was trained on."""
    use = run.spec.dev or run.spec.data[0]
    version = get_version(use.dataset, use.version)
    rows = version.split_sizes.get(use.split, 0)
    return rows if use.limit is None else min(rows, use.limit)


def seconds_to_compare(run: Run, rows: int) -> float | None:
    """About how long ``rows`` take, each answered in three ways, by what a row took at the run's looks at dev; none without."""
    look = run.summary.get(LOOK_SECONDS)
    looked_at = min(run.spec.eval_rows, comparable_rows(run)) if run.spec.dev else 0
    return 3 * rows * look / looked_at if look and looked_at else None


def differences(adapter: Statistics, other: Statistics) -> dict[str, float]:
    """``micro_f1`` and ``loss`` of ``other`` minus those of the adapter: ``…_difference`` with ``…_low`` and ``…_high`` (95 %).

    Both have the same rows, the scores' columns, and ``gold_nll`` and ``gold_tokens``.
    """
    by_name = score_metrics({*adapter.names, *other.names})
    micro = micro_name(by_name)
    metrics: dict[str, Metric] = {"micro_f1": by_name[micro], "loss": _loss}
    shares = rate_differences(adapter, other, {micro: by_name[micro]})  # none for the micro-F1 of an extraction
    found: dict[str, float] = {}
    drawn = widened_differences(paired(adapter, other, metrics), adapter, other)
    for name, (value, low, high, _) in drawn.items():
        if name == "micro_f1" and micro in shares:
            low, high = shares[micro]
        found |= {f"{name}_difference": value, f"{name}_difference_low": low, f"{name}_difference_high": high}
    return found


def parity_lines(found: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """A parity report as a table: the weights, then a column for each of ``PARITY_HEADINGS``."""
    return [
        (
            name,
            f"{v['micro_f1']:.3f}",
            "" if name == "adapter" else _told(v, "micro_f1", 3),
            f"{v['exact_match']:.3f}",
            f"{v['loss']:.4f}",
            "" if name == "adapter" else _told(v, "loss", 4),
            f"{v['same_as_adapter']:.0%}",
        )
        for name, v in found.items()
    ]


def base_format(spec: TrainSpec) -> Quantisation:
    """The number format of the base that an adapter was trained on: of QLoRA nf4, else what the model names."""
    return "nf4" if spec.method == "qlora" else spec.model.quantisation


def by_nature(trained_on: Quantisation) -> str:
    """Why merged weights differ from an adapter that was trained on a quantised base; empty on one that wasn't."""
    if trained_on == "none":
        return ""
    return (
        f"The adapter was trained on a base in {FORMATS[trained_on]}; merged, it stands on the bf16 base, whose numbers are not "
        "quite those that it learnt to correct. Some difference is therefore in the nature of such a merge and no fault of this "
        "one."
    )


def parity_words(found: Mapping[str, Mapping[str, float]], trained_on: Quantisation) -> tuple[str, ...]:
    """What a parity report says, in sentences: how the merged weights compare, and how sure that is.

    ``trained_on``: the format of the adapter's base (``base_format``).
    """
    adapter = found["adapter"]
    rows, said = round(adapter["rows"]), []
    if not any(values["micro_f1"] for values in found.values()):
        said.append(f"On the same {rows} rows nobody found a value, so only the loss tells how the merged weights compare.")
    else:
        said += [f"{words} {_finding(found[name], rows)}" for name, words in WAYS.items() if name in found]
    return (*said, nature) if (nature := by_nature(trained_on)) else tuple(said)


def _finding(v: Mapping[str, float], rows: int) -> str:
    told, key = _told(v, "micro_f1", 3), "micro_f1_difference"
    if v["same_as_adapter"] == 1:
        most = wilson(0, rows).high
        return f"answer all of the same {rows} rows as the adapter does, so at most {most:.0%} of such rows can differ (95 %)."
    if f"{key}_low" not in v:
        return f"differ by {told} of micro-F1 on the same {rows} rows; how sure that is was not kept with this export."
    if v[f"{key}_high"] < 0:
        return f"clearly lose micro-F1 on the same {rows} rows: {told}."
    if v[f"{key}_low"] > 0:
        return f"clearly gain micro-F1 on the same {rows} rows: {told}."
    return f"show no clear difference in micro-F1 on the same {rows} rows: {told}. More rows would tell more."


def _told(v: Mapping[str, float], name: str, digits: int) -> str:
    """A difference with its interval; without one where an older export kept none."""
    key = f"{name}_difference"
    if f"{key}_low" not in v:
        return f"{v[key]:+.{digits}f}"
    return f"{v[key]:+.{digits}f} [{v[f'{key}_low']:+.{digits}f}, {v[f'{key}_high']:+.{digits}f}]"


def _loss(sums: Sums) -> Floats:
    return ratio(sums["gold_nll"], sums["gold_tokens"])


def _checked_examples(run: Run, rows: int) -> tuple[list[Example], list[Mapping[str, Any]]]:
    """Rows to compare on, as examples and as they are scored."""
    use = run.spec.dev or run.spec.data[0]
    use = use.model_copy(update={"limit": rows})
    made = examples_of(use, run.spec, run.template, load_tokenizer(run.spec.model))
    examples = [example for example in made if isinstance(example, Example)]
    if not examples:
        raise UserError("No row is left to compare the merged weights on", "Export with --check 0.")
    by_id = {row["row_id"]: row for row in read_rows(use.dataset, use.version, split=use.split, limit=rows).to_pylist()}
    gold = [by_id[example.row_id] for example in examples]
    return examples, [row | {"output": last_answer(row)} for row in gold]


def _answer(
    run: Run,
    reference: ModelRef,
    adapter: Path | None,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    longest: int,
) -> tuple[list[tuple[float, int]], list[str]]:
    """Of each row the gold answer's negative log-likelihood in nats with its tokens, and the greedy answer."""
    from core.models.engine import Engine
    from core.models.load import load_model

    stop = tuple(stop_strings(run.template, load_tokenizer(run.spec.model)))
    with Engine(load_model(reference)) as engine:
        if adapter is not None:
            engine.attach(run.run_id, adapter)
        name = None if adapter is None else run.run_id
        scored = engine.score(prompts, answers, adapter=name)
        answered = engine.generate(prompts, GenerationSettings(max_new_tokens=longest), adapter=name, stop=stop)
    return list(scored), [answer.text for answer in answered]
