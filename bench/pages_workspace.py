"""A workspace as full as a team's: evaluations of the same test rows by many arms, over versions of the data and many runs.

Rows are put together as those of the samples; no model answers: predictions come out of the gold answers by seeded faults of the
kinds that models make (``tests.browser.prepared.spoiled``). All goes through core's own importing, scoring and store.

    python bench/pages_workspace.py FOLDER [--evaluations 200] [--rows 2000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.data import recipes
from core.data.importing import import_file
from core.evaluation.runner import finish
from core.prompts.templates import find_template
from core.records import Arm, DatasetUse, Evaluation, EvaluationSpec, ModelRef, Run, Step, TrainSpec, new_id, now
from core.store.datasets import read_rows
from core.store.jobs import add_job, add_metrics, change_job
from core.store.runs import save_run
from samples.compose import ELEMENTS, Composer
from samples.dirt import to_row
from tests.browser.prepared import answers_table, measures, spoiled

NAME = "contracts"
SIZES = (250, 500, 1000)
SOURCES = ("court", "registry", "newswire", "mail")


def rows(count: int, train: int, seed: int = 11) -> list[dict[str, str]]:
    """``count`` test rows and ``train`` rows to train on, half Chinese, half English, with two more columns."""
    rng = random.Random(seed)
    composers = {language: Composer(rng, language) for language in ("zh", "en")}
    made = []
    for place in range(count + train):
        language = ("zh", "en")[place % 2]
        composer = composers[language]
        sentence = composer.remember(composer.sentence("empty" if place % 10 == 9 else "full", fresh=0.9))
        row = to_row(sentence, language, "test" if place < count else "train")
        line = {"instruction": row.instruction, "input": row.input, "output": row.output, "split": row.split}
        made.append({**line, "language": language, "origin": SOURCES[place % len(SOURCES)]})
    return made


def build(folder: Path, evaluations: int = 200, count: int = 2000) -> None:
    """Fill the current workspace; ``folder`` takes the file that is imported."""
    path = folder / f"{NAME}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(count, max(SIZES))), encoding="utf-8")
    versions = [import_file(path, NAME, task="extraction", elements=ELEMENTS).version.number]
    rng = random.Random(5)
    for _ in range(2):  # each mends a few gold answers, so that scores have versions to go along
        table = read_rows(NAME, split="test")
        edits = [
            {"row_id": table["row_id"][at].as_py(), "column": "output", "value": '{"person": ["Somebody Else"]}'}
            for at in rng.sample(range(table.num_rows), max(1, table.num_rows // 50))
        ]
        step = Step(op="hand_edit", params={"edits": edits, "reason": "gold answer mended"})
        versions.append(recipes.apply(NAME, [step], note="gold answers mended").number)
    runs = [_run(f"lora r{r} · {size} rows", version, size) for version in versions for r in (8, 16) for size in SIZES]
    tables = {version: read_rows(NAME, version, split="test") for version in versions}
    for place in range(evaluations):
        version = versions[place * len(versions) // evaluations]
        _evaluation(place, evaluations, version, tables[version], runs, random.Random(place))


def _run(name: str, version: int, size: int) -> Run:
    spec = TrainSpec(name=name, data=(DatasetUse(dataset=NAME, version=version, limit=size),), max_steps=size // 8)
    run_id = new_id("run")
    job = add_job("train", {"run": run_id}, title=f"Train {name}", subject=run_id)
    steps = size // 8
    add_metrics(job.job_id, [(step, {"loss": 0.15 + 1.6 / step**0.6}) for step in range(1, steps + 1)])
    looks = [
        (step, {"dev_loss": 0.3 + 1.2 / step**0.5, "dev_micro_f1": 0.85 - 0.8 / step**0.4}) for step in range(10, steps + 1, 10)
    ]
    add_metrics(job.job_id, looks)
    change_job(job.job_id, state="finished", started_at=now(), heartbeat=now())
    run = Run(
        run_id=run_id, name=name, spec=spec, template=find_template("chat"), job_id=job.job_id, data_versions={NAME: (version,)},
        trained_rows=size, steps=steps, seconds=size * 0.6, complete=True,
    )  # fmt: skip
    return save_run(run)


def _evaluation(place: int, total: int, version: int, table: pa.Table, runs: Sequence[Run], rng: random.Random) -> None:
    """One arm of three kinds in turn: prompt alone, worked examples, a fine-tune on that version's data."""
    kind = place % 3
    mine = [run for run in runs if run.data_versions[NAME] == (version,)]
    run = mine[(place // 3) % len(mine)] if kind == 2 else None
    shots = (0, 1 + (place // 3) % 5, 0)[kind]
    quality = (0.2, 0.35 + 0.04 * shots, 0.6 + (0.0 if run is None else run.trained_rows / 4000))[kind] + rng.uniform(0, 0.08)
    name = run.name if run else f"{shots} examples" if shots else "prompt alone"
    arm = Arm(run=run.run_id if run else None, template="chat", shots=shots, model=ModelRef(), name=f"{name} · {place + 1}")
    identifier = new_id("evaluation")
    job = add_job("evaluate", {"evaluation": identifier}, title=f"Evaluate {arm.name}", subject=identifier)
    evaluation = Evaluation(
        evaluation_id=identifier, name=arm.name, spec=EvaluationSpec(dataset=NAME, version=version, split="test", arm=arm),
        task="extraction", elements=ELEMENTS, template=find_template("chat"), version=version, job_id=job.job_id,
        seconds=380.0, created_at=now() - timedelta(hours=3 * (total - place)),
    )  # fmt: skip
    finish(evaluation, _answered(table, quality, shots, rng))
    change_job(job.job_id, state="finished", started_at=now(), heartbeat=now())


def _answered(table: pa.Table, quality: float, shots: int, rng: random.Random) -> pa.Table:
    inputs, gold = table["input"].to_pylist(), table["output"].to_pylist()
    predictions = [spoiled(text, answer, quality, rng) for text, answer in zip(inputs, gold, strict=True)]
    return answers_table(table, predictions, measures(inputs, gold, predictions, quality, shots, rng))


def main() -> None:
    """Build it and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["TUNEWISE_WORKSPACE"] = str(options.folder.resolve())
    begun = time.monotonic()
    build(options.folder, options.evaluations, options.rows)
    print(f"{options.evaluations} evaluations of {options.rows:,} rows in {options.folder}: {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
