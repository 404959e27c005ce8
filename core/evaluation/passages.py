"""The passages of an arm: the index of its documents, what is found for each row, and a guard against answers among them.

The index is kept in the workspace by the documents' content and the passages' size, so that it is built once. Documents that
list the answers would make a score worthless, so a passage that gives a row's answer away is withheld from that row, and how
often that happened is told beside the score. Knows nothing of templates and models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UserError
from core.evaluation.documents import Passage, content_of, passages, read_documents
from core.prompts.bm25 import K1, B, Bm25
from core.prompts.retrieval import asked, same_text
from core.records import Evaluation, Passages, Task
from core.store.files import area, atomic_folder, is_complete, write_parquet
from core.store.runs import evaluation_folder

FOUND = pa.schema(
    [
        pa.field("row_id", pa.large_string(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),  # 1: the most like the row
        pa.field("score", pa.float64(), nullable=False),
        pa.field("title", pa.large_string(), nullable=False),
        pa.field("source", pa.large_string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # characters of the document
        pa.field("end", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
    ]
)
_TABLE = pa.schema([FOUND.field(name) for name in ("text", "title", "source", "start", "end")])
_LEAST = 8
"""Letters and digits below which a text that stands in a passage says nothing."""
VERSION = 1


@dataclass(frozen=True)
class Retrieved:
    """A passage that was found for a row."""

    passage: Passage
    score: float


@dataclass
class Counts:
    """What the guard saw: rows with passages, rows that a passage was withheld from, rows whose text stands in the documents."""

    rows: int = 0
    with_passages: int = 0
    withheld_rows: int = 0
    withheld_passages: int = 0
    text_in_passages: int = 0


@dataclass
class Library:
    """The passages of a folder with their index."""

    settings: Passages
    parts: list[Passage]
    index: Bm25
    documents: int
    counts: Counts = field(default_factory=Counts)

    def find(self, row: Mapping[str, Any], task: Task) -> list[Retrieved]:
        """At most ``k`` passages that share a term with what the row asks, the most like it first, but for leaks."""
        text = asked(row)
        scores = self.index.scores(text)
        mine, answer = same_text(text), same_text(str(row.get("output") or ""))
        found: list[Retrieved] = []
        withheld, stands = 0, False
        for place in np.argsort(-scores, kind="stable"):
            if scores[place] <= 0 or len(found) == self.settings.k:
                break
            passage = self.parts[int(place)]
            inside = same_text(passage.text)
            here = len(mine) >= _LEAST and mine in inside
            stands = stands or here
            if _gives_away(inside, here, answer, task):
                withheld += 1
                continue
            found.append(Retrieved(passage, float(scores[place])))
        self.counts.rows += 1
        self.counts.with_passages += bool(found)
        self.counts.withheld_rows += bool(withheld)
        self.counts.withheld_passages += withheld
        self.counts.text_in_passages += stands
        return found

    @property
    def signature(self) -> str:
        """How passages were found."""
        s = self.settings
        return (
            f"bm25s:lucene,k1={K1},b={B}|words, character pairs|k:{s.k}|size:{s.size}|overlap:{s.overlap}"
            f"|documents:{self.documents}:{s.content}|answers withheld|version:{VERSION}"
        )

    def told(self) -> dict[str, int]:
        """The guard's counts and the library's size, for the scores."""
        return {"documents": self.documents, "passages": len(self.parts), **vars(self.counts)}


def _gives_away(inside: str, has_text: bool, answer: str, task: Task) -> bool:
    """Whether a passage lists a row's answer.

    An extraction's whole answer, element names and all, stands nowhere by chance. Of other tasks a passage may well hold the
    answer, that is what it is there for; it gives it away where it holds the row's text as well.
    """
    if not answer or answer not in inside:
        return False
    return has_text or (task == "extraction" and len(answer) >= _LEAST)


def freeze(settings: Passages) -> Passages:
    """The settings with an absolute folder and its content's hash. UserError for a folder that can't be used."""
    folder = Path(settings.folder).expanduser().absolute()
    if settings.overlap >= settings.size:
        raise UserError(
            f"Passages of {settings.size} can't overlap by {settings.overlap}", "Take an overlap below the passages' size."
        )
    return settings.model_copy(update={"folder": str(folder), "content": content_of(folder)})


def open_library(settings: Passages) -> Library:
    """The passages of frozen settings, their index built where it isn't kept. UserError where the documents have changed."""
    key = sha256(f"{settings.content}|{settings.size}|{settings.overlap}|{VERSION}".encode()).hexdigest()[:16]
    kept = area("passages", key)
    if not is_complete(kept):
        _build(settings, kept)
    table = pq.read_table(kept / "passages.parquet")
    parts = [Passage(**line) for line in table.to_pylist()]
    return Library(settings, parts, Bm25.load(kept, len(parts)), len({part.source for part in parts}))


def _build(settings: Passages, kept: Path) -> None:
    folder = Path(settings.folder)
    if content_of(folder) != settings.content:
        raise UserError(
            f"The documents in {folder} have changed since this evaluation was queued",
            "Evaluate anew, with the documents as they are.",
        )
    parts = [part for document in read_documents(folder) for part in passages(document, settings.size, settings.overlap)]
    if not parts:
        raise UserError(f"The documents in {folder} hold no text", "Put text into them.")
    index = Bm25.of([f"{part.title}\n{part.text}" for part in parts])
    lines = [{name: getattr(part, name) for name in _TABLE.names} for part in parts]
    manifest = {"content": settings.content, "size": settings.size, "overlap": settings.overlap}
    with suppress(FileExistsError), atomic_folder(kept, manifest) as unfinished:  # another worker may have built it meanwhile
        write_parquet(unfinished / "passages.parquet", pa.Table.from_pylist(lines, schema=_TABLE))
        index.save(unfinished)


def library_for(evaluation: Evaluation) -> Library | None:
    """The passages that an evaluation's arm may use, or none."""
    settings = evaluation.spec.arm.passages
    return open_library(settings) if settings is not None else None


def found_table(found: Mapping[str, Sequence[Retrieved]]) -> pa.Table:
    """What was found for each row, columns of ``FOUND``."""
    lines = [
        {"row_id": row_id, "rank": rank, "score": one.score, **{name: getattr(one.passage, name) for name in _TABLE.names}}
        for row_id, several in found.items()
        for rank, one in enumerate(several, 1)
    ]
    return pa.Table.from_pylist(lines, schema=FOUND)


def read_found(evaluation_id: str) -> pa.Table:
    """What was found for each row of an evaluation with passages, columns of ``FOUND``."""
    return pq.read_table(evaluation_folder(evaluation_id) / "passages.parquet")


def told_sentence(told: Mapping[str, int]) -> str:
    """The guard's counts in words."""
    size = f"{told['passages']:,} passages of {told['documents']:,} documents"
    library = f"{size}; {told['with_passages']:,} of {told['rows']:,} rows got some."
    held = f"Rows from which a passage was withheld that lists their answer: {told['withheld_rows']:,}."
    stands = f"Rows whose text stands in what was found for them: {told['text_in_passages']:,}."
    return " ".join([library, *([held] if told["withheld_rows"] else []), *([stands] if told["text_in_passages"] else [])])
