"""4-bit layers for many rows: the same answers, unpacked only where that was found quicker, and never where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from core.models import fourbit
from core.models.fourbit import LEAST_ROWS, FourBitLayers

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def layer(wide: int, out: int, device: str) -> Any:
    import bitsandbytes as bnb

    torch.manual_seed(wide + out)
    made = bnb.nn.Linear4bit(wide, out, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4")
    return made.to(device)


def model(device: str = "cpu") -> torch.nn.Module:
    block = torch.nn.ModuleDict({"up": layer(256, 512, device), "down": layer(512, 256, device)})
    return torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block, torch.nn.ModuleDict({"up": layer(256, 512, device)})])})


def ticking(*taken: float) -> Callable[[], float]:
    """A clock by which each thing that is timed takes so long, in turn."""

    def times() -> Iterator[float]:
        now = 0.0
        while True:
            for seconds in taken:
                yield now
                now += seconds
                yield now

    return times().__next__


def asked(made: Any, rows: int, device: str = "cpu") -> list[torch.Tensor]:
    torch.manual_seed(rows)
    x = torch.randn(rows, 256, device=device, dtype=torch.bfloat16)
    with torch.inference_mode():
        up = made["layers"][0]["up"](x)
        return [up, made["layers"][0]["down"](up), made["layers"][1]["up"](x)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=CUDA)])
def test_many_rows_are_answered_as_before(device: str) -> None:
    made = model(device)
    plain = {rows: asked(made, rows, device) for rows in (1, 40, 300)}
    layers = FourBitLayers(made, clock=ticking(2.0, 1.0))
    assert layers.count == 3
    for rows, wanted in plain.items():
        for found, before in zip(asked(made, rows, device), wanted, strict=True):
            assert (found.float() - before.float()).norm() / before.float().norm() < 0.02
            assert found.dtype == before.dtype
    assert set(layers.unpacked) == {(256, 512, 6), (512, 256, 6), (256, 512, 9), (512, 256, 9)}


def test_few_rows_and_what_was_quicker_stay_with_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    layers = FourBitLayers(made, clock=ticking(1.0, 2.0))
    asked(made, LEAST_ROWS - 1)
    assert not layers._quicker
    asked(made, 64)
    assert layers._quicker
    assert not layers.unpacked
    times: list[int] = []
    monkeypatch.setattr(fourbit, "linear", lambda *given: times.append(1))
    asked(made, 64)
    assert not times


def test_a_model_is_left_as_it_was_and_its_scales_are_joined_once() -> None:
    made = model()
    wanted = asked(made, 64)
    block = made["layers"][0]
    first = FourBitLayers(made, clock=ticking(2.0, 1.0))
    asked(made, 64)
    joined = block["up"].weight.quant_state.joined
    second = FourBitLayers(made, clock=ticking(2.0, 1.0))
    assert (first.count, second.count) == (3, 0), "layers that are set aren't set twice"
    first.undo()
    assert not [m for m in made.modules() if "forward" in vars(m)]
    third = FourBitLayers(made, clock=ticking(2.0, 1.0))
    assert block["up"].weight.quant_state.joined is joined
    for _ in range(2):  # both workspaces in turn
        for found, before in zip(asked(made, 64), wanted, strict=True):
            assert (found.float() - before.float()).norm() / before.float().norm() < 0.02
    third.undo()
    assert all(torch.equal(a, b) for a, b in zip(asked(made, 64), wanted, strict=True))


def test_two_workspaces_may_take_turns() -> None:
    from core.models.frozen import FrozenWeight, Workspace, join_scales

    made = model()
    plain = [layer.weight for layer in (made["layers"][0]["up"], made["layers"][1]["up"])]
    found: list[list[torch.Tensor]] = []
    groups = []
    for _ in range(2):
        space = Workspace()
        frozen = [(n, FrozenWeight(m, space)) for n, m in made.named_modules() if type(m).__name__ == "Linear4bit"]
        join_scales(frozen)
        groups.append([weight for _, weight in frozen])
    for _ in range(3):
        for group in groups:
            found.append([weight.weight(torch.float32).clone() for weight in (group[2], group[0], group[1], group[0])])
    assert plain
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_wrong_answer_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    wanted = asked(made, 64)
    layers = FourBitLayers(made, clock=ticking(2.0, 1.0))
    right = fourbit.linear
    monkeypatch.setattr(fourbit, "linear", lambda *given: right(*given) * 1.2)
    found = asked(made, 64)
    assert not layers.unpacked
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_kernel_that_fails_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    layers = FourBitLayers(made, clock=ticking(2.0, 1.0))

    def broken(*_: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(fourbit, "linear", broken)
    assert len(asked(made, 64)) == 3
    assert not layers.unpacked
