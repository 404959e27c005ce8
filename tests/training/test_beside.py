"""What a training takes beside its steps, and how well that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.prompts.templates import find_template
from core.records import DatasetUse, Run, TrainSpec
from core.store.runs import get_run
from core.training import estimate as estimates
from core.training.beside import LOAD_SECONDS, START, known, loading
from core.training.estimate import estimate_spec
from core.training.looking import LOOK_SECONDS, looking
from tests.training.conftest import Keeper
from tests.training.test_looking import GPU, SHAPE, spec
from tests.training.test_runner import make_run, train


def run_of(wanted: TrainSpec, **summary: float) -> Run:
    return Run(run_id="r", name="r", spec=wanted, template=find_template("chat"), summary=summary, complete=True)


FORETOLD = [
    *(([], 10.0, None), ([2.0], 20.0, None), ([1.0, 2.0], 15.0, 0.7906)),
    *(([4.0, 4.0, 4.0], 40.0, 0.0), ([1.0, 1.0, 2.0], 10.0, 0.5)),
]


@pytest.mark.parametrize(("values", "seconds", "error"), FORETOLD)
def test_the_error_is_that_of_runs_left_out(values: list[float], seconds: float, error: float | None) -> None:
    found = known(values, 10.0)
    assert (found.seconds, found.runs) == (pytest.approx(seconds), len(values))
    assert found.error == (None if error is None else pytest.approx(error, abs=1e-4))


def test_loading_is_counted_until_runs_tell_it(people: str) -> None:
    lora, qlora = spec(people, method="lora"), spec(people, method="qlora")
    counted = loading(lora, SHAPE, gpu=False)
    assert counted.seconds == pytest.approx(START + 3 * 2 * (SHAPE.in_blocks + SHAPE.outside) / 1e9)
    assert loading(qlora, SHAPE, gpu=False).seconds > loading(qlora, SHAPE, gpu=True).seconds
    assert (counted.runs, counted.source) == (0, "counted, not measured here yet")
    told = loading(lora, SHAPE, False, [run_of(lora, **{LOAD_SECONDS: 20.0}), run_of(lora, **{LOAD_SECONDS: 25.0}), run_of(lora)])
    assert told.seconds == pytest.approx(START + 22.5)
    assert told.source == "as in 2 finished runs here, ± 23 %"
    assert "unknown error" in loading(lora, SHAPE, False, [run_of(lora, **{LOAD_SECONDS: 20.0})]).source


def test_looks_say_how_far_off_they_were(people: str) -> None:
    wanted = spec(people, eval_rows=4, eval_max_new_tokens=30)
    one = looking(wanted, 10, SHAPE, 50.0, GPU).seconds
    alike = [run_of(wanted, **{LOOK_SECONDS: one * slower}) for slower in (0.5, 0.5, 1.0)]
    found = looking(wanted, 10, SHAPE, 50.0, GPU, alike)
    assert (found.seconds, found.runs) == (pytest.approx(one / 2), 3)
    assert found.error == pytest.approx(known([0.5, 0.5, 1.0]).error)
    assert looking(spec(people, dev=None), 10, SHAPE, 50.0, GPU, alike).seconds == 0


def test_a_run_keeps_what_loading_took_and_the_next_estimate_holds_it(
    tiny: Path, people: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = DatasetUse(dataset=people, split="dev")
    made = train(make_run(tiny, people, dev=dev, max_steps=2, eval_rows=2, eval_max_new_tokens=4), Keeper())
    kept = get_run(made.run_id)
    assert 0 < kept.summary[LOAD_SECONDS] < kept.seconds
    before, _ = estimate_spec(kept.spec, "cpu")
    monkeypatch.setattr(estimates, "_alike", lambda *_: [kept])
    found, _ = estimate_spec(kept.spec, "cpu")
    assert (before.loading.runs, found.loading.runs) == (0, 1)
    assert found.loading.seconds == pytest.approx(START + kept.summary[LOAD_SECONDS])
    assert found.whole_seconds == pytest.approx(found.loading.seconds + found.seconds + found.looking.seconds)
    assert found.looking.seconds > 0
    assert "counted, not measured here yet" in before.beside
    assert found.beside.count("as in a finished run here") == 2
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(kept.spec.model_dump(mode="json", exclude_none=True)), "utf-8")
    assert main(["train", str(path), "--estimate", "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["looks"] == found.looks
    parts = said["loading_seconds"] + said["step_seconds"] + said["look_seconds"]
    assert said["seconds"] == pytest.approx(parts, abs=0.2)
    assert found.beside in said["basis"]
    assert main(["train", str(path), "--estimate"]) == 0
    assert "of loading" in capsys.readouterr().out
    assert main(["jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"jobs": []}
