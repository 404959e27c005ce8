"""The profile of a version: what is wrong with its rows, issue by issue, and what is in them.

Worked out once and kept beside the version, which never changes. Knows nothing of pages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.data.checks.base import ISSUES, Finding, Issue
from core.data.checks.findings import findings_for
from core.data.recipes import given_elements
from core.data.rules import known_elements
from core.records import Dataset, Reporter, Task, Version
from core.store.datasets import get_dataset, get_version, read_rows, version_folder
from core.store.files import atomic_folder, is_complete, write_json, write_parquet

__all__ = ["ISSUES", "Issue", "Profile", "profile"]

FORMAT = 3
"""Raised when what is counted changes, so that kept profiles are made anew."""
MOST_CLASSES = 1_000
KEPT = 0.8
"""Threshold of nearness of the profiles that are kept."""
_FOUND = pa.schema([("issue", pa.dictionary(pa.int32(), pa.string())), ("position", pa.int64()), ("detail", pa.large_string())])


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile says. ``issues``: each issue's number of rows (``conflicting_output``: of questions)."""

    dataset: str
    version: int
    task: Task
    rows: int
    issues: dict[str, int]
    elements: tuple[str, ...]
    elements_inferred: bool
    facts: dict[str, Any]
    _found: pa.Table

    def positions(self, issue: str) -> npt.NDArray[np.int64]:
        """Positions of the rows with an issue, ascending. KeyError for an issue that there isn't."""
        ISSUES[issue]
        places: npt.NDArray[np.int64] = self._of(issue)["position"].to_numpy()
        return places

    def details(self, issue: str) -> list[str]:
        """What is to be said of each row of ``positions(issue)``."""
        told: list[str] = self._of(issue)["detail"].to_pylist()
        return told

    def details_at(self, issue: str, positions: npt.NDArray[np.int64]) -> list[str]:
        """What is to be said of the rows at ``positions``, each of which has the issue."""
        part = self._of(issue)
        told: list[str] = part["detail"].take(pa.array(np.searchsorted(part["position"].to_numpy(), positions))).to_pylist()
        return told

    def _of(self, issue: str) -> pa.Table:
        names = self._found["issue"].combine_chunks()
        code = pc.index(names.dictionary, issue) if len(names) else pa.scalar(-1)
        return (
            self._found.filter(pc.equal(names.indices, code.cast(pa.int32()))) if code.as_py() >= 0 else self._found.slice(0, 0)
        )

    @property
    def faulty(self) -> int:
        """Rows with at least one issue of severity ``error``."""
        return self._rows_of_severity("error")

    def _rows_of_severity(self, severity: str) -> int:
        names = [name for name, issue in ISSUES.items() if issue.severity == severity]
        wanted = pc.is_in(self._found["issue"].cast(pa.string()), pa.array(names))
        return int(pc.count_distinct(self._found.filter(wanted)["position"]).as_py())

    @property
    def sentence(self) -> str:
        """The dataset's health in one sentence."""
        if not self.rows:
            return "There are no rows."
        worst = sorted(
            (
                (count, ISSUES[name].title.lower())
                for name, count in self.issues.items()
                if count and ISSUES[name].severity == "error"
            ),
            reverse=True,
        )
        if not worst:
            return f"None of the {self.rows:,} rows has a fault that harms training."
        share = f"{self.faulty / self.rows:.1%}"
        have = "has" if self.faulty == 1 else "have"
        return f"{self.faulty:,} of {self.rows:,} rows ({share}) {have} a fault that harms training; most often: {worst[0][1]}."

    def as_dict(self) -> dict[str, Any]:
        """The fixed keys of the ``profile`` command, and more beside them."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            "task": self.task,
            "rows": self.rows,
            "issues": self.issues,
            "faulty_rows": self.faulty,
            "elements": list(self.elements),
            "elements_inferred": self.elements_inferred,
            **self.facts,
        }


def is_kept(name: str, version: int) -> bool:
    """Whether the profile of a version was made before, so that ``profile`` only reads it."""
    dataset, found = get_dataset(name), get_version(name, version)
    folder = version_folder(name, found.number) / f"profile-{FORMAT}"
    return is_complete(folder) and json.loads((folder / "about.json").read_text("utf-8")) == _about(dataset, found)


def _about(dataset: Dataset, version: Version) -> dict[str, Any]:
    """What a profile depends on beside the rows."""
    return {"given": list(given_elements(dataset, version.recipe)), "task": dataset.task}


def profile(name: str, version: int | None = None, *, reporter: Reporter | None = None, threshold: float = KEPT) -> Profile:
    """The profile of a version (the latest by default), from disk if it was made before.

    ``threshold``: Jaccard similarity from which on rows are near duplicates; another than ``KEPT`` is not kept.
    """
    dataset, found_version = get_dataset(name), get_version(name, version)
    folder = version_folder(name, found_version.number) / f"profile-{FORMAT}"
    given = given_elements(dataset, found_version.recipe)
    if threshold == KEPT and is_kept(name, found_version.number):
        return _loaded(folder, dataset, found_version)
    rows = read_rows(name, found_version.number)
    elements, inferred = known_elements(dataset, rows, given) if dataset.task == "extraction" else (given, False)
    findings = findings_for(rows, dataset.task, elements, reporter=reporter, threshold=threshold)
    made = _made(dataset, found_version, rows, elements, inferred, findings)
    if threshold == KEPT:
        _keep(folder, _about(dataset, found_version), made)
    return made


def _made(
    dataset: Dataset,
    version: Version,
    rows: pa.Table,
    elements: tuple[str, ...],
    inferred: bool,
    findings: list[Finding],
) -> Profile:
    facts: dict[str, Any] = {}
    for finding in findings:
        facts |= finding.facts
    facts = {("element_counts" if key == "elements" else key): value for key, value in facts.items()}
    if dataset.task == "classification":
        facts["class_counts"] = _class_counts(rows)
    tables = [_table(finding) for finding in findings]
    issues = {finding.issue: finding.number for finding in findings}
    found = pa.concat_tables(tables).unify_dictionaries()
    return Profile(dataset.name, version.number, dataset.task, rows.num_rows, issues, elements, inferred, facts, found)


def _class_counts(rows: pa.Table) -> dict[str, int]:
    """How many rows have each label, the commonest first; of very many only these."""
    counted = [(item["values"], item["counts"]) for item in pc.value_counts(rows["output"].combine_chunks()).to_pylist()]
    return dict(sorted((one for one in counted if one[0].strip()), key=lambda one: -one[1])[:MOST_CLASSES])


def _table(finding: Finding) -> pa.Table:
    size = len(finding.positions)
    details = list(finding.details) if finding.details else [""] * size
    issue = pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, dtype=np.int32)), pa.array([finding.issue]))
    return pa.Table.from_arrays(
        [issue, pa.array(finding.positions, pa.int64()), pa.array(details, pa.large_string())], schema=_FOUND
    )


def _keep(folder: Path, about: dict[str, Any], made: Profile) -> None:
    import shutil

    if is_complete(folder):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        with atomic_folder(folder) as temporary:
            write_parquet(temporary / "found.parquet", made._found)
            write_json(
                temporary / "summary.json",
                {"issues": made.issues, "facts": made.facts, "elements": made.elements, "inferred": made.elements_inferred},
            )
            write_json(temporary / "about.json", about)
    except FileExistsError:
        return  # another process kept the same profile at the same moment


def _loaded(folder: Path, dataset: Dataset, version: Version) -> Profile:
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    found = pq.read_table(folder / "found.parquet").cast(_FOUND)
    return Profile(
        dataset.name,
        version.number,
        dataset.task,
        version.rows,
        summary["issues"],
        tuple(summary["elements"]),
        summary["inferred"],
        summary["facts"],
        found,
    )
