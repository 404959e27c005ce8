"""What an arm with passages found in its documents: how much of it was withheld, and what stood in each row's prompt."""

from __future__ import annotations

import streamlit as st

from core.evaluation.passages import read_found, told_sentence
from core.records import Evaluation
from pages.ui import tables


def show(record: Evaluation) -> None:
    """The guard's counts and a table of what was found; nothing for an arm without passages."""
    told = record.scores.get("passages")
    if not told:
        return
    st.markdown(told_sentence(told))
    with st.expander("Passages of each row"):
        columns = {
            "row_id": tables.text("Row"), "rank": tables.whole("Rank"), "score": tables.decimal("BM25"),
            "title": tables.text("Document"), "source": tables.text("File"), "text": tables.text("Passage", width="large"),
        }  # fmt: skip
        frame = read_found(record.evaluation_id).to_pandas()[list(columns)]
        tables.show(frame, columns, alt="Passages that stood in each row's prompt", key="retrieved_table")
