"""Chat's engines take their turn with jobs: claimed, busy, and let go when a job wants the device."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.errors import UserError
from core.jobs import claims
from core.jobs import engines as chat
from core.jobs.claims import list_claims, who_holds
from core.models import cache
from core.records import ModelRef
from core.store.database import write
from core.store.tables import ClaimRow

A, B, C = (ModelRef(source="path", name=f"/{name}") for name in "abc")


@pytest.fixture(params=["chat asks first", "another asks first"])
def log(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What was loaded and closed. Chat's engines are claimed, whoever asked the process's cache before it."""
    said: list[str] = []

    def load(ref: ModelRef, device: str | None) -> Any:
        class Fake:
            def attach(self, name: str, folder: Any) -> None:
                said.append(f"{ref.label}<{name}")

            def close(self) -> None:
                said.append(f"-{ref.label}")

        said.append(f"+{ref.label}")
        return Fake()

    monkeypatch.setattr(chat, "WATCH_SECONDS", 0.02)
    made = cache.EngineCache(load=load, size=lambda ref: 1)
    monkeypatch.setattr(cache, "_process", made)
    if request.param == "another asks first":
        with cache.engines().using(C, "cpu"):
            assert list_claims() == []
        assert made.release()
        said.clear()
    yield said
    made.release()


def until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_another_model_comes_after_the_first_has_gone_and_the_device_stays_claimed(log: list[str], tmp_path: Any) -> None:
    with chat.answering(A, [("one", tmp_path)], device="cpu"):
        assert [claim.busy for claim in list_claims()] == [True]
    with chat.answering(B, device="cpu"):
        pass
    assert log == ["+a", "a<one", "-a", "+b"]
    assert [claim.busy for claim in list_claims()] == [False]
    assert (who_holds("cpu") or "").startswith("chat-")


def test_a_job_that_waits_gets_the_device_but_not_while_an_answer_is_under_way(log: list[str]) -> None:
    with chat.answering(A, device="cpu"):
        with write() as session:
            row = session.get(ClaimRow, "cpu")
            assert row is not None
            row.wanted = True
            session.add(row)
        time.sleep(0.2)
        assert log == ["+a"]
    assert until(lambda: who_holds("cpu") is None)
    assert log == ["+a", "-a"]
    assert cache.engines().released[0].reason == "a job wanted the device"
    with chat.answering(A, device="cpu"):
        assert log[-1] == "+a"


def test_who_has_the_device_is_named(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "take_device", functools.partial(claims.take_device, patience=0.2))
    assert claims.claim_device("cpu", "serve-other")
    with pytest.raises(UserError, match="held by another server"), chat.answering(A, device="cpu"):
        pass
    assert log == []
    claims.release_device("cpu", "serve-other")
    with chat.answering(A, device="cpu"):
        assert log == ["+a"]


def test_what_was_loaded_without_a_claim_is_loaded_anew_with_one(log: list[str]) -> None:
    with cache.engines().using(A, "cpu"):
        pass
    assert list_claims() == []
    with chat.answering(A, device="cpu"):
        assert [claim.busy for claim in list_claims()] == [True]
    assert log == ["+a", "-a", "+a"]
    assert cache.engines().released[0].reason == "it was loaded without a claim on its device"
    with cache.engines().using(B, "cpu"):  # from now on, whoever asks
        assert [claim.busy for claim in list_claims()] == [True]


def test_what_is_answering_without_a_claim_gets_one(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "take_device", functools.partial(claims.take_device, patience=0.2))
    with cache.engines().using(A, "cpu"):
        assert claims.claim_device("cpu", "serve-other")
        with pytest.raises(UserError, match="held by another server"):
            chat.chat_engines()
        assert who_holds("cpu") == "serve-other"
        claims.release_device("cpu", "serve-other")
        chat.chat_engines()
        assert [(claim.busy, claim.holder.startswith("chat-")) for claim in list_claims()] == [(True, True)]
    assert [claim.busy for claim in list_claims()] == [False]
    assert log == ["+a"]
    assert chat.chat_engines().release()
    assert list_claims() == []
