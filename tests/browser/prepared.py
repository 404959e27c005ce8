"""A full workspace to look at: the samples, imported and cleaned; a finished run; three evaluations; a conversation.

Everything goes through core's functions and the store. No model answers: the predictions are made out of the
gold answers by seeded faults of the kinds that models make, so that every chart has something to show.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pyarrow as pa

from core.demo import CLASSIFICATION, EXTRACTION, clean_samples, load_samples
from core.evaluation import artefacts
from core.evaluation.runner import finish
from core.prompts.templates import find_template
from core.records import (
    Arm,
    Conversation,
    DatasetUse,
    Evaluation,
    EvaluationSpec,
    ModelRef,
    Progress,
    Run,
    TrainSpec,
    Turn,
    new_id,
    now,
)
from core.store.database import forget_engines
from core.store.datasets import get_dataset, read_rows
from core.store.files import write_json, write_text
from core.store.jobs import add_job, add_metrics, change_job, log_path
from core.store.runs import run_folder, save_conversation, save_run

STEPS = 50
ELEMENTS = ("person", "organization", "position", "date", "place", "amount")


def prepare(workspace: Path) -> Path:
    """Fill a workspace and return it; leaves this process's own workspace alone."""
    with mock.patch.dict(os.environ, {"TUNEWISE_WORKSPACE": str(workspace)}):
        os.environ.pop("TUNEWISE_DATABASE_URL", None)
        forget_engines()
        try:
            load_samples()
            version = clean_samples(lambda text: None).number
            run = _run("demo-qlora", version)
            _evaluation("prompt alone", version, None, quality=0.15, seed=1)
            _evaluation("three examples", version, None, quality=0.4, seed=2, shots=3)
            _evaluation("demo-qlora", version, run, quality=0.85, seed=3)
            for name, right, seed in (("labels in the prompt", 0.55, 4), ("three labelled examples", 0.8, 5)):
                _intents(name, right, seed)
            _conversation(run)
        finally:
            forget_engines()
    return workspace


def _run(name: str, version: int) -> str:
    data = (DatasetUse(dataset=EXTRACTION, version=version, limit=400),)
    spec = TrainSpec(
        name=name, model=ModelRef(quantisation="nf4"), data=data, max_steps=STEPS, learning_rate=1e-3, max_length=256
    )
    run_id = new_id("run")
    job = add_job("train", {"run": run_id}, title=f"Train {name}", subject=run_id)
    rng = random.Random(5)
    steps = [(step, _step(step, rng)) for step in range(1, STEPS + 1)]
    looks = [
        (step, {"dev_loss": 0.2 + 1.4 * math.exp(-step / 12), "dev_micro_f1": 0.88 * (1 - math.exp(-step / 14))})
        for step in (10, 20, 30, 40, 50)
    ]
    add_metrics(job.job_id, steps)
    add_metrics(job.job_id, looks)
    save_run(
        Run(
            run_id=run_id,
            name=name,
            spec=spec,
            template=find_template("chat"),
            job_id=job.job_id,
            data_versions={EXTRACTION: (version,)},
            trained_rows=400,
            dropped_rows=3,
            steps=STEPS,
            seconds=361.0,
            summary={"loss": 0.11, "dev_loss": 0.23},
            complete=True,
        )
    )
    _finish(job.job_id, STEPS, "steps", seconds=361)
    write_json(run_folder(run_id) / "adapter" / "adapter_config.json", {"r": 16, "lora_alpha": 32})
    write_json(run_folder(run_id) / "manifest.json", {"run_id": run_id})
    write_text(log_path(job.job_id), "".join(f"step {step} of {STEPS}, loss {values['loss']:.3f}\n" for step, values in steps))
    return run_id


def _step(step: int, rng: random.Random) -> dict[str, float]:
    return {
        "loss": 0.1 + 1.5 * math.exp(-step / 9) * rng.uniform(0.8, 1.2),
        "learning_rate": 1e-3 * 0.5 * (1 + math.cos(math.pi * step / STEPS)),
        "tokens_per_second": 136 + rng.uniform(-6, 6),
        "grad_norm": rng.uniform(0.6, 1.8),
    }


def _evaluation(name: str, version: int, run: str | None, *, quality: float, seed: int, shots: int = 0) -> str:
    table = read_rows(EXTRACTION, version, split="test").slice(0, 100)
    rng = random.Random(seed)
    inputs, gold = table["input"].to_pylist(), table["output"].to_pylist()
    predictions = [spoiled(text, answer, quality, rng) for text, answer in zip(inputs, gold, strict=True)]
    measured = measures(inputs, gold, predictions, quality, shots, rng)
    arm = Arm(model=ModelRef(quantisation="nf4"), run=run, template="chat", shots=shots, name=name)
    return _save(EXTRACTION, version, "test", arm, table, predictions, measured)


