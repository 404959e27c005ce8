"""What the tests of evaluation share: rows of a toy dataset, and an engine that answers without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.records import GenerationSettings, Template

TEMPLATE = Template(name="plain", kind="raw", system="", user="{{ input }}\n", answer="{{ output }}")


def make_row(n: int, split: str, text: str, output: dict[str, Any]) -> dict[str, Any]:
    return {
        "row_id": f"r-{n:04d}",
        "instruction": "",
        "input": text,
        "output": json.dumps(output, ensure_ascii=False),
        "messages": None,
        "split": split,
        "source": f"file-{n % 2}.jsonl",
        "line": n + 1,
        "extra": None,
    }


@dataclass
class Answered:
    """What the engine says of a row."""

    text: str
    ids: list[int] = field(default_factory=list)
    tokens: int = 5
    seconds: float = 0.1
    finish: str = "stop"


@dataclass
class FakeEngine:
    """Answers prompts by a function of their text; calls back in reverse order, as a batch might."""

    answer: Callable[[str], str]
    tokenizer: Any
    prompts: list[str] = field(default_factory=list)
    attached: list[str] = field(default_factory=list)
    scored: int = 0
    crash_after: int | None = None
    context: int = 2048
    device: str = "cpu"

    def attach(self, run_id: str, folder: Path) -> None:
        self.attached.append(run_id)

    def generate(
        self,
        prompts: Sequence[list[int]],
        settings: GenerationSettings,
        *,
        adapter: str | None = None,
        stop: Sequence[str] = (),
        should_stop: Callable[[], bool] | None = None,
        on_row: Callable[[int, Answered], None] | None = None,
    ) -> list[Answered]:
        found: list[Answered] = [Answered("", finish="stopped") for _ in prompts]
        for place in reversed(range(len(prompts))):
            if should_stop is not None and should_stop():
                break
            if self.crash_after is not None and len(self.prompts) >= self.crash_after:
                raise RuntimeError("power cut")
            text = self.tokenizer.decode(prompts[place])
            self.prompts.append(text)
            found[place] = Answered(self.answer(text))
            if on_row is not None:
                on_row(place, found[place])
        return found

    def score(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        adapter: str | None = None,
        *,
        should_stop: Callable[[], bool] | None = None,
        on_row: Callable[[int, tuple[float, int]], None] | None = None,
    ) -> list[tuple[float, int]]:
        found = [(0.5 * len(answer), len(answer)) for answer in answers]
        for place, value in enumerate(found):
            self.scored += 1
            if on_row is not None:
                on_row(place, value)
        return found

    def close(self) -> None: ...


def right_answer(prompt: str) -> str:
    """The gold answer of a prompt of ``toy``."""
    person, _, town = prompt.strip().rpartition("\n")[2].partition(" 住在 ")
    return json.dumps({"人": [person], "地": [town]}, ensure_ascii=False)
