"""The GPU benchmark of the engine runs whole on a CPU, small: what a GPU is asked to run must not fail for a slip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_runs_small(tmp_path: Path) -> None:
    command = [sys.executable, "bench/engine_gpu.py", "--tiny", "--record", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    for part in ("bf16", "nf4"):
        assert found[part]["agree"] == 1.0
        assert {"bare", "plain", "graphs", "stream_ratio", "first_token_added_ms", "switch_ms", "mixed_ratio"} <= set(found[part])
        assert min(found[part][key] for key in ("bare", "plain", "graphs", "switch_ms", "mixed_ratio")) > 0
    assert found["release"]["left_mib"] <= 64
