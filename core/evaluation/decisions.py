"""What a person decided on suspicious gold answers: it is right after all, or it is mended, as a step of the data's recipe.

A gold answer that was accepted is kept beside the dataset with the answer it was accepted for, so that a later
change opens the question again; one that the latest version no longer has is settled by itself, and open again once the
step is undone. Knows nothing of how suspects are found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256

import pyarrow as pa

from core.data import recipes
from core.data.answers import parse_answer
from core.errors import UserError
from core.records import Step, Version
from core.store.datasets import get_dataset, read_rows
from core.store.files import area

_FILE = "adjudicated.jsonl"


def accept(dataset: str, row_id: str, element: str, output: str) -> None:
    """Keep that a row's gold answer ``output`` is right in an element (``""``: as a whole)."""
    get_dataset(dataset)
    line = json.dumps({"row_id": row_id, "element": element, "output": _hash(output)}, ensure_ascii=False)
    with open(area("datasets", dataset, _FILE), "ab") as file:
        file.write(line.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def fix(dataset: str, answers: Mapping[str, str]) -> Version:
    """Mend gold answers (new answer by ``row_id``) as one step, on top of the latest version; returns the new version.

    UserError for an answer that can't be read, or a row that the latest version doesn't have.
    """
    there = set(read_rows(dataset, columns=("row_id",))["row_id"].to_pylist())
    for row_id, answer in answers.items():
        read = parse_answer(answer)
        if not read.ok:
            raise UserError(f"The new answer of row {row_id} can't be read: {read.error}", "Write one JSON object of elements.")
        if row_id not in there:
            raise UserError(f"The latest version of {dataset!r} has no row {row_id}", "It was dropped since it was evaluated.")
    edits = [{"row_id": row_id, "column": "output", "value": answer} for row_id, answer in answers.items()]
    step = Step(op="hand_edit", params={"edits": edits, "reason": "gold answer mended after evaluation"})
    return recipes.apply(dataset, [step], note="gold answers mended")


def still_open(dataset: str, suspects: pa.Table) -> pa.Table:
    """The suspects (``adjudication.SUSPECTS``) that nobody accepted, and whose gold answer is still in the latest version."""
    rows = read_rows(dataset, columns=("row_id", "output"))
    latest = dict(zip(rows["row_id"].to_pylist(), rows["output"].to_pylist(), strict=True))
    accepted = _accepted(dataset)
    keys = zip(*(suspects[name].to_pylist() for name in ("row_id", "element", "output")), strict=True)
    return suspects.filter(
        pa.array(
            [latest.get(row) == output and (row, element, _hash(output)) not in accepted for row, element, output in keys],
            pa.bool_(),
        )
    )


def _accepted(dataset: str) -> set[tuple[str, str, str]]:
    path = area("datasets", dataset, _FILE)
    if not path.exists():
        return set()
    found = set()
    for line in path.read_text("utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # a line that a crash tore: its question is asked once more
            continue
        found.add((record["row_id"], record["element"], record["output"]))
    return found


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
