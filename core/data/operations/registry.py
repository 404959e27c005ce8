"""All operations by name, and how a recipe's step becomes one of them."""

from __future__ import annotations

from pydantic import ValidationError

from core.data.operations.adding import AddRows
from core.data.operations.answers import CanonicalAnswers, FixJson, ListsOfStrings, MapElements
from core.data.operations.base import Operation
from core.data.operations.edits import BringIn, HandEdit, MixIn, TakeIn
from core.data.operations.filters import Filter
from core.data.operations.issues import DropIssues
from core.data.operations.rows import (
    DropEmpty,
    DropExactDuplicates,
    DropNearDuplicates,
    DropRows,
    DropTurnFaults,
    ResolveConflicts,
    ResolveLeaks,
    Sample,
)
from core.data.operations.text import (
    ConvertScript,
    MaskPersonal,
    Normalise,
    RepairMojibake,
    ReplaceText,
    StripControl,
    StripMarkup,
)
from core.data.operations.values import UngroundedValues, UnknownElements
from core.data.split import SplitRows
from core.errors import SpecError
from core.records import Step

OPERATIONS: dict[str, type[Operation]] = {
    "import": BringIn,
    "mix": MixIn,
    "repair_mojibake": RepairMojibake,
    "strip_markup": StripMarkup,
    "strip_control": StripControl,
    "normalise": Normalise,
    "convert_script": ConvertScript,
    "mask_personal": MaskPersonal,
    "replace_text": ReplaceText,
    "drop_empty": DropEmpty,
    "fix_json": FixJson,
    "lists_of_strings": ListsOfStrings,
    "canonical_answers": CanonicalAnswers,
    "map_elements": MapElements,
    "unknown_elements": UnknownElements,
    "ungrounded_values": UngroundedValues,
    "drop_exact_duplicates": DropExactDuplicates,
    "drop_near_duplicates": DropNearDuplicates,
    "resolve_conflicts": ResolveConflicts,
    "resolve_leaks": ResolveLeaks,
    "drop_turn_faults": DropTurnFaults,
    "drop_issues": DropIssues,
    "filter": Filter,
    "sample": Sample,
    "drop_rows": DropRows,
    "hand_edit": HandEdit,
    "take_in": TakeIn,
    "add_rows": AddRows,
    "split": SplitRows,
}
BOUND = frozenset({"import", "mix", "drop_rows", "hand_edit", "take_in", "add_rows"})
"""Operations that name rows or files of one dataset: no part of a recipe that is replayed on another."""


def operation_of(step: Step, number: int | None = None) -> Operation:
    """The operation of a step; SpecError names each unknown or wrong parameter."""
    place = f"Step {number}" if number is not None else "Step"
    kind = OPERATIONS.get(step.op)
    if kind is None:
        raise SpecError(f"{place}: there is no operation {step.op!r}", f"Operations: {', '.join(OPERATIONS)}.")
    try:
        return kind.model_validate(step.params)
    except ValidationError as error:
        faults = tuple(
            f"{place} ({step.op}): {'.'.join(map(str, fault['loc'])) or 'parameters'}: {fault['msg']}" for fault in error.errors()
        )
        names = ", ".join(kind.model_fields) or "none"
        raise SpecError(faults[0], f"Parameters of {step.op}: {names}.", faults) from None
