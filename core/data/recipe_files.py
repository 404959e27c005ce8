"""Recipes as YAML or JSON text, and read back with every fault told at once. Knows nothing of datasets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from core.data.operations.registry import BOUND, OPERATIONS, operation_of
from core.errors import InputFileError, SpecError
from core.records import Step
from core.store.yamltext import read_yaml

_EXAMPLE = "A recipe is a list of steps, such as `- op: normalise` and `- {op: sample, params: {rows: 500}}`."


def load_recipe(path: Path) -> tuple[Step, ...]:
    """Steps of a YAML or JSON file: a list of ``{op, params}``, or ``{steps: [...]}``. Every fault is told at once."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path} can't be read: {error}", "Give the path of a YAML or JSON file.") from None
    return read_recipe(content, str(path))


def read_recipe(content: bytes, source: str) -> tuple[Step, ...]:
    """Steps of a file's content; ``source`` names it. SpecError lists each fault."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(f"{source} can't be read: it is not UTF-8 text (byte {error.start})", _EXAMPLE) from None
    value = read_yaml(text, source, _EXAMPLE)
    listed = value.get("steps") if isinstance(value, dict) else value
    if not isinstance(listed, list) or not listed:
        raise SpecError(f"{source} holds no list of steps", _EXAMPLE)
    steps: list[Step] = []
    faults: list[str] = []
    for number, item in enumerate(listed, start=1):
        item = {"op": item} if isinstance(item, str) else item
        if not isinstance(item, dict) or not isinstance(item.get("op"), str):
            faults.append(f"Step {number}: no `op`")
            continue
        params = item.get("params", {key: cell for key, cell in item.items() if key not in ("op", "step_id")})
        step = Step(op=item["op"], params=params if isinstance(params, dict) else {"params": params})
        try:
            operation_of(step, number)
        except SpecError as error:
            faults += error.faults or (error.message,)
        steps.append(step)
    if faults:
        raise SpecError(faults[0], f"Operations: {', '.join(OPERATIONS)}.", tuple(faults))
    return tuple(steps)


def dump_recipe(steps: Sequence[Step], form: str = "yaml") -> str:
    """Steps as YAML (or ``json``) that ``load_recipe`` reads. Steps bound to one dataset's rows or files are left out."""
    listed = [{"op": step.op, **({"params": step.params} if step.params else {})} for step in steps if step.op not in BOUND]
    if form == "json":
        return json.dumps({"steps": listed}, ensure_ascii=False, indent=1)
    return yaml.safe_dump({"steps": listed}, allow_unicode=True, sort_keys=False)
