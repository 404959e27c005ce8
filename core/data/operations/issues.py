"""An operation on whatever a profile finds: the rows with chosen issues, dropped or put aside."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.data.checks.findings import findings_for
from core.data.operations.base import Context, Operation, Outcome, State
from core.data.rules import known_elements

RowIssue = Literal[
    "empty", "invalid_json", "repeated_key", "unknown_element", "value_type", "ungrounded_value", "fuzzy_value", "empty_answer",
    "mojibake", "markup", "control_character", "width", "placeholder", "personal_data", "language_mix", "over_long", "over_short",
    "turn_fault", "same_template",
]  # fmt: skip
"""Issues of a row by itself. Duplicates, conflicts and leaks have operations of their own, which say which row stays."""


class DropIssues(Operation):
    """Rows with one of the chosen issues, as the profile counts them."""

    op: ClassVar[str] = "drop_issues"
    title: ClassVar[str] = "Drop rows with chosen issues"
    issues: tuple[RowIssue, ...] = Field(min_length=1)
    aside: bool = Field(default=True, description="keep them in quarantine")

    def run(self, state: State, context: Context) -> Outcome:
        task = context.dataset.task
        elements = known_elements(context.dataset, state.rows, context.elements)[0] if task == "extraction" else ()
        told: dict[int, str] = {}
        for finding in findings_for(state.rows, task, elements, self.issues):
            for place, detail in zip(finding.positions.tolist(), finding.details or [""] * len(finding.positions), strict=True):
                words = finding.issue.replace("_", " ") + (f": {detail}" if detail else "")
                told[place] = f"{told[place]}; {words}" if place in told else words
        return self.drop_each(state, context, told, aside=self.aside)