def measures(
    inputs: Sequence[str], gold: Sequence[str], predictions: Sequence[str], quality: float, shots: int, rng: random.Random
) -> dict[str, Sequence[float]]:
    """Tokens, seconds and likelihoods as a model of that quality would have them."""
    tokens_out, asked = ([len(text) // 3 + 3 for text in texts] for texts in (predictions, gold))
    return {
        "tokens_in": [70 + 60 * shots + len(text) // 3 for text in inputs],
        "tokens_out": tokens_out,
        "seconds": [0.05 * n for n in tokens_out],
        "nll": [n * (1.6 - 1.5 * quality) * rng.lognormvariate(0, 0.4) for n in asked],
        "nll_tokens": asked,
    }


def _intents(name: str, right: float, seed: int) -> str:
    """Labels of requests: right so often, else another one, or none that can be read."""
    table = read_rows(CLASSIFICATION)
    rng = random.Random(seed)
    gold = table["output"].to_pylist()
    labels = sorted(set(gold))
    said = [g if rng.random() < right else rng.choice([*labels[labels.index(g) :][:2], "I can't say"]) for g in gold]
    return _save(CLASSIFICATION, 1, "train", Arm(template="chat", name=name), table, said, {})


def _save(
    dataset: str,
    version: int,
    split: str,
    arm: Arm,
    table: pa.Table,
    predictions: Sequence[str],
    measured: dict[str, Sequence[float]],
) -> str:
    """Score answers and keep them as an evaluation with its finished job."""
    answered = answers_table(table, predictions, measured)
    identifier = new_id("evaluation")
    job = add_job("evaluate", {"evaluation": identifier}, title=f"Evaluate {arm.name}", subject=identifier)
    record = get_dataset(dataset)
    evaluation = Evaluation(
        evaluation_id=identifier,
        name=arm.name,
        spec=EvaluationSpec(dataset=dataset, version=version, split=split, limit=table.num_rows, arm=arm),
        task=record.task,
        elements=record.elements,
        template=find_template("chat"),
        version=version,
        job_id=job.job_id,
        seconds=38.0,
    )
    timed = {"machine": "a processor, 2 cores, here", "seconds": "of a row, together with other rows"}
    finish(evaluation, answered, made=timed)
    _finish(job.job_id, table.num_rows, "rows", seconds=38)
    return identifier


def answers_table(table: pa.Table, predictions: Sequence[str], measured: dict[str, Sequence[float]]) -> pa.Table:
    """Rows with their answers as ``finish`` takes them; what isn't in ``measured`` is empty."""
    answered = table.select(["row_id", "instruction", "input", "output", "split", "source"])
    size = table.num_rows
    columns: dict[str, Sequence[object]] = {"prediction": predictions, "raw": predictions, "finish": ["stop"] * size, **measured}
    for field in artefacts.PREDICTIONS:
        if field.name not in answered.column_names:
            values = columns.get(field.name)
            answered = answered.append_column(field.name, pa.nulls(size, field.type) if values is None else pa.array(values))
    return answered.select(artefacts.PREDICTIONS.names)


def spoiled(text: str, gold: str, quality: float, rng: random.Random) -> str:
    """A gold answer as a model of some quality (0 to 1) would give it: elements forgotten, moved, cut, made up, or no JSON."""
    if rng.random() > 0.6 + 0.4 * quality:
        return rng.choice((gold[: len(gold) // 2], f"The elements are {gold}", "Sure! Here is the answer."))
    answer: dict[str, list[str]] = {}
    for name, values in json.loads(gold).items():
        for value in values:
            if rng.random() < quality:
                answer.setdefault(name, []).append(value)
                continue
            fault = rng.randrange(4)
            if fault == 0:
                answer.setdefault(rng.choice(ELEMENTS), []).append(value)
            elif fault == 1:
                answer.setdefault(name, []).append(value[: max(1, len(value) - 2)])
            elif fault == 2:
                answer.setdefault(name, []).append(rng.choice(("Alex Morgan", "北京市", "42")))
    if rng.random() > quality:
        answer.setdefault(rng.choice(ELEMENTS), []).append(text.split()[0][:12])
    return json.dumps(answer, ensure_ascii=False)


def _finish(job_id: str, done: int, unit: str, *, seconds: float) -> None:
    progress = Progress(done=done, total=done, unit=unit, rate=done / seconds, eta_seconds=0.0)
    begun = now() - timedelta(seconds=seconds)
    change_job(job_id, state="finished", started_at=begun, heartbeat=now(), progress=progress)


def _conversation(run: str) -> None:
    row = read_rows(EXTRACTION, split="test").slice(0, 1).to_pylist()[0]
    arms = (Arm(name="base"), Arm(run=run, name="demo-qlora"))
    turns = (
        Turn(role="user", content=row["input"]),
        Turn(
            role="assistant",
            content="Sure! Here is the answer.",
            arm=0,
            tokens_in=80,
            tokens_out=7,
            seconds=0.6,
            first_token_seconds=0.2,
        ),
        Turn(role="assistant", content=row["output"], arm=1, tokens_in=80, tokens_out=31, seconds=1.9, first_token_seconds=0.2),
    )
    save_conversation(Conversation(conversation_id=new_id("chat"), name="First questions", arms=arms, turns=turns))
