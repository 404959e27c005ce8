"""Looks at dev while a run trains: loss of the gold answers and scores of answers that are really generated.

The model is in training before and after; in between it is only read (4-bit layers on a CPU are put back as they
were). All looks of a run are kept in ``dev.json``, so early stopping survives a resume. A torch module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.models.cpu4bit import inference
from core.models.engine import Engine
from core.models.load import LoadedModel
from core.prompts.render import stop_strings
from core.records import DatasetUse, GenerationSettings, Reporter, Task, Template, TrainSpec
from core.store.datasets import get_dataset
from core.store.files import write_json, write_text
from core.training.attention import generating_attention
from core.training.data import dev_examples, within_context
from core.training.prepare import short_adapter
from core.training.samples import SAMPLE_FILE, SAMPLES
from core.training.scores import answer_scores

LOOKS_FILE = "dev.json"


@dataclass(frozen=True)
class DevRows:
    """Rows of dev as prompts and gold answers. ``too_long``: how many of those that were chosen don't fit into ``max_length``."""

    rows: tuple[Mapping[str, Any], ...]
    prompts: tuple[Sequence[int], ...]
    golds: tuple[Sequence[int], ...]
    task: Task
    elements: tuple[str, ...]
    stop: tuple[str, ...]
    too_long: int = 0

    def report(self) -> list[str]:
        """A line for the log where rows are left out, so that the scores say nothing of such."""
        if not self.too_long:
            return []
        return [f"dev: {len(self.rows):,} rows are looked at, {self.too_long:,} longer than max_length are left out"]


def dev_rows(use: DatasetUse, spec: TrainSpec, template: Template, tokenizer: Any) -> DevRows:
    """The rows of dev that are looked at: the first ``eval_rows``, spread over it, that fit into ``max_length``."""
    dataset = get_dataset(use.dataset)
    spec = within_context(spec)
    made = list(dev_examples(use, spec, template, tokenizer))
    fitting = [found for found in made if len(found[1]) + len(found[2]) <= spec.max_length]
    rows, prompts, golds = zip(*fitting[: spec.eval_rows], strict=True) if fitting else ((), (), ())
    stop = tuple(stop_strings(template, tokenizer))
    return DevRows(rows, prompts, golds, dataset.task, dataset.elements, stop, len(made) - len(fitting))


def look(loaded: LoadedModel, dev: DevRows, most_tokens: int, reporter: Reporter) -> tuple[dict[str, float], list[str]] | None:
    """``loss`` (nats a token) and ``answer_scores`` on the rows of dev, and the answers; none if a stop was asked for."""
    device = [loaded.device] if loaded.device.type == "cuda" else []
    with ExitStack() as kept:
        kept.enter_context(torch.random.fork_rng(devices=device))
        kept.enter_context(inference(loaded.model))
        kept.enter_context(short_adapter(loaded.model, loaded.dtype))
        kept.enter_context(generating_attention(loaded.model))
        engine = kept.enter_context(Engine(loaded))
        settings = GenerationSettings(max_new_tokens=most_tokens)
        answered = engine.generate(dev.prompts, settings, stop=dev.stop, should_stop=reporter.should_stop)
        if any(answer.finish == "stopped" for answer in answered):
            return None
        scored = engine.score(dev.prompts, dev.golds, should_stop=reporter.should_stop)
    loss = sum(nll for nll, _ in scored) / max(1, sum(tokens for _, tokens in scored))
    if math.isnan(loss) and reporter.should_stop():
        return None
    texts = [answer.text for answer in answered]
    return {"loss": loss, **answer_scores(dev.rows, texts, dev.task, dev.elements)}, texts


class Looks:
    """All looks of a run in the order of steps, kept in its folder; which was best, and how long ago."""

    def __init__(self, folder: Path, metric: str, up_to_step: int = 0) -> None:
        self._folder, self._metric = folder, metric
        path = folder / LOOKS_FILE
        there = json.loads(path.read_text("utf-8")) if path.is_file() else []
        self.records: list[dict[str, float]] = [record for record in there if record["step"] <= up_to_step]
        samples = _read_lines(folder / SAMPLE_FILE)
        self._samples = [line for line in samples if json.loads(line)["step"] <= up_to_step]

    def add(self, step: int, values: Mapping[str, float], dev: DevRows, answers: Sequence[str]) -> bool:
        """Keep a look with some of its answers; says whether it is the best so far (``best`` says of ties)."""
        before = self.best()
        record = {"step": float(step), **values}
        self.records.append(record)
        for row, answer in list(zip(dev.rows, answers, strict=True))[:SAMPLES]:
            sample = {"step": step, **{k: row[k] for k in ("row_id", "input", "output")}, "prediction": answer}
            self._samples.append(json.dumps(sample, ensure_ascii=False))
        write_json(self._folder / LOOKS_FILE, self.records)
        write_text(self._folder / SAMPLE_FILE, "".join(f"{line}\n" for line in self._samples))
        return before is None or self._gain(record) > self._gain(before)

    @property
    def steps(self) -> set[int]:
        """The steps after which dev was looked at."""
        return {int(record["step"]) for record in self.records}

    def best(self) -> dict[str, float] | None:
        """The best look by the run's metric; none before the first.

        Of equal ones the lower loss wins, so that looks before the first right answer (all 0) neither end a training
        nor leave its least trained checkpoint; then the earlier one.
        """
        return max(self.records, key=lambda record: (self._gain(record), -record["step"])) if self.records else None

    def since_best(self) -> int:
        """Looks after the best one."""
        best = self.best()
        return 0 if best is None else sum(record["step"] > best["step"] for record in self.records)

    def _gain(self, record: Mapping[str, float]) -> tuple[float, float]:
        return 0.0 if self._metric == "loss" else record[self._metric], -record["loss"]


def _read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.is_file() else []
