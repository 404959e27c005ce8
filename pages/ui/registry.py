"""The pages, once: their order, addresses and the question each answers. Frozen; knows nothing of what they show."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Entry(NamedTuple):
    """One page. ``path`` is relative to ``Home.py``; ``title`` is also its address."""

    path: str
    title: str
    question: str


HOME = Entry("Home.py", "Home", "Where do I stand?")
DATA = Entry("pages/1_Data.py", "Data", "Is my data good?")
TOKENS = Entry("pages/2_Tokens.py", "Tokens", "Will it fit, and what would be cut?")
TRAIN = Entry("pages/3_Train.py", "Train", "What will it cost, and how is it going?")
CHAT = Entry("pages/4_Chat.py", "Chat", "How does it answer?")
COMPARE = Entry("pages/5_Compare.py", "Compare", "Prompt or fine-tune?")
METRICS = Entry("pages/6_Metrics.py", "Metrics", "What do the numbers say over everything?")

PAGES: tuple[Entry, ...] = (HOME, DATA, TOKENS, TRAIN, CHAT, COMPARE, METRICS)


def entry(title: str) -> Entry:
    """The page of a title."""
    return next(page for page in PAGES if page.title == title)
