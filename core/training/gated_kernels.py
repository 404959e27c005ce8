"""Kernels of ``core.training.gated`` in Triton, which comes with torch's CUDA builds. A torch module for GPUs.

Each program makes a tile of [rows, width]: it adds the low-rank products (whose factors are small and stay in the cache) in
float32, so that gate and up are read once and what is made of them is written once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from core.training.gated import LowRank

ROWS, COLUMNS, WARPS = 16, 128, 4
"""Of a tile: 0.34 and 0.73 ms forward and backward for 7,872 rows of 18,944 on an H100; seven others took longer."""
_LEAST_RANK = 16  # tl.dot's


@triton.jit
def _product(
    left, left_row, right, right_rank, right_column, row, column, rows, width, rank, scale, rank_block: tl.constexpr
):  # fmt: skip
    """A tile of scale · left @ right, float32."""
    inner = tl.arange(0, rank_block)
    a = tl.load(
        left + row[:, None].to(tl.int64) * left_row + inner[None, :],
        mask=(row[:, None] < rows) & (inner[None, :] < rank), other=0.0,
    )  # fmt: skip
    b = tl.load(
        right + inner[:, None].to(tl.int64) * right_rank + column[None, :] * right_column,
        mask=(inner[:, None] < rank) & (column[None, :] < width), other=0.0,
    )  # fmt: skip
    return tl.dot(a, b) * scale


@triton.jit
def _forward(
    gate, up, out, rows, width, rank, gate_left, gate_right, gate_scale, up_left, up_right, up_scale, left_row, right_rank,
    right_column, row_block: tl.constexpr, column_block: tl.constexpr, rank_block: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * column_block + tl.arange(0, column_block)
    row = tl.program_id(1) * row_block + tl.arange(0, row_block)
    inside = (row[:, None] < rows) & (column[None, :] < width)
    at = row[:, None].to(tl.int64) * width + column[None, :]
    g = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    g += _product(
        gate_left, left_row, gate_right, right_rank, right_column, row, column, rows, width, rank, gate_scale, rank_block
    )
    u = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    u += _product(up_left, left_row, up_right, right_rank, right_column, row, column, rows, width, rank, up_scale, rank_block)
    tl.store(out + at, (g * tl.sigmoid(g) * u).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    gradient, gate, up, rows, width, rank, gate_left, gate_right, gate_scale, up_left, up_right, up_scale, left_row, right_rank,
    right_column, more_left, more_right, more_scale, more_row, more_rank, more_column, more_width, has_more: tl.constexpr,
    row_block: tl.constexpr, column_block: tl.constexpr, rank_block: tl.constexpr, more_block: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * column_block + tl.arange(0, column_block)
    row = tl.program_id(1) * row_block + tl.arange(0, row_block)
    inside = (row[:, None] < rows) & (column[None, :] < width)
    at = row[:, None].to(tl.int64) * width + column[None, :]
    d = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    if has_more:
        d += _product(
            more_left, more_row, more_right, more_rank, more_column, row, column, rows, width, more_width, more_scale, more_block
        )
    g = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    g += _product(
        gate_left, left_row, gate_right, right_rank, right_column, row, column, rows, width, rank, gate_scale, rank_block
    )
    u = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    u += _product(up_left, left_row, up_right, right_rank, right_column, row, column, rows, width, rank, up_scale, rank_block)
    s = tl.sigmoid(g)
    silu = g * s
    tl.store(gradient + at, (silu * u).to(gradient.dtype.element_ty), mask=inside)
    tl.store(up + at, (d * silu).to(up.dtype.element_ty), mask=inside)
    tl.store(gate + at, (d * u * (s + silu * (1 - s))).to(gate.dtype.element_ty), mask=inside)


def forward(gate: torch.Tensor, up: torch.Tensor, of_gate: LowRank, of_up: LowRank) -> torch.Tensor:
    """``gated_sum``: [rows, inner], contiguous as gate and up must be."""
    out = torch.empty_like(gate)
    rows, width = gate.shape
    _forward[_grid(rows, width)](
        gate,
        up,
        out,
        rows,
        width,
        *_both(of_gate, of_up),
        row_block=ROWS,
        column_block=COLUMNS,
        rank_block=_block(of_gate),
        num_warps=WARPS,
    )
    return out


def backward(
    gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, of_gate: LowRank, of_up: LowRank, more: LowRank | None
) -> None:
    """``gated_sum_gradients``; all [rows, inner] are contiguous."""
    rows, width = gate.shape
    last = more or of_gate  # a stand-in of which nothing is read
    left, right = last.left, last.right
    _backward[_grid(rows, width)](
        gradient, gate, up, rows, width, *_both(of_gate, of_up), left, right, last.scale, left.stride(0), right.stride(0),
        right.stride(1), right.shape[0], has_more=more is not None, row_block=ROWS, column_block=COLUMNS,
        rank_block=_block(of_gate), more_block=_block(last), num_warps=WARPS,
    )  # fmt: skip


def _both(of_gate: LowRank, of_up: LowRank) -> tuple[Any, ...]:
    """Arguments for two products whose factors lie alike."""
    left, right = of_gate.left, of_gate.right
    return (
        right.shape[0], left, right, of_gate.scale, of_up.left, of_up.right, of_up.scale, left.stride(0), right.stride(0),
        right.stride(1),
    )  # fmt: skip


def _grid(rows: int, width: int) -> tuple[int, int]:
    return triton.cdiv(width, COLUMNS), triton.cdiv(rows, ROWS)


def _block(part: LowRank) -> int:
    return max(_LEAST_RANK, int(triton.next_power_of_2(part.right.shape[0])))
