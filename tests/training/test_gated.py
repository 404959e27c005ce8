"""silu(gate) · up with low-rank products added on the way: plain torch, and Triton's kernels where they can be run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.gated import LowRank, adds_on_the_way, gated_sum, gated_sum_gradients

ROOT = Path(__file__).resolve().parents[2]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
INTERPRETED = """
import os
os.environ["TRITON_INTERPRET"] = "1"
import torch
from core.training import gated, gated_kernels
for rows, width, rank in ((70, 328, 12), (8, 128, 8), (33, 200, 64)):
    print(gated._disagreement(torch.device("cpu"), torch.float16, gated_kernels, rows, width, rank))
"""


def parts(device: str, dtype: Any, rows: int, width: int, rank: int) -> tuple[list[Any], list[LowRank]]:
    """gate, up, gradient, and what is to be added to each."""
    torch.manual_seed(3)
    inner = torch.randn(rows, 2 * rank, device=device, dtype=dtype)
    ups = [torch.randn(width, rank, device=device, dtype=dtype).T for _ in range(2)]
    low = [LowRank(inner[:, :rank], ups[0], 0.5), LowRank(inner[:, rank:], ups[1], 2.0)]
    low.append(LowRank(torch.randn(rows, rank, device=device, dtype=dtype), torch.randn(rank, width, device=device, dtype=dtype)))
    return [torch.randn(rows, width, device=device, dtype=dtype) for _ in range(3)], low


@pytest.mark.parametrize("more", [False, True])
def test_answer_and_gradients_are_autograd_s(more: bool) -> None:
    bases, low = parts("cpu", torch.float64, 9, 24, 4)
    sums = [part.added(base).requires_grad_() for base, part in zip(bases[:2], low, strict=False)]
    inside = torch.nn.functional.silu(sums[0]) * sums[1]
    gradient = low[2].added(bases[2]) if more else bases[2].clone()
    wanted = [inside, *torch.autograd.grad(inside, sums, gradient)]
    assert torch.allclose(gated_sum(*bases[:2], *low[:2]), inside)
    gate, up, found = bases
    gated_sum_gradients(found, gate, up, *low[:2], low[2] if more else None)
    for ours, theirs in zip((found, gate, up), wanted, strict=True):
        assert torch.allclose(ours, theirs)


def test_without_a_gpu_the_kernels_are_not_asked_for() -> None:
    assert not adds_on_the_way(torch.zeros(4, 8, dtype=torch.bfloat16), 8)


def test_the_kernels_say_the_same_in_triton_s_interpreter() -> None:
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, "-c", INTERPRETED], cwd=ROOT, capture_output=True, text=True, check=True)
    errors = [float(line) for line in done.stdout.split()]
    assert len(errors) == 3
    assert max(errors) < 1e-3


@CUDA
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "width", "rank"), [(1, 64, 8), (70, 328, 12), (500, 18944, 16), (64, 256, 128)])
def test_the_kernels_are_right_on_this_card(dtype: Any, rows: int, width: int, rank: int) -> None:
    bases, low = parts("cuda", dtype, rows, width, rank)
    assert adds_on_the_way(bases[0], rank)
    sums = [part.left.float() @ part.right.float() * part.scale + base.float() for base, part in zip(bases, low, strict=True)]
    sigmoid = torch.sigmoid(sums[0])
    inside = sums[0] * sigmoid * sums[1]
    wanted = [inside, inside, sums[2] * sums[1] * sigmoid * (1 + sums[0] * (1 - sigmoid)), sums[2] * sums[0] * sigmoid]
    gate, up, gradient = bases
    found = [gated_sum(gate, up, *low[:2])]
    gated_sum_gradients(gradient, gate, up, *low)
    for ours, theirs in zip([*found, gradient, gate, up], wanted, strict=True):
        assert float((ours.float() - theirs).norm() / theirs.norm()) < 0.01
