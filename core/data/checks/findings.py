"""All checks together: every finding about a table of rows, or those of chosen issues only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pyarrow as pa

from core.data.checks.answers import answer_findings, empty_findings, no_answer_findings
from core.data.checks.base import ISSUES, Finding
from core.data.checks.groups import group_findings
from core.data.checks.texts import language_and_length_findings, text_findings, turn_findings
from core.data.duplicates import Tick
from core.errors import UserError
from core.records import Reporter, SilentReporter, Task

Check = Callable[[pa.Table, Task, Sequence[str], float, Tick], list[Finding]]
CHECKS: tuple[tuple[str, frozenset[str], Check], ...] = (
    ("empty rows", frozenset({"empty"}), lambda rows, task, *_: empty_findings(rows, task)),
    (
        "characters",
        frozenset({"mojibake", "control_character", "markup", "width", "placeholder", "personal_data"}),
        lambda rows, *_: text_findings(rows),
    ),
    (
        "languages and lengths",
        frozenset({"language_mix", "over_long", "over_short"}),
        lambda rows, *_: language_and_length_findings(rows),
    ),
    ("conversations", frozenset({"turn_fault"}), lambda rows, *_: turn_findings(rows)),
    (
        "answers",
        frozenset(finding.issue for finding in no_answer_findings()),
        lambda rows, task, elements, _, tick: (
            answer_findings(rows, elements, tick) if task == "extraction" else no_answer_findings()
        ),
    ),
    (
        "duplicates and leaks",
        frozenset(
            {
                "exact_duplicate",
                "normalised_duplicate",
                "near_duplicate",
                "conflicting_output",
                "same_template",
                "leak_exact",
                "leak_near",
            }
        ),
        lambda rows, task, _, threshold, tick: group_findings(rows, task, threshold, tick),
    ),
)
"""Each check: what it looks at, the issues that it finds, how. Together they find each of ``ISSUES``."""


def findings_for(
    rows: pa.Table,
    task: Task,
    elements: Sequence[str],
    issues: Collection[str] = tuple(ISSUES),
    *,
    threshold: float = 0.8,
    reporter: Reporter | None = None,
) -> list[Finding]:
    """A finding for each of the chosen issues, in the order of ``ISSUES``; those that nothing has are without rows.

    UserError when the reporter says to stop.
    """
    reporter = reporter or SilentReporter()

    def tick() -> None:
        if reporter.should_stop():
            raise UserError("The look through the rows was stopped", "Nothing was written.")

    wanted = [check for check in CHECKS if check[1] & set(issues)]
    found: dict[str, Finding] = {}
    for number, (what, _, check) in enumerate(wanted):
        reporter.progress(number, len(wanted), unit="checks", message=what)
        tick()
        found |= {finding.issue: finding for finding in check(rows, task, elements, threshold, tick)}
    reporter.progress(len(wanted), len(wanted), unit="checks")
    return [found[issue] for issue in ISSUES if issue in issues]
