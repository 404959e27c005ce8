"""Rows as tensors, and the loss of their learnt tokens. A torch module.

Hidden states become logits for the learnt places only, some thousand at a time: a prompt's logits are of no use, and
the vocabulary's matrix is a large part of a small model's work and of a large one's memory. Knows nothing of trainers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from core.prompts.examples import IGNORED, Example

CHUNK_BYTES = 2**28
"""Float32 logits that are there at once."""
_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier_scale")
"""Settings of models that do more than a product after the last hidden state (Gemma, Cohere, Granite, Falcon-H1, …)."""


def learnt_tokens(example: Example) -> int:
    """How many tokens of an example are learnt (the first of a row has nothing before it to be foretold from)."""
    return sum(label != IGNORED for label in example.labels[1:])


def padded_batch(examples: Sequence[Example], pad: int, device: torch.device | str) -> tuple[dict[str, Any], torch.Tensor]:
    """Arguments of a forward pass, and (on the CPU) for each place the token that follows it, IGNORED where it isn't learnt.

    All are [rows, longest], padded on the right, with no mask: in causal attention nothing that is learnt sees what comes
    after it. Padding on the left leaves query rows that are masked whole, whose gradient sdpa makes NaN in bf16 on CUDA.
    """
    longest = max(len(example.input_ids) for example in examples)
    ids, targets = [], []
    for example in examples:
        room = longest - len(example.input_ids)
        ids.append(example.input_ids + [pad] * room)
        targets.append([*example.labels[1:], IGNORED] + [IGNORED] * room)
    return {"input_ids": to_device(torch.tensor(ids), device)}, torch.tensor(targets)


def packed_batch(
    examples: Sequence[Example], device: torch.device | str, *, borders: bool, multiple: int = 1, pad: int = 0
) -> tuple[dict[str, Any], torch.Tensor]:
    """As ``padded_batch`` with rows end to end in one: all are [1, tokens], positions begin anew with each row.

    ``borders`` adds what a variable-length kernel needs: ``cu_seq_lens_q`` int32 [rows + 1] and the longest row.
    ``multiple``: tokens are brought up to a multiple of it by a last row of ``pad`` from which nothing is learnt.
    """
    lengths = [len(example.input_ids) for example in examples]
    spare = -sum(lengths) % multiple
    ids = torch.tensor([[*(token for example in examples for token in example.input_ids), *[pad] * spare]])
    labels = (label for example in examples for label in (*example.labels[1:], IGNORED))
    targets = torch.tensor([[*labels, *[IGNORED] * spare]])
    lengths += [spare] if spare else []
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
    inputs: dict[str, Any] = {"input_ids": to_device(ids, device), "position_ids": to_device(positions, device)}
    if borders:
        ends = to_device(torch.tensor([0, *lengths]).cumsum(0).to(torch.int32), device)
        inputs |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": max(lengths), "max_length_k": max(lengths)}
    return inputs, targets


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor of the CPU on a device. A GPU gets it when it comes to it; nothing waits for it here."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Head:
    """The output layer of a model, which is made to see the learnt places only.

    Where it is a plain product with fixed weights, the loss is computed from the hidden states beside it, in parts.
    Else it gets the hidden states of the learnt places (without that, torch copies the vocabulary's matrix once a row).
    Models without such a layer work too, with all logits.
    """

    def __init__(self, model: Any) -> None:
        inner = getattr(model, "module", model)
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        self._layer = inner.get_output_embeddings()
        self._places: torch.Tensor | None = None
        self._hidden: torch.Tensor | None = None
        config = inner.config.get_text_config()
        more = any(getattr(config, name, None) not in (None, 1, 1.0) for name in _AFTER_THE_HEAD)
        self._beside = type(self._layer) is torch.nn.Linear and self._layer.bias is None and not more
        if self._layer is not None:
            self._layer.register_forward_pre_hook(self._pick)

    def loss_sum(self, model: Any, inputs: dict[str, Any], targets: torch.Tensor) -> torch.Tensor:
        """Summed negative log likelihood of the tokens in ``targets`` that aren't IGNORED, in float32.

        Which places are learnt is found on the CPU: asking a GPU would wait until it has done all work before.
        """
        device, targets = inputs["input_ids"].device, targets.cpu().flatten()
        places = (targets != IGNORED).nonzero().squeeze(1)
        wanted = to_device(targets[places], device)
        self._places = to_device(places, device)
        try:
            logits = model(**inputs, use_cache=False).logits
            hidden = self._hidden
        finally:
            self._places = self._hidden = None
        if hidden is not None:
            return FixedHeadLoss.apply(hidden, self._layer.weight, wanted)
        chosen = _pick_rows(logits, to_device(places, device)) if self._layer is None else logits[0]
        return cross_entropy(chosen.float(), wanted, reduction="sum")

    def _pick(self, layer: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._places is None:
            return None
        chosen = _pick_rows(arguments[0], self._places)
        if self._beside and not layer.weight.requires_grad:
            self._hidden = chosen
            chosen = chosen[:1].detach()
        return (chosen.unsqueeze(0), *arguments[1:])


def _pick_rows(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """[rows, tokens, width] at the places of its first two dimensions, flattened: [places, width]."""
    return states.flatten(0, 1).index_select(0, places)


class FixedHeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """Cross entropy of ``hidden @ weight.T``, summed, with the gradient of ``hidden`` found on the way.

    Only a part of the logits is ever there (as in Liger's fused linear cross entropy, Hsu et al. 2024, section 3.2).
    ``hidden`` [places, width], ``weight`` [vocabulary, width] without gradient, ``targets`` [places].
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        gradient = torch.empty_like(hidden)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        part = max(16, CHUNK_BYTES // (4 * weight.shape[0]))
        for start in range(0, len(hidden), part):
            rows = hidden[start : start + part].to(weight.dtype)
            wanted = targets[start : start + part].unsqueeze(1)
            logits = (rows @ weight.T).float()
            logs = torch.logsumexp(logits, dim=1, keepdim=True)
            total += (logs - logits.gather(1, wanted)).sum()
            chances = logits.sub_(logs).exp_()
            chances.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=chances.dtype))
            gradient[start : start + part] = (chances.to(weight.dtype) @ weight).to(hidden.dtype)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale.to(gradient.dtype), None, None
