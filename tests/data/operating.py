"""Operations run on a few rows, and what is looked at of the outcome."""

from __future__ import annotations

from typing import Any

from core.data.operations.base import Outcome
from core.data.operations.registry import operation_of
from core.records import Step
from tests.data.make import context, state_of

BROKEN = [
    {"output": '{"a":"x"}'},
    {"output": '{"a":"x"'},
    {"output": "[]"},
    {"output": " "},
    {"output": '```json\n{"a":"x"}\n```'},
]
"""Answers of which the first and the blank one are no broken JSON."""


def run(op: str, *rows: dict[str, Any], params: dict[str, Any] | None = None, **kwargs: Any) -> Outcome:
    """What an operation with these parameters makes of the rows."""
    return operation_of(Step(op=op, params=params or {})).run(state_of(*rows), context(**kwargs))


def cells(outcome: Outcome, column: str = "output") -> list[Any]:
    """A column afterwards."""
    return outcome.state.rows[column].to_pylist()


def numbers(outcome: Outcome) -> list[int]:
    """Which rows are left, counted from 1."""
    return [int(row_id[-3:]) for row_id in outcome.state.rows["row_id"].to_pylist()]
