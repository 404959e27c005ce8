"""Questions within the window, and several arms answering at once: in step, stopped, with faults of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from core.chat.asking import Answering, messages_for, prepare, together
from core.chat.settings import PLAIN
from core.errors import ModelError, SpecError, UserError
from core.models.answers import Answered
from core.models.tokenizer import tokenizer_in
from core.prompts.templates import find_template
from core.records import GenerationSettings
from tests.tiny import make_tiny_tokenizer


class Spoken(Iterator[str]):
    """Says its words, one each ``pause`` seconds."""

    def __init__(
        self, words: list[str], stopping: Callable[[], bool], pause: float = 0.0, fault: Exception | None = None
    ) -> None:
        self.words, self.stopping, self.pause, self.fault = list(words), stopping, pause, fault
        self.said: list[str] = []
        self.closed = threading.Event()
        self.position = 3

    def __next__(self) -> str:
        self.closed.wait(self.pause)
        if self.fault is not None and len(self.said) == 1:
            raise self.fault
        if not self.words or self.stopping() or self.closed.is_set():
            raise StopIteration
        self.said.append(self.words.pop(0))
        return self.said[-1]

    @property
    def answer(self) -> Answered:
        return Answered((), "".join(self.said), len(self.said), 0.0, "stop" if self.words else "length", 7)

    def close(self) -> None:
        self.closed.set()


def answering(words: str, arm: int = 0, **how: object) -> Answering:
    return Answering(lambda stopping: Spoken(list(words), stopping, **how), arm=arm, tokens_in=5)  # type: ignore[arg-type]


def test_all_arms_speak_at_once_and_their_numbers_are_kept() -> None:
    said = [answering("abcd" * 10, arm, pause=0.02) for arm in range(4)]
    both = False
    for _ in together(said, every=0.01):
        both = both or all(0 < len(said[arm].text) < 40 for arm in (0, 3))
    assert both
    turn = said[2].turn
    assert (turn.content, turn.arm, turn.tokens_in, turn.tokens_out, turn.stopped, turn.cut) == (
        "abcd" * 10,
        2,
        7,
        40,
        False,
        True,
    )
    assert 0.02 <= turn.first_token_seconds < turn.seconds


def test_a_stop_keeps_what_was_said_and_ends_the_others() -> None:
    said = [answering("abcdefgh" * 50, arm, pause=0.02) for arm in range(2)] + [answering("x", 2)]
    begun = time.monotonic()
    with closing(together(said, every=0.01)) as going:
        for _ in going:
            if len(said[0].text) > 3:
                break
    assert time.monotonic() - begun < 6  # to their end they would speak for 8 seconds
    assert [one.turn.stopped for one in said] == [True, True, False]
    assert said[0].turn.content.startswith("abcd")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tunewise-answer")]


def test_one_arms_fault_is_its_answers_and_a_bug_surfaces() -> None:
    said = [answering("ab"), answering("cd", 1, fault=ModelError("it broke off", "Ask again."))]
    list(together(said, every=0.01))
    assert (said[0].turn.content, said[0].turn.error) == ("ab", "")
    turn = said[1].turn
    assert (turn.content, turn.error, turn.hint, turn.stopped) == ("c", "it broke off", "Ask again.", False)
    broken = [answering("ab", fault=ZeroDivisionError("a bug"))]
    with pytest.raises(ZeroDivisionError):
        list(together(broken, every=0.01))


def test_how_many_wait_is_told_until_it_speaks() -> None:
    said = answering("ab", pause=0.05)
    seen = []
    for _ in together([said], every=0.01):
        seen.append(said.waiting)
    assert seen[0] in (0, 3)
    assert 3 in seen
    assert seen[-1] == 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    return tokenizer_in(make_tiny_tokenizer(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("pairs", [0, 1, 7, 100])
def test_history_is_cut_by_whole_exchanges_the_oldest_first_and_no_more_than_needed(tokenizer: object, pairs: int) -> None:
    settings = GenerationSettings(max_new_tokens=16)
    history = [{"role": role, "content": f"{role} {n} 张三"} for n in range(pairs) for role in ("user", "assistant")]

    def ask(context: int) -> object:
        return prepare(
            PLAIN, "and now?", tokenizer=tokenizer, settings=settings, context=context, system="Be short.", history=history  # type: ignore[arg-type]
        )  # fmt: skip

    whole = ask(10**6)
    assert whole.left_out == 0  # type: ignore[attr-defined]
    text = tokenizer.decode(whole.ids)  # type: ignore[attr-defined]
    assert "Be short." in text
    if pairs > 1:
        size = len(whole.ids) + 16  # type: ignore[attr-defined]
        assert ask(size).left_out == 0  # type: ignore[attr-defined]
        cut = ask(size - 1)
        assert cut.left_out == 2  # type: ignore[attr-defined]
        less = ask(size // 2)
        kept = tokenizer.decode(less.ids)  # type: ignore[attr-defined]
        first = less.left_out // 2  # type: ignore[attr-defined]
        assert f"user {first} " in kept
        assert f"assistant {first - 1} " not in kept
        assert "Be short." in kept
        assert len(less.ids) + 16 <= size // 2  # type: ignore[attr-defined]
        one_more = prepare(
            PLAIN, "and now?", tokenizer=tokenizer, settings=settings, context=10**6, system="Be short.",  # type: ignore[arg-type]
            history=history[2 * first - 2 :],
        )  # fmt: skip
        assert len(one_more.ids) + 16 > size // 2
    with pytest.raises(UserError, match="more than the model's window of 20"):
        ask(20)


def test_an_endpoint_gets_messages_with_all_of_the_history() -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert messages_for(PLAIN, "c", system="s", history=history) == [
        {"role": "system", "content": "s"}, *history, {"role": "user", "content": "c"},
    ]  # fmt: skip
    asked = messages_for(find_template("chat"), "张三", instruction="抽取要素")
    assert asked == [{"role": "user", "content": "抽取要素\n张三"}]
    with pytest.raises(SpecError, match="raw"):
        messages_for(find_template("instruct"), "c")


def test_a_very_long_history_is_cut_without_rendering_all_of_it(tokenizer: object) -> None:
    history = [{"role": role, "content": f"{role} {n} 张三 signed"} for n in range(3000) for role in ("user", "assistant")]
    begun = time.monotonic()
    asked = prepare(
        PLAIN, "and now?", tokenizer=tokenizer, settings=GenerationSettings(max_new_tokens=16), context=400, history=history  # type: ignore[arg-type]
    )  # fmt: skip
    assert 300 < len(asked.ids) <= 384
    assert asked.left_out > 5900
    assert time.monotonic() - begun < 10  # rendering all of it once takes minutes
