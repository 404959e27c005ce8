"""The training benches: what is counted agrees with what is planned, and the GPU bench runs small on the CPU."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_fused_layers_ask_for_less_and_keep_what_plans_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.train_gpu import SHAPES
    from bench.train_ops import CONTENDERS, measure
    from core.training import costs
    from core.training.shape import shape_of

    monkeypatch.setattr(costs, "liger", lambda: True)
    shape = {**SHAPES["tiny"], "hidden_size": 512, "intermediate_size": 1024}
    counts = {name: measure(CONTENDERS[name], shape, 512) for name in ("trl", "trl-kept", "ours", "ours-kept")}
    assert counts["ours"].forward + counts["ours"].backward < (counts["trl"].forward + counts["trl"].backward) / 2
    assert counts["ours-kept"].forward + counts["ours-kept"].backward < 100
    assert counts["ours"].kept_bytes == pytest.approx(2 * 512, rel=0.02)  # a recomputed layer keeps its input
    for name, fused, near in (("trl-kept", False, 0.2), ("ours-kept", True, 0.1)):  # peft's formula is that of Qwen's proportions
        work = costs.Work(shape_of(shape), "qlora", 512, 512, nf4=True, gpu=True, packed=True, fused=fused)
        assert counts[name].kept_bytes == pytest.approx(costs.kept_bytes(work), rel=near)


@pytest.mark.parametrize("name", ["peft-kept", "ours-10gb"])
def test_a_contender_trains_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import train_gpu
    from core.training import trainer

    monkeypatch.setattr(trainer, "fuse_what_holds", trainer.fuse_what_holds)  # the bench puts another in its place
    monkeypatch.setattr(train_gpu, "ROWS_A_STEP", 6)
    found = train_gpu.ours(argparse.Namespace(contender=name, shape="tiny", device="cpu", rows=6))
    assert found["tokens"] == sum(train_gpu.lengths(6))
    assert found["fused_layers"] == (14 if name == "ours-10gb" else 0)
    assert found["passes"] >= 1
    assert found["launches_a_step"] is None


@pytest.mark.slow
def test_the_whole_bench_runs_small(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "bench" / "train_gpu.py", "--tiny", "--out", tmp_path, "--two-gpus"]
    command += ["--only", "bound,checks,course,peft-recomputed,ours-10gb,ours-60gb"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    results = json.loads((tmp_path / "train_gpu.json").read_text("utf-8"))["results"]
    assert not any("failed" in values for values in results.values()), done.stdout[-2000:]
    assert results["checks"]["ok"]
    assert results["two-gpus"]["tokens"] > 1.5 * results["ours-60gb"]["tokens"]
