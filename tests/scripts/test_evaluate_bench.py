"""The benchmark of an evaluation's throughput runs small on the CPU, as one command, and judges what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_runs_small(tmp_path: Path) -> None:
    command = [sys.executable, "bench/evaluate_gpu.py", "--tiny", "--record", str(tmp_path / "found.json")]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert json.loads(ended.stdout.strip().splitlines()[-1]) == found
    assert found["bf16"]["same"] == 12  # float32 on the CPU: the same whatever the batch
    for part in ("bf16", "nf4"):
        assert found[part]["ratio_alone"] > 1.5
        assert min(found[part]["rate_short"], found[part]["rate_failed"]) > 0
