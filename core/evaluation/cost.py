"""What arms cost: a request by its tokens, a training by its time, and from how many requests on the dearer start pays off.

Prices are settings and belong to no currency. Knows nothing of scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.evaluation.words import seconds_long
from core.records import Arm
from core.settings import Settings


@dataclass(frozen=True)
class ArmCost:
    """Price of a request and of the training before the first (0 without one); none where tokens or prices aren't known."""

    request: float | None
    training: float | None
    training_seconds: float = 0.0


@dataclass(frozen=True)
class BreakEven:
    """``requests``: from this many on the arm that was dearer to make is cheaper on the whole; none: never. 0: at once."""

    first: ArmCost
    other: ArmCost
    cheaper: str
    requests: int | None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        arms = {
            name: {"request": arm.request, "training": arm.training, "training_seconds": arm.training_seconds}
            for name, arm in (("first", self.first), ("other", self.other))
        }
        return {**arms, "cheaper": self.cheaper, "requests": self.requests}


def arm_cost(scores: Mapping[str, float], training_seconds: float, gpus: int, prices: Settings) -> ArmCost:
    """An arm's cost from its tokens of a request and its training; ``training_seconds`` 0 without one."""
    request = training = None
    tokens = [scores.get(f"tokens_{side}_per_request") for side in ("in", "out")]
    if prices.price_in is not None and prices.price_out is not None and None not in tokens:
        request = sum(float(n or 0) * price / 1e6 for n, price in zip(tokens, (prices.price_in, prices.price_out), strict=True))
    if not training_seconds:
        training = 0.0
    elif prices.price_hour is not None:
        training = training_seconds / 3600 * gpus * prices.price_hour
    return ArmCost(request, training, training_seconds)


def prices_of(arm: Arm, settings: Settings) -> Settings:
    """The settings with the prices of the arm's endpoint where it names some."""
    named = {name: getattr(arm.endpoint, name) for name in ("price_in", "price_out")} if arm.endpoint is not None else {}
    return settings.model_copy(update={name: price for name, price in named.items() if price is not None})


def break_even(first: ArmCost, other: ArmCost) -> BreakEven | None:
    """Which arm is cheaper per request, and from how many requests on it is so with its training; none if prices lack.

    n = (its training - the other's) / (the other's request - its request), rounded up.
    """
    if first.request is None or other.request is None or first.training is None or other.training is None:
        return None
    dear, cheap, name = (first, other, "other") if other.request <= first.request else (other, first, "first")
    saved, ahead = (dear.request or 0) - (cheap.request or 0), (cheap.training or 0) - (dear.training or 0)
    if ahead <= 0:
        return BreakEven(first, other, name, 0)
    return BreakEven(first, other, name, math.ceil(ahead / saved) if saved > 0 else None)


def cost_sentence(first: ArmCost, other: ArmCost, names: tuple[str, str]) -> str:
    """What it costs, in words; empty where nothing is known. Begins with a blank."""
    trained = [(name, arm) for name, arm in zip(names, (first, other), strict=True) if arm.training_seconds]
    spent = "".join(f" Training {name} took {seconds_long(arm.training_seconds)}." for name, arm in trained)
    found = break_even(first, other)
    if found is None:
        return spent
    cheap, dear = (names[1], names[0]) if found.cheaper == "other" else (names[0], names[1])
    per = f" 1,000 requests cost {_price(first.request, 1000)} with {names[0]} and {_price(other.request, 1000)} with {names[1]}."
    if found.requests is None:
        return f"{spent}{per} The training never pays off by the price of a request."
    if found.requests == 0:
        equal = first.request == other.request and first.training == other.training
        return f"{spent}{per}" if equal else f"{spent}{per} {cheap} is cheaper from the first request on."
    return f"{spent}{per} With its training, {cheap} is cheaper than {dear} from {found.requests:,} requests on."


def _price(value: float | None, times: int) -> str:
    return f"{(value or 0) * times:,.3g}" if (value or 0) * times < 1000 else f"{(value or 0) * times:,.0f}"
