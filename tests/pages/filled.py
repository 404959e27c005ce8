"""A filled workspace for the tests of pages: a dataset with dirt, a finished run and its job, two evaluations.

Built through core's own functions and the store; no model answers anything: the predictions are made from
the gold answers by a fixed rule, worse for the prompt alone than for the fine-tune.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from core.data.importing import import_file
from core.evaluation.runner import finish
from core.prompts.templates import find_template
from core.records import Arm, DatasetUse, Evaluation, EvaluationSpec, ModelRef, Progress, Run, TrainSpec, new_id, now
from core.store.files import write_json
from core.store.jobs import add_job, add_metrics, change_job, log_path
from core.store.runs import run_folder, save_run

NAME = "notices"
INSTRUCTION = "Extract person, organization, date as JSON lists. 抽取要素。"
PEOPLE = ("王建国", "李秀英", "Anna Keller", "陈晓明", "Tom Reed", "赵敏", "Marta Sosa", "孙伟")
FIRMS = ("华远律师事务所", "Northfield Court", "东岭贸易有限公司", "Harbour Clinic", "云帆科技", "Vale & Sons")
DATES = ("2023年5月6日", "June 3, 2021", "2020年12月", "14 May 2022", "2019年8月1日")


@dataclass(frozen=True)
class Filled:
    """What was made."""

    dataset: str
    version: int
    run: str
    job: str
    base: str
    tuned: str


def rows() -> list[dict[str, str]]:
    """Sixty rows, Chinese and English, the last twenty of them test rows; dirt of several kinds among the first forty."""
    made = []
    for n in range(60):
        person, firm, date = PEOPLE[n % 8], FIRMS[n % 6], DATES[n % 5]
        text = (
            f"第{n}号：{person}于{date}加入{firm}，任期两年。"
            if n % 2
            else f"No. {n}: {person} joined {firm} on {date} for two years."
        )
        answer = {"person": [person], "organization": [firm], "date": [date]}
        if n % 7 == 0:
            text, answer = f"Note {n}: nothing was decided, the hearing goes on.", {}
        split = "test" if n >= 40 else "train"
        made.append({"instruction": INSTRUCTION, "input": text, "output": json.dumps(answer, ensure_ascii=False), "split": split})
    made[3] = dict(made[2])  # an exact duplicate
    made[5] = {**made[4], "output": '{"person": ["Somebody Else"]}'}  # a conflict, and a value that isn't in the text
    made[8]["output"] = '{"person": ["Broken'  # no JSON
    made[9]["output"] = ""  # no answer
    made[10]["input"] = "<p>" + made[10]["input"] + "</p>&nbsp;"
    made[11]["input"] = made[11]["input"].replace("于", "于\u200b")
    made[12]["output"] = json.dumps({"colour": ["blue"]})  # an element that nobody else has
    made[13]["input"] = "<script>alert('x')</script> " + made[13]["input"]
    made[15]["input"] += " Dear {{name}},"  # nobody filled it in
    made[16]["input"] += " 电话13812345678。"
    made[17]["input"] = "ＮＯ．" + made[17]["input"]
    made[18]["input"] += " cafÃ© Ã©tÃ©"
    made[41] = {**made[1], "split": "test"}  # a leak
    return made


def fill(folder: Path, *, evaluations: bool = True) -> Filled:
    """Fill the workspace; ``folder`` takes the file that is imported."""
    path = folder / "notices.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()), encoding="utf-8")
    imported = import_file(path, NAME, task="extraction", elements=("person", "organization", "date"))
    version = imported.version.number
    run, job = _run(version)
    base = tuned = ""
    if evaluations:
        base = make_evaluation(version, None, "prompt alone", keep=2)
        tuned = make_evaluation(version, run, "fine-tune", keep=5)
    return Filled(NAME, version, run, job, base, tuned)


def _run(version: int) -> tuple[str, str]:
    spec = TrainSpec(name="lora-r16", data=(DatasetUse(dataset=NAME, version=version),), max_steps=20, method="lora")
    run_id = new_id("run")
    job = add_job("train", {"run": run_id}, title="Train lora-r16 on notices", subject=run_id)
    save_run(
        Run(
            run_id=run_id, name=spec.name, spec=spec, template=find_template("chat"), job_id=job.job_id,
            data_versions={NAME: (version,)}, trained_rows=36, dropped_rows=1, steps=20, seconds=48.0, complete=True,
            summary={"loss": 0.41, "dev_loss": 0.52},
        )
    )  # fmt: skip
    add_metrics(
        job.job_id,
        [
            (step, {"loss": 2.4 / step**0.5, "learning_rate": 1e-3 * (1 - step / 21), "tokens_per_second": 130.0 + step})
            for step in range(1, 21)
        ],
    )
    add_metrics(job.job_id, [(10, {"dev_loss": 0.8, "dev_micro_f1": 0.42}), (20, {"dev_loss": 0.52, "dev_micro_f1": 0.71})])
    change_job(
        job.job_id, state="finished", started_at=now(), heartbeat=now(),
        progress=Progress(done=20, total=20, unit="steps", rate=0.4, eta_seconds=0.0),
    )  # fmt: skip
    folder = run_folder(run_id)
    write_json(folder / "adapter" / "adapter_config.json", {"r": 16, "lora_alpha": 32})
    write_json(folder / "manifest.json", {"run_id": run_id})
    path = log_path(job.job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("step 20 of 20\n", encoding="utf-8")
    return run_id, job.job_id


def make_evaluation(version: int, run: str | None, name: str, keep: int) -> str:
    from core.store.datasets import get_dataset, read_rows

    table = read_rows(NAME, version, split="test")
    gold = table["output"].to_pylist()
    predictions = [_answer(text, n, keep) for n, text in enumerate(gold)]
    size = table.num_rows
    answered = pa.table(
        {
            "row_id": table["row_id"], "instruction": table["instruction"], "input": table["input"], "output": table["output"],
            "prediction": predictions, "raw": predictions, "tokens_in": [60] * size, "tokens_out": [24] * size,
            "seconds": [0.4] * size, "finish": ["stop"] * size, "nll": [8.0 + keep] * size, "nll_tokens": [20] * size,
            "split": table["split"], "source": table["source"],
            "repaired": pa.nulls(size, pa.large_string()),
        }
    )  # fmt: skip
    elements = get_dataset(NAME).elements
    arm = Arm(model=ModelRef(), run=run, template="chat", name=name)
    spec = EvaluationSpec(dataset=NAME, version=version, split="test", arm=arm)
    evaluation_id = new_id("evaluation")
    job = add_job("evaluate", {"evaluation": evaluation_id}, title=f"Evaluate {name}", subject=evaluation_id)
    evaluation = Evaluation(
        evaluation_id=evaluation_id, name=name, spec=spec, task="extraction", elements=elements, template=find_template("chat"),
        version=version, job_id=job.job_id, seconds=9.5,
    )  # fmt: skip
    timed = {"machine": "a processor, 2 cores, here", "seconds": "of a row, together with other rows"}
    finish(evaluation, answered, made=timed)
    change_job(job.job_id, state="finished", started_at=now(), heartbeat=now(), progress=Progress(done=size, total=size))
    return evaluation_id


def _answer(gold: str, n: int, keep: int) -> str:
    """A prediction: right for ``keep`` of six rows, else cut, under another element, made up, or no JSON, by turns."""
    if n % 6 < keep or not gold:
        return gold
    answer = json.loads(gold)
    fault = (n // 6) % 4
    if fault == 0:
        return gold[:-6]
    if fault == 1:
        return json.dumps({"person": ["Nobody Known"], **{k: v for k, v in answer.items() if k != "person"}}, ensure_ascii=False)
    if fault == 2:
        return json.dumps({"person": answer.get("organization", []), "date": answer.get("date", [])}, ensure_ascii=False)
    return json.dumps({k: [v[0][:-1]] for k, v in answer.items() if v}, ensure_ascii=False)
