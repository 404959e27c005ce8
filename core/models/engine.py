"""One model in memory that answers whoever asks: chat, evaluation, judge.

The base is loaded once; adapters are attached to it and chosen per question. Many threads may call at once:
what they ask is answered together where it can be. Greedy answers don't depend on what else is in the batch
except for rounding: in bf16 and 4-bit, matrix products of another shape round differently, and where two tokens are
nearly as likely the choice can differ; in float32 on one machine it was never seen to.
A torch module; knows nothing of templates, jobs or pages.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.errors import ModelError
from core.models.adapters import Adapters
from core.models.batch import Event, Finish, Request
from core.models.constrain import Constraint
from core.models.load import LoadedModel
from core.models.memory import free_memory, release_memory
from core.models.scheduler import Scheduler, out_of_memory, released
from core.models.score import score_batch
from core.models.text import TextStream, stop_tokens
from core.records import GenerationSettings, ModelRef

_POLL_SECONDS = 0.25
"""How often a caller that waits looks whether it should stop."""


@dataclass(frozen=True)
class Answered:
    """An answer. ``ids`` leaves the ending token out, ``tokens`` counts it: it was computed.

    ``finish``: ``stop`` (end of turn or stop string), ``length``, ``stopped`` (by the caller). ``seconds``: from its
    batch's start to its end; ``first_token_seconds``: from being asked to its first token, waiting included.
    """

    ids: tuple[int, ...]
    text: str
    tokens: int
    seconds: float
    finish: str
    prompt_tokens: int = 0
    first_token_seconds: float = 0.0


@dataclass(frozen=True)
class BatchLimits:
    """How many rows go together: by memory for the cache, and what is still quicker per row than fewer."""

    device: str
    most: int
    bytes_per_token: int
    most_tokens: int

    def rows(self, widest: int, interactive: bool) -> int:
        """Rows of ``widest`` tokens that fit at once; at least one, which is then tried."""
        by_memory = int(0.5 * free_memory(self.device)) // max(1, widest * self.bytes_per_token)
        return max(1, min(self.most, by_memory, self.most_tokens // max(1, widest)))


class Engine:
    """Generates, streams and scores with one loaded model. Thread-safe. ``close`` frees its memory."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.ref: ModelRef = loaded.ref
        self.tokenizer = loaded.tokenizer
        self.device = loaded.device
        self.folder = loaded.folder
        self._model = loaded.model
        config = loaded.model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", 0) or 2**31)
        self._pad = int(loaded.tokenizer.pad_token_id)
        self._ends = _ends(loaded)
        self._limits = _limits(loaded, config)
        self._adapters = Adapters(loaded.model)
        self._scheduler = Scheduler(loaded.model, self._adapters, self._limits, self._pad, loaded.device)
        self._constraints: dict[str, Constraint] = {}
        self._closed = False

    @property
    def adapters(self) -> list[str]:
        """Names of the attached adapters."""
        return self._adapters.names

    @property
    def busy(self) -> bool:
        """Whether it is answering, or somebody waits."""
        return self._scheduler.busy

    def attach(self, run_id: str, adapter_folder: Path) -> None:
        """Load an adapter beside the base and the others, once. ModelError where it doesn't fit."""
        folder = Path(adapter_folder).absolute()
        self._scheduler.run(lambda: self._adapters.attach(run_id, folder))

    def detach(self, run_id: str) -> None:
        """Forget an adapter."""
        self._scheduler.run(lambda: self._adapters.detach(run_id))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        adapter: str | Sequence[str | None] | None = None,
        stop: Sequence[str] = (),
        should_stop: Callable[[], bool] | None = None,
        on_row: Callable[[int, Answered], None] | None = None,
        pattern: str | None = None,
    ) -> list[Answered]:
        """Answer prompts (token identifiers), in their order. ``adapter``: one for all, or one a prompt.

        ``pattern``: a regular expression that each answer must match as a whole, unless it is cut off.

        ``on_row(place, answer)`` is called in this thread as rows end, longest prompts first, not for rows that
        a stop cut short. Row ``i`` draws with the seed ``(settings.seed, i)``.
        """
        names = [adapter] * len(prompts) if adapter is None or isinstance(adapter, str) else list(adapter)
        if len(names) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(names)} adapters")
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        requests = [
            self._request(ids, settings, name, stop, row, events)
            for row, (ids, name) in enumerate(zip(prompts, names, strict=True))
        ]
        if pattern is not None:
            constraint = self._constraint(pattern)
            for request in requests:
                request.follow = constraint.start()
        mixed = self._adapters.can_mix(names)
        order = sorted(requests, key=lambda r: ("" if mixed else r.adapter or "", -r.length, r.row))
        self._scheduler.submit(order)
        try:
            self._collect(requests, events, should_stop, on_row)
        finally:
            self._scheduler.cancel([r for r in requests if not r.finish])
        return [_answered(r) for r in requests]

    def stream(
        self,
        prompt_ids: Sequence[int],
        settings: GenerationSettings,
        adapter: str | None = None,
        stop: Sequence[str] = (),
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[str]:
        """Answer one prompt piece by piece; the pieces together are the text ``generate`` gives. See ``Streaming``."""
        return self.ask(prompt_ids, settings, adapter, stop, should_stop)

    def ask(
        self,
        prompt_ids: Sequence[int],
        settings: GenerationSettings,
        adapter: str | None = None,
        stop: Sequence[str] = (),
        should_stop: Callable[[], bool] | None = None,
    ) -> Streaming:
        """Like ``stream``, typed: the iterator also tells its place in the queue and, at its end, the answer's numbers."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        request = self._request(prompt_ids, settings, adapter, stop, 0, events)
        request.interactive = True
        self._scheduler.submit([request])
        return Streaming(self._scheduler, request, should_stop)

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
        adapter: str | None = None,
        *,
        should_stop: Callable[[], bool] | None = None,
        on_row: Callable[[int, tuple[float, int]], None] | None = None,
    ) -> list[tuple[float, int]]:
        """Each answer's summed negative log-likelihood (nats) given its prompt, and its number of tokens.

        An empty answer scores (0.0, 0). exp(sum of the first / sum of the second) is the perplexity. After a stop,
        rows that weren't reached are (nan, 0).
        """
        done: dict[int, tuple[float, int]] = {row: (0.0, 0) for row, answer in enumerate(answers) if not len(answer)}
        order = sorted((r for r in range(len(answers)) if r not in done), key=lambda r: -len(prompts[r]) - len(answers[r]))
        for row in order:
            self._check_context(len(prompts[row]) + len(answers[row]))
            if not len(prompts[row]):
                raise ValueError(f"prompt {row} is empty: its answer's first token follows nothing")
        size = self._limits.most
        while order and not (should_stop and should_stop()):
            width = len(prompts[order[0]]) + len(answers[order[0]])
            rows = order[: min(size, max(1, self._score_tokens() // width))]
            try:
                sums = self._scheduler.run(lambda rows=rows: self._score(rows, prompts, answers, adapter))  # type: ignore[misc]
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or len(rows) == 1:
                    raise
                size = len(rows) // 2
                error.__traceback__ = None
                release_memory()
                continue
            for row, value in zip(rows, sums, strict=True):
                done[row] = (value, len(answers[row]))
                if on_row:
                    on_row(row, done[row])
            order = order[len(rows) :]
        return [done.get(row, (float("nan"), 0)) for row in range(len(answers))]

    def close(self) -> None:
        """End what is under way and free the memory. The engine can't be used afterwards."""
        if self._closed:
            return
        self._closed = True
        self._scheduler.close()
        self._adapters.clear()
        self._scheduler.forget_model()
        self._model = None
        release_memory()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def _score(
        self, rows: Sequence[int], prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], adapter: str | None
    ) -> list[float]:
        forward, arguments = self._adapters.select([adapter] * len(rows))
        return score_batch(forward, arguments, [prompts[r] for r in rows], [answers[r] for r in rows], self._pad, self.device)

    def _constraint(self, pattern: str) -> Constraint:
        if pattern not in self._constraints:
            self._constraints[pattern] = Constraint(pattern, self.tokenizer, self._ends)
        return self._constraints[pattern]

    def _score_tokens(self) -> int:
        """Tokens of a scoring batch: its logits are float32 over the whole vocabulary."""
        return 2048 if self.device.type == "cpu" else 16384

    def _check_context(self, tokens: int) -> None:
        if tokens >= self.context:
            raise ModelError(
                f"{tokens:,} tokens are too many: {self.ref.label} reads {self.context:,} at most",
                "Shorten the input, drop worked examples, or begin a new conversation.",
            )

    def _request(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        adapter: str | None,
        stop: Sequence[str],
        row: int,
        events: queue.SimpleQueue[Event],
    ) -> Request:
        if self._closed:
            raise released()
        if not len(ids):
            raise ValueError(f"prompt {row} is empty")
        if adapter is not None and adapter not in self._adapters.names:
            raise ModelError(f"There is no adapter {adapter!r} on this model", "Attach it first.")
        self._check_context(len(ids))
        stops = (*stop, *settings.stop)
        return Request(
            ids=ids,
            settings=settings,
            text=TextStream(self.tokenizer, stops),
            ends=self._ends | stop_tokens(self.tokenizer, stops),
            max_new_tokens=min(settings.max_new_tokens, self.context - len(ids)),
            adapter=adapter,
            row=row,
            events=events,
        )

    def _collect(
        self,
        requests: Sequence[Request],
        events: queue.SimpleQueue[Event],
        should_stop: Callable[[], bool] | None,
        on_row: Callable[[int, Answered], None] | None,
    ) -> None:
        left = len(requests)
        stopping = False
        while left:
            if not stopping and should_stop and should_stop():
                stopping = True
                self._scheduler.cancel(requests)
            try:
                request, _, last = events.get(timeout=_POLL_SECONDS if should_stop else None)
            except queue.Empty:
                continue
            if not last:
                continue
            left -= 1
            if request.error is not None:
                raise request.error
            if on_row and request.finish != "stopped":
                on_row(request.row, _answered(request))


