"""Issues as the page shows them: short labels, order, and where in a text an issue was found.

What an issue means, how grave it is and what mends it is told by ``core.data.profile``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.data.detect.characters import strip_hidden
from core.data.detect.markup import strip_markup
from core.data.detect.mojibake import repair_mojibake
from core.data.detect.personal import find_personal
from core.data.detect.placeholders import PATTERN as PLACEHOLDER
from core.data.normalise import narrow
from core.data.profile import ISSUES, Issue, Profile
from pages.ui.marks import Mark

LABELS = {
    "empty": "Empty question or answer",
    "exact_duplicate": "Exact duplicates",
    "normalised_duplicate": "Duplicates but for case and width",
    "near_duplicate": "Near duplicates",
    "conflicting_output": "Conflicting answers",
    "same_template": "Same sentence, other values",
    "invalid_json": "Answer is no JSON",
    "repairable_json": "JSON with a likely repair",
    "repeated_key": "Element named twice",
    "unknown_element": "Unknown elements",
    "value_type": "Values of another type",
    "ungrounded_value": "Values not in the text",
    "normalised_value": "Values in another writing",
    "fuzzy_value": "Values only nearly in the text",
    "empty_answer": "Nothing to find",
    "leak_exact": "Test rows that stand in train",
    "leak_near": "Test rows nearly in train",
    "mojibake": "Garbled characters",
    "markup": "HTML left over",
    "control_character": "Invisible characters",
    "width": "Full-width letters",
    "placeholder": "Unfilled placeholders",
    "personal_data": "Personal data",
    "language_mix": "Mixed or rare languages",
    "over_long": "Unusually long",
    "over_short": "Unusually short",
    "turn_fault": "Turns out of order",
}
TASTE = frozenset({"filter", "drop_issues", "mask_personal", "drop_near_duplicates", "convert_script"})
"""Operations that aren't proposed unasked: they need parameters, or rows would go that may be meant."""
RANK = {"error": 0, "warning": 1, "note": 2}


def _without_placeholders(text: str) -> str:
    return str(pc.replace_substring_regex(pa.scalar(text, pa.large_string()), PLACEHOLDER, ""))


REMEDIES: dict[str, Callable[[str], str]] = {
    "markup": strip_markup,
    "control_character": strip_hidden,
    "mojibake": repair_mojibake,
    "width": narrow,
    "placeholder": _without_placeholders,
}


def issue(key: str) -> Issue:
    """What core says of an issue."""
    return ISSUES[key]


def label(key: str) -> str:
    """A short name; one that isn't known here is named after its key."""
    return LABELS.get(key, key.replace("_", " ").capitalize())


def frame(found: Profile) -> pd.DataFrame:
    """The issues found: ``key``, ``label``, ``rows``, ``share``, ``severity``, ``meaning``; the gravest first, then the most."""
    lines = [
        {"key": key, "label": label(key), "rows": rows, "share": rows / max(1, found.rows)}
        | {"severity": ISSUES[key].severity, "meaning": ISSUES[key].title, "rank": RANK[ISSUES[key].severity]}
        for key, rows in found.issues.items()
        if rows
    ]
    made = pd.DataFrame(lines, columns=["key", "label", "rows", "share", "severity", "meaning", "rank"])
    return made.sort_values(["rank", "rows", "label"], ascending=[True, False, True], ignore_index=True).drop(columns="rank")


def remedies(found: pd.DataFrame) -> list[str]:
    """The operations for the issues that harm or are worth a look, each once, but for those of ``TASTE``."""
    wanted = [ISSUES[key].operation for key in found.loc[found["severity"] != "note", "key"]]
    return [op for op in dict.fromkeys(wanted) if op and op not in TASTE]


def hits(key: str, text: str) -> list[Mark]:
    """Where in a text an issue was found: each piece of personal data whole, else what the issue's remedy would change."""
    if key == "personal_data":
        return [Mark(found.start, found.end, "hit") for found in find_personal(text)]
    remedy = REMEDIES.get(key)
    if remedy is None or len(text) > 20_000:
        return []
    matcher = difflib.SequenceMatcher(None, text, remedy(text), autojunk=False)
    return [Mark(start, end, "hit") for kind, start, end, _, _ in matcher.get_opcodes() if kind != "equal" and end > start]
