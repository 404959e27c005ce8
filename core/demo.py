"""The whole way on the bundled data: import, clean, lengths, base prompt, QLoRA, comparison.

Goes through the same functions as the pages and the commands, as jobs in the workspace; nothing
here computes a number of its own. Knows nothing of how it is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.records import Arm, DatasetUse, EvaluationSpec, GenerationSettings, Job, ModelRef, Task, TrainSpec, Version
from core.store import datasets
from core.store.files import alone

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
EXTRACTION, CLASSIFICATION, CONVERSATIONS = "samples", "samples-intents", "samples-chat"
SAMPLE_FILES: tuple[tuple[str, str, Task], ...] = (
    (CONVERSATIONS, "conversations.jsonl", "chat"),
    (CLASSIFICATION, "classification.jsonl", "classification"),
    (EXTRACTION, "extraction.jsonl", "extraction"),  # last, so that pages, which show the newest first, open on it
)
TEST_ROWS = 60
MAX_NEW_TOKENS = 64
Say = Callable[[str], None]


def load_samples() -> list[str]:
    """Import the bundled datasets that aren't here yet; returns the names of those imported now."""
    from core.data.importing import import_file

    added = []
    with alone("samples"):
        for name, file, task in SAMPLE_FILES:
            path = SAMPLES / file
            if not path.is_file():
                raise UserError(f"The bundled dataset {path} is missing", "`make samples` makes it again.")
            if datasets.find_dataset(name) is None:
                import_file(path, name, task=task)
                added.append(name)
    return added


def demo_spec(version: int) -> TrainSpec:
    """The demo's training: QLoRA, 50 steps of 8 rows, about six minutes on two cores."""
    return TrainSpec(
        name="demo-qlora",
        model=ModelRef(quantisation="nf4"),
        data=(DatasetUse(dataset=EXTRACTION, version=version, split="train", limit=400),),
        template="chat",
        method="qlora",
        learning_rate=1e-3,
        max_steps=50,
        batch_size=8,
        lora_r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        max_length=256,
        save_every=25,
        seed=7,
    )


def clean_samples(say: Say) -> Version:
    """Clean the extraction sample with the default recipe, unless that was done already."""
    from core.data import recipes

    version = datasets.get_version(EXTRACTION)
    if any(step.op != "import" for step in version.recipe):
        say(f"Clean     version {version.number}: {version.rows:,} rows (cleaned before)")
        return version
    steps = recipes.default_recipe(EXTRACTION)
    cleaned = recipes.apply(EXTRACTION, steps, note="demo")
    changed = datasets.read_ledger(EXTRACTION, cleaned.number).num_rows
    say(f"Clean     {version.rows:,} rows → {cleaned.rows:,} in {len(steps)} steps; {changed:,} ledger entries")
    return cleaned


def run_demo(say: Say, on_progress: Callable[[Job], None] | None = None) -> dict[str, Any]:
    """Walk the whole way; returns ``base``, ``lora``, ``difference``, ``seconds`` and the identifiers behind them.

    Raises UserError when a job of it did not finish, with the end of that job's log.
    """
    from core.data.profile import profile
    from core.evaluation.compare import compare
    from core.jobs import queue
    from core.lengths import measure, summary
    from core.prompts.templates import find_template

    started = time.monotonic()
    added = load_samples()
    say(f"Import    {', '.join(added) or 'samples were here already'}")
    found = profile(EXTRACTION, datasets.list_versions(EXTRACTION)[0].number)
    issues = sorted(((n, k) for k, n in found.issues.items() if n), reverse=True)
    say(f"Profile   {found.rows:,} rows; " + ", ".join(f"{k} {n:,}" for n, k in issues[:6]))
    version = clean_samples(say)
    sizes = ", ".join(f"{k or 'none'} {n:,}" for k, n in version.split_sizes.items())
    say(f"Split     {sizes}")
    lengths = summary(measure(EXTRACTION, version.number, find_template("chat"), ModelRef()), 256)
    whole = lengths["whole"]
    over = lengths["over_max_length"]
    say(f"Lengths   p50 {whole['p50']:g}, p95 {whole['p95']:g}, max {whole['max']:g} tokens; {over:,} rows over 256")

    def evaluate(run: str | None, name: str) -> tuple[str, dict[str, Any]]:
        model = ModelRef(quantisation="nf4")
        generation = GenerationSettings(max_new_tokens=MAX_NEW_TOKENS)
        arm = Arm(model=model, run=run, template="chat", generation=generation, name=name)
        spec = EvaluationSpec(dataset=EXTRACTION, version=version.number, split="test", limit=TEST_ROWS, arm=arm)
        job, evaluation = queue.enqueue_evaluation(spec)
        finished(queue.wait(job.job_id, on_progress))
        scores = _evaluation(evaluation.evaluation_id).scores
        f1, exact = scores["micro"]["f1"], scores["exact_match"]
        say(f"Evaluate  {name}: micro-F1 {f1:.3f}, exact match {exact:.3f} on {scores['rows']} rows")
        return evaluation.evaluation_id, scores

    base_id, base = evaluate(None, "base prompt")
    job, run = queue.enqueue_training(demo_spec(version.number))
    finished(queue.wait(job.job_id, on_progress))
    say(f"Train     {run.run_id}: 50 steps of 8 rows, QLoRA")
    lora_id, lora = evaluate(run.run_id, "LoRA")
    comparison = compare([base_id, lora_id])
    return {
        "base": base,
        "lora": lora,
        "difference": comparison.difference,
        "seconds": round(time.monotonic() - started, 1),
        "run": run.run_id,
        "evaluations": [base_id, lora_id],
    }


def finished(job: Job) -> None:
    """Go on only after a job that really finished."""
    if job.state != "finished":
        from core.store.jobs import log_tail

        raise UserError(f"{job.title} ended as {job.state}: {job.error or 'see its log'}", log_tail(job.job_id, 15) or job.hint)


def _evaluation(evaluation_id: str) -> Any:
    from core.store.runs import get_evaluation

    return get_evaluation(evaluation_id)