class Streaming(Iterator[str]):
    """An answer on its way. Iterate for its pieces of text; close it, or drop it, and the model stops working on it."""

    def __init__(self, scheduler: Scheduler, request: Request, should_stop: Callable[[], bool] | None) -> None:
        self._scheduler, self._request, self._should_stop = scheduler, request, should_stop
        self._ended = False

    def __next__(self) -> str:
        while not self._ended:
            if self._should_stop and self._should_stop():
                self.close()
                break
            try:
                _, piece, self._ended = self._request.events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if self._ended and self._request.error is not None:
                raise self._request.error
            if piece:
                return piece
        raise StopIteration

    @property
    def position(self) -> int:
        """How many wait before this one; 0: it is its turn."""
        return self._scheduler.position(self._request)

    @property
    def answer(self) -> Answered:
        """The answer so far, whole once the iteration has ended."""
        return _answered(self._request)

    def close(self) -> None:
        """Stop here."""
        self._ended = True
        if not self._request.finish:
            self._scheduler.cancel([self._request])

    def __del__(self) -> None:
        self.close()


def _answered(request: Request) -> Answered:
    ended = bool(request.made) and request.made[-1] in request.ends
    finish: Finish = request.finish or "stopped"
    return Answered(
        ids=tuple(request.made[:-1] if ended else request.made),
        text=request.text.text,
        tokens=len(request.made),
        seconds=max(0.0, request.ended - request.started) if request.started else 0.0,
        finish=finish,
        prompt_tokens=len(request.ids),
        first_token_seconds=max(0.0, request.first_token - request.submitted) if request.first_token else 0.0,
    )


def _ends(loaded: LoadedModel) -> frozenset[int]:
    named: Any = getattr(loaded.model.generation_config, "eos_token_id", None)
    listed = named if isinstance(named, (list, tuple)) else [named]
    return frozenset(int(n) for n in [*listed, loaded.tokenizer.eos_token_id] if n is not None)


def _limits(loaded: LoadedModel, config: Any) -> BatchLimits:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * int(config.num_hidden_layers) * int(heads) * int(size) * loaded.dtype.itemsize
    cpu = loaded.device.type == "cpu"
    # prompts are read at once: the tokens bound the activations of that pass (about 40 widths of the model each)
    return BatchLimits(str(loaded.device), 64 if cpu else 256, 3 * per_token, 16_384 if cpu else 131_072)
