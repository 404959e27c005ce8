"""The form of an extraction answer as a pattern for constrained decoding: one JSON object of the dataset's elements.

Element names in any order, each value a string or a list of strings, at most one blank after ``:`` and ``,``. So an arm
that is decoded by it never fails on format, but for an answer that is cut off. Knows nothing of how tokens are chosen.
"""

from __future__ import annotations

import json
import re
from typing import Any

from core.errors import SpecError
from core.records import Evaluation

SIGNATURE = "constrained:json object of elements|values:string or list of strings|version:1"
SCHEMA_SIGNATURE = "constrained:json schema of elements by the endpoint|values:list of strings|version:1"
_STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_VALUE = rf"(?:{_STRING}|\[(?:{_STRING}(?:, ?{_STRING})*)?\])"


def answer_pattern(evaluation: Evaluation) -> str:
    """The regular expression of an evaluation's answers. SpecError for other tasks, or a dataset without elements."""
    names = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in _elements(evaluation))
    pair = f"(?:{names}): ?{_VALUE}"
    return rf"\{{(?:{pair}(?:, ?{pair})*)?\}}"


def response_format(evaluation: Evaluation) -> dict[str, Any]:
    """The same for an endpoint: each element a list of strings, all there, an absent one empty (strict schemas want all)."""
    names = _elements(evaluation)
    values = {name: {"type": "array", "items": {"type": "string"}} for name in names}
    schema = {"type": "object", "properties": values, "required": list(names), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _elements(evaluation: Evaluation) -> tuple[str, ...]:
    if evaluation.task != "extraction" or not evaluation.elements:
        raise SpecError("Answers can be constrained only to the elements of an extraction dataset", "Leave the constraint out.")
    return evaluation.elements
