"""A finding: the rows that have one issue; and the list of all issues with what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Issue:
    """What an issue is, how much it harms, and the operation that deals with it ("" if none is needed)."""

    title: str
    severity: Severity
    operation: str = ""


ISSUES: dict[str, Issue] = {
    "empty": Issue("Nothing is asked, or the answer is empty", "error", "drop_empty"),
    "exact_duplicate": Issue("Equal to an earlier row", "error", "drop_exact_duplicates"),
    "normalised_duplicate": Issue("Equal to an earlier row but for case, width and white space", "warning", "normalise"),
    "near_duplicate": Issue("Nearly the text of an earlier row", "warning", "drop_near_duplicates"),
    "conflicting_output": Issue("Questions that have more than one answer", "error", "resolve_conflicts"),
    "same_template": Issue("Same wording with other values: worth keeping", "note"),
    "invalid_json": Issue("The answer is no JSON object", "error", "fix_json"),
    "repairable_json": Issue("The answer is no JSON object, but a repair can be proposed", "note", "fix_json"),
    "repeated_key": Issue("An element stands twice in the answer", "warning", "lists_of_strings"),
    "unknown_element": Issue("An element that the dataset doesn't have", "error", "unknown_elements"),
    "value_type": Issue("A value of another type than its element's others", "warning", "lists_of_strings"),
    "ungrounded_value": Issue("A value that isn't in the text", "error", "ungrounded_values"),
    "normalised_value": Issue("A value that stands in the text in another form", "note", "ungrounded_values"),
    "fuzzy_value": Issue("A value that stands in the text only nearly", "warning", "ungrounded_values"),
    "empty_answer": Issue("The answer says that there is nothing to find", "note"),
    "leak_exact": Issue("In dev or test, and its question in train as well", "error", "resolve_leaks"),
    "leak_near": Issue("In dev or test, and nearly the same text in train", "warning", "resolve_leaks"),
    "mojibake": Issue("Decoded with the wrong encoding", "error", "repair_mojibake"),
    "markup": Issue("Leftovers of HTML", "warning", "strip_markup"),
    "control_character": Issue("Control or zero-width characters", "warning", "strip_control"),
    "width": Issue("Full-width letters or digits", "warning", "normalise"),
    "placeholder": Issue("A slot that nobody filled in", "error", "drop_issues"),
    "personal_data": Issue("Identity, phone or card numbers, e-mail addresses", "warning", "mask_personal"),
    "language_mix": Issue("Simplified and traditional Chinese mixed, or a language that is rare here", "note", "convert_script"),
    "over_long": Issue("Far longer than the other rows", "warning", "drop_issues"),
    "over_short": Issue("Far shorter than the other rows", "note", "drop_issues"),
    "turn_fault": Issue("A conversation whose turns are out of order or empty", "error", "drop_turn_faults"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows with an issue: positions in ascending order, what is to be said of each ("" where nothing), and the count.

    ``count`` is the number of rows unless the issue is counted otherwise (conflicts: by question).
    """

    issue: str
    positions: Positions
    details: Sequence[str] = ()
    count: int = -1
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """How often the issue occurs, by its own counting rule."""
        return len(self.positions) if self.count < 0 else self.count


def of_mask(issue: str, mask: npt.NDArray[np.bool_]) -> Finding:
    """A finding of the rows of a mask."""
    return Finding(issue, np.flatnonzero(mask))


def of_details(issue: str, details: Mapping[int, str]) -> Finding:
    """A finding of rows by position with what is to be said of each."""
    places = sorted(details)
    return Finding(issue, np.array(places, dtype=np.int64), [details[place] for place in places])
