"""Twenty sessions chat at once, base and fine-tune each: no error, everybody's own answer, fair order, memory flat.

Each asks for a word of its own, and its answers must equal those of a lone greedy run, token for token; in float32, where
what else is in a batch doesn't change a choice. The short test has eight sessions and a tiny model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest import mock

import psutil
import pytest

from core.chat.asking import prepare
from core.data.answers import break_of
from core.models.default import is_converted
from core.prompts.templates import find_template
from core.records import DatasetUse, GenerationSettings, ModelRef, Run, TrainSpec, Turn
from core.store.database import forget_engines
from core.store.runs import list_conversations, run_folder, save_run
from pages.ui import marks
from tests.browser.harness import App, running_app
from tests.sessions.wire import Session, text_of
from tests.tiny import make_tiny_model

SESSIONS = 20
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "hazel", "indigo", "jasper", "kelp", "lotus", "maple",
         "nectar", "olive", "pearl", "quartz", "raven", "saffron", "tulip")  # fmt: skip


def question(number: int, turn: int = 0) -> str:
    """A session's own question, in one of two languages."""
    word = f"{WORDS[number % len(WORDS)]}-{number}{turn}"
    return f"请重复这个词：{word}" if number % 2 else f"Write a short sentence about the word {word}."


@dataclass
class Figures:
    """What was measured: seconds to the first token and to the end of each session's answers, memory in MiB."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def told(self) -> str:
        memory = ", ".join(f"{size:.0f}" for size in self.memory)
        return (
            f"first token {min(self.first):.2f} to {max(self.first):.2f} s, whole answers {min(self.whole):.2f} to "
            f"{max(self.whole):.2f} s (median {median(self.whole):.2f} s); memory {memory} MiB"
        )


@contextmanager
def workspace(folder: Path) -> Iterator[None]:
    """This process's own store turned to the app's workspace."""
    with mock.patch.dict(os.environ, {"TUNEWISE_WORKSPACE": str(folder)}):
        forget_engines()
        try:
            yield
        finally:
            forget_engines()


def add_run(model: ModelRef) -> Run:
    """A finished run with a LoRA adapter of random weights, so that it answers unlike its base."""
    import torch
    from peft import LoraConfig, get_peft_model

    from core.models.load import load_model
    from core.training.artefacts import save_result

    spec = TrainSpec(name="tuned", model=model, data=(DatasetUse(dataset="d"),), method="lora")
    run = Run(run_id="run-tuned", name="tuned", spec=spec, template=find_template("chat"), complete=True)
    loaded = load_model(model, device="cpu")
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    save_result(run, get_peft_model(loaded.model, config), loaded.tokenizer, loaded.folder, {})
    return save_run(run)


def alone(run: Run, questions: list[str], tokens: int) -> dict[str, tuple[str, str]]:
    """What the base and the fine-tune answer when nobody else asks."""
    from core.models.engine import Engine
    from core.models.load import load_model

    settings = GenerationSettings(max_new_tokens=tokens)
    found: dict[str, tuple[str, str]] = {}
    with Engine(load_model(run.spec.model, device="cpu")) as engine:
        engine.attach("tuned", run_folder(run.run_id) / "adapter")
        for text in questions:
            asked = prepare(run.template, text, tokenizer=engine.tokenizer, settings=settings, context=engine.context)
            base, tuned = (
                engine.generate([asked.ids], settings, adapter=adapter, stop=asked.stop)[0].text for adapter in (None, "tuned")
            )
            found[text] = (base, tuned)
    return found


def chat_together(app: App, run: Run, *, sessions: int = SESSIONS, rounds: int, tokens: int) -> Figures:
    """All sessions ask at once, several times over; asserts that everybody got their own answers."""
    questions = [[question(number, turn % 2) for turn in range(rounds)] for number in range(sessions)]
    expected = alone(run, [text for own in questions for text in own[:2]], tokens)
    assert len(set(expected.values())) > sessions // 2  # answers tell sessions apart
    figures, server = Figures(), psutil.Process(app.process.pid)
    tabs = [Session(app.url, "Chat") for _ in range(sessions)]
    for turn in range(rounds):
        for session, own in zip(tabs, questions, strict=True):
            session.set_number("New tokens at most", tokens)
            session.ask(own[turn])
        for session in tabs:
            session.wait()
        figures.memory.append(server.memory_info().rss / 2**20)
        for number, session in enumerate(tabs):
            assert session.faults == []
            _check_shown(session, number, [own[turn] for own in questions], expected)
    for session in tabs:
        session.close()
    talks = {talk.turns[0].content: talk for talk in list_conversations()}
    assert len(talks) == sessions
    for own in questions:
        turns = talks[own[0]].turns
        assert [t.content for t in turns if t.role == "user"] == own
        for place, text in enumerate(own):
            base, tuned = turns[3 * place + 1 : 3 * place + 3]
            assert (base.content, tuned.content) == expected[text], f"{text}: another answer than alone"
            _measure(figures, (base, tuned))
    return figures


def _check_shown(session: Session, number: int, asked: list[str], expected: dict[str, tuple[str, str]]) -> None:
    """A session sees its own question and answers, and nobody else's."""
    shown = session.shown
    assert asked[number] in shown
    for answer in expected[asked[number]]:
        fault = break_of(answer)
        assert text_of(marks.marked(answer, []) if fault is None else marks.broken(answer, fault.position)) in shown
    others = [text for place, text in enumerate(asked) if place != number]
    assert not [text for text in others if text in shown]


def _measure(figures: Figures, turns: tuple[Turn, ...]) -> None:
    for turn in turns:
        assert (turn.error, turn.stopped) == ("", False)
        figures.first.append(turn.first_token_seconds)
        figures.whole.append(turn.seconds)


def test_eight_sessions_at_once_on_a_tiny_model(tmp_path: Path) -> None:
    model = ModelRef(source="path", name=str(make_tiny_model(tmp_path / "model")), dtype="float32")
    with workspace(tmp_path / "workspace"):
        run = add_run(model)
        with running_app(tmp_path / "workspace", tmp_path / "log", OMP_NUM_THREADS="1") as app:
            figures = chat_together(app, run, sessions=8, rounds=1, tokens=12)
        assert "Traceback" not in (tmp_path / "log").read_text("utf-8", "replace")
    print(figures.told())


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(not is_converted(), reason="the default model is not in the cache: python -m core.models.default")
def test_twenty_sessions_at_once_on_the_default_model(tmp_path: Path) -> None:
    """20 sessions, 10 questions each, two arms: 400 answers; prints the figures of docs/benchmarks.md."""
    with workspace(tmp_path / "workspace"):
        run = add_run(ModelRef(dtype="float32"))
        begun = time.monotonic()
        with running_app(tmp_path / "workspace", tmp_path / "log") as app:
            figures = chat_together(app, run, rounds=10, tokens=8)
        assert "Traceback" not in (tmp_path / "log").read_text("utf-8", "replace")
    print(f"{SESSIONS} sessions, 200 questions, 400 answers in {time.monotonic() - begun:.0f} s:", figures.told())
    assert max(figures.whole) <= 4 * median(figures.whole)  # nobody waits for all the others to end
    assert figures.memory[-1] - figures.memory[2] < 48
