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
from pathlib import Path

from core.errors import ModelError
from core.models import grouped
from core.models.adapters import Adapters
from core.models.answers import Answered
from core.models.batch import Event, Request, cache_argument
from core.models.constrain import Constraint
from core.models.fourbit import FourBitLayers
from core.models.lane import WARM_STEPS, is_spread, lane_for
from core.models.limits import batch_limits, cache_bytes, end_tokens
from core.models.load import LoadedModel
from core.models.memory import release_memory
from core.models.scheduler import Scheduler, released
from core.models.score import score_batch, score_rows
from core.models.streaming import Streaming, answered, collect
from core.models.text import TextStream, stop_tokens
from core.records import GenerationSettings, ModelRef


class Engine:
    """Generates, streams and scores with one loaded model. Thread-safe. ``close`` frees its memory.

    ``capture``: decode single rows by captured CUDA graphs (``core.models.lane``); none: where that can be done. False
    takes the same way uncaptured.
    """

    def __init__(self, loaded: LoadedModel, *, capture: bool | None = None) -> None:
        self.ref: ModelRef = loaded.ref
        self.tokenizer = loaded.tokenizer
        self.device = loaded.device
        self.folder = loaded.folder
        self._model = loaded.model
        config = loaded.model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", 0) or 2**31)
        if loaded.device.type == "cuda":
            grouped.register()
        self._four_bit = FourBitLayers(loaded.model) if loaded.device.type == "cuda" else None
        self._pad = int(loaded.tokenizer.pad_token_id)
        self._ends = end_tokens(loaded)
        self._limits = batch_limits(loaded, config)
        self._adapters = Adapters(loaded.model)
        cache_name = cache_argument(loaded.model.__class__)
        self._lane = lane_for(loaded, config, cache_name, cache_bytes(loaded, config), capture=capture)
        self._scheduler = Scheduler(loaded.model, self._adapters, self._limits, self._pad, loaded.device, self._lane)
        self._constraints: dict[str, Constraint] = {}
        self._closed = False
        if self._lane is not None and self._lane.capture:
            self._warm_up()

    @property
    def adapters(self) -> list[str]:
        """Names of the attached adapters."""
        return self._adapters.names

    @property
    def busy(self) -> bool:
        """Whether it is answering, or somebody waits."""
        return self._scheduler.busy

    @property
    def decoding(self) -> str:
        """How single rows are decoded, for people: by CUDA graphs, or plain and why."""
        if is_spread(self._model):
            return "plain steps, a part of the model in main memory: many times slower"
        return "plain steps" if self._lane is None else self._lane.state

    def attach(self, run_id: str, adapter_folder: Path) -> None:
        """Load an adapter beside the base and the others, once. ModelError where it doesn't fit."""
        folder = Path(adapter_folder).absolute()

        def work() -> None:
            if self._adapters.attach(run_id, folder) and self._lane is not None:
                self._lane.forget(run_id)

        self._scheduler.run(work)

    def detach(self, run_id: str) -> None:
        """Forget an adapter."""

        def work() -> None:
            if self._lane is not None:
                self._lane.forget(run_id)
            self._adapters.detach(run_id)

        self._scheduler.run(work)

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
            collect(self._scheduler, requests, events, should_stop, on_row)
        finally:
            self._scheduler.cancel([r for r in requests if not r.finish])
        return [answered(r) for r in requests]

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
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if len(answer):
                self._check_context(len(prompt) + len(answer))
                if not len(prompt):
                    raise ValueError(f"prompt {row} is empty: its answer's first token follows nothing")

        def score(rows: Sequence[int]) -> list[float]:
            return self._scheduler.run(lambda: self._score(rows, prompts, answers, adapter))

        tokens = 2048 if self.device.type == "cpu" else 16384  # of a batch: its logits are float32 over the whole vocabulary
        lengths = [(len(prompt), len(answer)) for prompt, answer in zip(prompts, answers, strict=True)]
        return score_rows(lengths, score, self._limits.most, tokens, should_stop, on_row)

    def close(self) -> None:
        """End what is under way and free the memory. The engine can't be used afterwards."""
        if self._closed:
            return
        self._closed = True
        self._scheduler.close()
        if self._lane is not None:
            self._lane.clear()
        if self._four_bit is not None:
            self._four_bit.undo()
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

    def _warm_up(self) -> None:
        """Capture the base's first step in the engine's own thread while nobody asks; whoever asks goes first."""
        settings = GenerationSettings(max_new_tokens=WARM_STEPS + 2)
        request = self._request([self._pad] * 8, settings, None, (), 0, queue.SimpleQueue())
        request.ends = frozenset()
        self._scheduler.submit([request])

    def _constraint(self, pattern: str) -> Constraint:
        if pattern not in self._constraints:
            self._constraints[pattern] = Constraint(pattern, self.tokenizer, self._ends)
        return self._constraints[pattern]

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
