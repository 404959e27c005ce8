"""Token counts of the pieces that prompts are made of, one array a piece, kept between templates.

Where a tokenizer encodes the texts on both sides of a control token as if each stood alone, a template is a row of
such pieces, and two templates that share one (the user's turn, the answer) share its counts. Knows nothing of
templates: a piece is a list of texts and column numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.lengths.counting import Counter, Counts
from core.prompts.control import controls, parts_at_controls
from core.prompts.plan import Mask, at_controls, texts
from core.prompts.traced import Part
from core.store.files import atomic_file


class Pieces:
    """Counts for the rows of one version and one tokenizer. ``folder``: where they are kept; none: nowhere."""

    def __init__(self, counter: Counter, rows: int, folder: Path | None = None) -> None:
        self.counter, self.rows, self.folder = counter, rows, folder
        self._apart = parts_at_controls(counter.tokenizer)
        self._known: dict[tuple[Part, ...], Counts] = {}
        self._new: set[tuple[Part, ...]] = set()

    def count(self, parts: Sequence[Part], rows: pa.Table, start: int, wanted: Mask) -> Counts:
        """Tokens of a text of ``parts`` for the rows [start, start + n) of the version; right where ``wanted``."""
        total = np.zeros(rows.num_rows, np.int32)
        for piece in at_controls(parts, controls(self.counter.tokenizer)) if self._apart else [tuple(parts)]:
            if any(isinstance(part, int) for part in piece):
                total += self._piece(piece, rows, start, wanted)
            else:
                text = "".join(map(str, piece))
                total += np.int32(self.counter.texts([text])[text])
        return total

    def _piece(self, piece: tuple[Part, ...], rows: pa.Table, start: int, wanted: Mask) -> Counts:
        if piece not in self._known:
            self._known[piece] = self._read(piece)
        counts = self._known[piece][start : start + rows.num_rows]
        missing = wanted & (counts < 0)
        if missing.any():
            chosen = rows if missing.all() else rows.filter(pa.array(missing))
            counts[missing] = self.counter.column(texts(piece, chosen))
            self._new.add(piece)
        return counts

    def _path(self, piece: tuple[Part, ...]) -> Path | None:
        name = hashlib.sha256(json.dumps(piece, ensure_ascii=False).encode()).hexdigest()[:24]
        return None if self.folder is None else self.folder / f"{name}.npy"

    def _read(self, piece: tuple[Part, ...]) -> Counts:
        path = self._path(piece)
        if path is not None and path.is_file():
            known: Counts = np.load(path)
            if known.shape == (self.rows,):
                return known
        return np.full(self.rows, -1, np.int32)

    def save(self) -> None:
        """Keep what was counted since the last time."""
        for piece in self._new:
            path = self._path(piece)
            if path is not None:
                with atomic_file(path) as temporary, open(temporary, "wb") as handle:
                    np.save(handle, self._known[piece])
        self._new.clear()
