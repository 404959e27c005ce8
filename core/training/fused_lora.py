"""LoRA on frozen linear layers in few, large operations: one step of autograd for all layers that see one input.

peft computes each layer as base product, copy, cast, dropout, two products, scaling and sum, and autograd keeps what
each of them needs. Here the low-rank part is added into the base product in place, layers that share an input share its
product with their A matrices, no copy of the input is made, and only the input and the products of rank r are kept for the
backward pass. The matrices stay float32 where they learn and are rounded once a step where products are shorter.

    y_i = x W_iᵀ + b_i + s_i · (d(x) A_iᵀ) B_iᵀ          (Hu et al. 2021, equation 3; d is dropout, one draw an input)

A torch module. Knows nothing of where in a model such layers are (``core.training.fused`` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import linear

from core.models.frozen import FrozenWeight, Workspace
from core.training.dropout import draw_kept
from core.training.gated import LowRank


class LoraLinear:
    """One linear layer with its adapter: y = x Wᵀ + b + scaling · (x Aᵀ) Bᵀ; A is [rank, in], B is [out, rank]."""

    def __init__(self, module: Any, adapter: str, workspace: Workspace) -> None:
        self.module = module
        self.base = FrozenWeight(module.get_base_layer(), workspace)
        self.a = module.lora_A[adapter].weight
        self.b = module.lora_B[adapter].weight
        self.scaling = float(module.scaling[adapter])
        self.dropout = float(getattr(module.lora_dropout[adapter], "p", 0.0))
        self._active = [adapter]

    @property
    def ready(self) -> bool:
        """Whether the layer is in a state that is computed here: training, with its one adapter, neither off nor merged."""
        module = self.module
        on = module.training and not module.disable_adapters and module.active_adapters == self._active
        return on and not module.merged and self.base.trains()


class LoraGroup:
    """Linear layers that see the same input; their ranks and dropouts are equal."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = tuple(layers)
        self.dropout = self.layers[0].dropout
        self.rank = rank = int(self.layers[0].a.shape[0])
        self._ranks = [slice(rank * n, rank * (n + 1)) for n in range(len(self.layers))]
        ends = [0]
        for layer in self.layers:
            ends.append(ends[-1] + layer.base.width)
        self._outs = [slice(start, end) for start, end in pairwise(ends)]
        self.width = ends[-1]
        self.dtype = self.layers[0].base.dtype
        self.matrices = tuple(matrix for layer in self.layers for matrix in (layer.a, layer.b))
        self._held: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self._holds = False

    def compute_dtype(self, x: torch.Tensor) -> torch.dtype:
        """The number format that products with ``x`` are made in."""
        return self.layers[0].base.compute_dtype(x)

    def rounded(self, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """All A [ranks, in] in one matrix and each B [out, rank], in ``dtype``."""
        if self._holds and self._held is not None and self._held[0].dtype == dtype:
            return self._held
        a = [layer.a.detach().to(dtype) for layer in self.layers]
        return (torch.cat(a) if len(a) > 1 else a[0]), [layer.b.detach().to(dtype) for layer in self.layers]

    def hold(self, dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """From now on ``rounded`` gives one set of tensors; returns the learnt matrices and the places to copy them to."""
        if self._held is None or self._held[0].dtype != dtype:
            first = self.layers[0].a
            whole = torch.empty(self._ranks[-1].stop, first.shape[1], dtype=dtype, device=first.device)
            self._held = whole, [torch.empty_like(layer.b, dtype=dtype, requires_grad=False) for layer in self.layers]
        self._holds = True
        whole, ups = self._held
        learnt = [*(layer.a.detach() for layer in self.layers), *(layer.b.detach() for layer in self.layers)]
        return learnt, [*(whole[ranks] for ranks in self._ranks), *ups]

    def let_go(self) -> None:
        """From now on ``rounded`` takes the matrices as they are."""
        self._holds = False

    def draw(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Which numbers of ``rows`` dropout keeps; none without dropout."""
        return draw_kept(rows, self.dropout) if self.dropout else None

    def dropped(self, rows: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Rows (or their gradient) as dropout leaves them."""
        return rows if kept is None else torch.ops.aten.native_dropout_backward(rows, kept, 1 / (1 - self.dropout))

    def inner(self, rows: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """The low-rank products [rows, ranks] of all layers."""
        return self.dropped(rows, kept) @ self.rounded(rows.dtype)[0].T

    def answers(self, rows: torch.Tensor, inner: torch.Tensor, *, add: bool = True) -> list[torch.Tensor]:
        """Each layer's answer [rows, out]; unless ``add`` without its low-rank product (``products``)."""
        found = []
        for layer, ranks, up in zip(self.layers, self._ranks, self.rounded(rows.dtype)[1], strict=True):
            answer = linear(rows, layer.base.weight(rows.dtype), layer.base.bias(rows.dtype))
            found.append(answer.addmm_(inner[:, ranks], up.T, alpha=layer.scaling) if add else answer)
        return found

    def products(self, inner: torch.Tensor) -> list[LowRank]:
        """What is to be added to each layer's base product."""
        ups = self.rounded(inner.dtype)[1]
        layers = zip(self.layers, self._ranks, ups, strict=True)
        return [LowRank(inner[:, ranks], up.T, layer.scaling) for layer, ranks, up in layers]

    def inner_gradients(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of the inner products [rows, ranks], from each answer's gradient [rows, out]."""
        ups = self.rounded(gradients[0].dtype)[1]
        of_inner = gradients[0].new_empty(len(gradients[0]), self._ranks[-1].stop)
        for layer, ranks, up, gradient in zip(self.layers, self._ranks, ups, gradients, strict=True):
            place = of_inner[:, ranks]
            torch.addmm(place, gradient, up, beta=0, alpha=layer.scaling, out=place)
        return of_inner

    def matrix_gradients(
        self,
        rows: torch.Tensor,
        kept: torch.Tensor | None,
        inner: torch.Tensor,
        of_inner: torch.Tensor,
        gradients: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Of A, B of each layer in turn, from each answer's gradient [rows, out] and those of the inner products."""
        of_ups = torch.empty(self.width, self.rank, dtype=rows.dtype, device=rows.device)
        for layer, ranks, outs, gradient in zip(self.layers, self._ranks, self._outs, gradients, strict=True):
            place = of_ups[outs]
            torch.addmm(place, gradient.T, inner[:, ranks], beta=0, alpha=layer.scaling, out=place)
        learnt_a = (of_inner.T @ self.dropped(rows, kept)).to(self.layers[0].a.dtype)
        learnt_b = of_ups.to(self.layers[0].b.dtype)
        pairs = zip(self._ranks, self._outs, strict=True)
        return [part for ranks, outs in pairs for part in (learnt_a[ranks], learnt_b[outs])]

    def row_gradients(
        self, kept: torch.Tensor | None, of_inner: torch.Tensor, gradients: Sequence[torch.Tensor], *, add: bool = True
    ) -> torch.Tensor:
        """Of the rows [rows, in], from those of the inner products and of each answer; unless ``add`` without ``row_product``."""
        dtype = of_inner.dtype
        found: torch.Tensor | None = None
        for layer, gradient in zip(self.layers, gradients, strict=True):
            weight = layer.base.weight(dtype)
            found = gradient @ weight if found is None else found.addmm_(gradient, weight)
        assert found is not None
        if not add:
            return found
        a = self.rounded(dtype)[0]
        return found.addmm_(of_inner, a) if kept is None else found.add_(self.dropped(of_inner @ a, kept))

    def row_product(self, of_inner: torch.Tensor) -> LowRank:
        """What is to be added to the rows' gradient without dropout."""
        return LowRank(of_inner, self.rounded(of_inner.dtype)[0])


def flat_rows(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[..., width] as [rows, width]."""
    return x.reshape(-1, x.shape[-1]).to(dtype)


def like_rows(answer: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[rows, width] with the first dimensions of ``x``. For autograd no view, so that a model may change it in place."""
    found: torch.Tensor = torch.ops.aten._unsafe_view(answer, [*x.shape[:-1], answer.shape[-1]])
    return found


def out_dtype(x: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """The number format of an answer to ``x`` that was computed in ``dtype``: the input's, or what autocast says."""
    return dtype if torch.is_autocast_enabled(x.device.type) else x.dtype


class LoraProducts(torch.autograd.Function):  # type: ignore[misc]
    """The answers of a group's layers to ``x`` [..., in], as one step of autograd."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: LoraGroup, *matrices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``matrices`` are the group's own, named so that autograd sees them."""
        dtype = group.compute_dtype(x)
        rows = flat_rows(x, dtype)
        kept = group.draw(rows)
        inner = group.inner(rows, kept)
        answers = group.answers(rows, inner)
        ctx.save_for_backward(rows, inner, kept, *matrices)
        ctx.group, ctx.shape, ctx.dtype = group, x.shape, x.dtype
        return tuple(like_rows(answer, x).to(out_dtype(x, dtype)) for answer in answers)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, inner, kept, *_ = ctx.saved_tensors
        flat = [flat_rows(gradient, rows.dtype) for gradient in gradients]
        of_inner = ctx.group.inner_gradients(flat)
        of_matrices = ctx.group.matrix_gradients(rows, kept, inner, of_inner, flat)
        if not ctx.needs_input_grad[0]:
            return None, None, *of_matrices
        return ctx.group.row_gradients(kept, of_inner, flat).view(ctx.shape).to(ctx.dtype), None, *of_matrices
