"""The fitted constants: those of the measured runs, near what was measured, and honest about cards that weren't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.fit_estimates import fit_all
from core.training import costs
from core.training.costs import FITTED, TIME_TERMS, Work, basis_for, pass_seconds, time_terms
from core.training.measured import MEASURED, MeasuredRun, append_run, read_runs
from core.training.shape import ModelShape

H100 = "NVIDIA H100 80GB HBM3"
SHAPE = ModelShape(layers=28, width=3584, inner=18944, vocabulary=152064, query=3584, key=512, tied=False, heads=28)


def test_what_pages_read_is_the_fit_of_the_measured_runs(capsys: pytest.CaptureFixture[str]) -> None:
    fitted: dict[str, Any] = json.loads(FITTED.read_text("utf-8"))["cards"]
    again = fit_all(read_runs())
    assert again.keys() == fitted.keys()
    for card, values in again.items():
        kept = fitted[card]
        assert (values["seconds_runs"], values["memory_runs"]) == (kept["seconds_runs"], kept["memory_runs"])
        assert values["seconds_error"] == pytest.approx(kept["seconds_error"], abs=0.01)
        assert values["memory_error"] == pytest.approx(kept["memory_error"], abs=0.01)
        for name in TIME_TERMS:
            assert values["seconds"][name] == pytest.approx(kept["seconds"][name], rel=0.01, abs=1e-6)
    assert "off" in capsys.readouterr().out


def test_well_measured_devices_are_foretold_within_a_quarter() -> None:
    wide = [fit for fit in costs.fitted() if fit.seconds_runs >= 10]
    assert wide
    for fit in wide:
        assert fit.seconds_error < 0.25
        assert fit.memory_error < 0.25


def work(**changes: Any) -> Work:
    return Work(SHAPE, "qlora", 4_000, 200, nf4=True, gpu=True, **changes)


def test_a_card_without_a_run_is_scaled_and_says_so() -> None:
    own, other, unknown = (basis_for(card, gpu=True) for card in (H100, "NVIDIA A100-SXM4-80GB", "Some other card"))
    assert (own.same, own.scale) == (True, 1.0)
    assert "± " in own.words
    assert H100 in own.words
    assert other.scale == pytest.approx(989 / 312)
    assert other.words.startswith("No run on NVIDIA A100-SXM4-80GB is measured")
    assert "severalfold" in other.words
    assert unknown.scale == 1.0
    assert "as they are" in unknown.words
    assert pass_seconds(work(), other) == pytest.approx(pass_seconds(work(), own) * other.scale)


def test_a_processor_shares_its_work_over_its_cores() -> None:
    fit = next(fit for fit in costs.fitted() if not fit.gpu)
    basis = basis_for(fit.card, gpu=False)
    one = Work(SHAPE, "lora", 500, 100)
    assert pass_seconds(one, basis, cores=4) == pytest.approx(pass_seconds(one, basis, cores=1) / 4)
    assert f"{fit.cores} cores of" in basis.words


def test_terms_grow_with_what_they_count() -> None:
    def term(name: str, found: Work) -> float:
        return time_terms(found)[TIME_TERMS.index(name)]

    assert term("products", work(recomputed=28)) == pytest.approx(1.5 * term("products", work()))
    assert term("launches", work(recomputed=28)) == pytest.approx(4 / 3 * term("launches", work()))
    assert term("unpacking", Work(SHAPE, "lora", 4_000, 200, gpu=True)) == 0
    assert term("products", Work(SHAPE, "full", 4_000, 200)) == pytest.approx(1.5 * term("products", work()))


def test_a_run_is_added_to_the_file_as_it_is(tmp_path: Path) -> None:
    run = MeasuredRun(
        card=H100, model="m", shape=SHAPE, method="lora", tokens_a_pass=10, row_tokens=5, peak_gb=1.5, seconds_a_pass=0.1,
        source="t",
    )  # fmt: skip
    file = tmp_path / "runs.json"
    append_run(run, file)
    append_run(run, file)
    assert read_runs(file) == [run, run]
    assert all(found.source for found in read_runs(MEASURED))
