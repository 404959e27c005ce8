"""Rows that are answered together: one forward pass a step, over a key-value cache padded on the left.

Rows that end leave the batch, rows of another batch can join it, and columns that only hold padding are
cut off, so a step costs what the rows still in it need. A row that is alone takes the lane (``core.models.lane``), where
there is one, and comes back when others join. A torch module; knows nothing of who asks.
"""

from __future__ import annotations

import functools
import inspect
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from core.models.constrain import Following
from core.models.grouped import Columns, lying_in
from core.models.growing import GrowingLayer, growing_cache
from core.models.lane import Lane, Select
from core.models.sampling import choose, seeded
from core.models.text import TextStream
from core.records import GenerationSettings

Finish = Literal["", "stop", "length", "stopped"]
Event = tuple["Request", str, bool]
"""A request, new text of its answer, and whether that was the last of it."""
COMPACT_SHARE = 8
"""Rows that have ended are dropped once they are one in this many."""


@dataclass(eq=False)
class Request:
    """One prompt on its way to an answer. ``events`` gets its text as it comes if it is interactive, else only its end."""

    ids: Sequence[int]
    settings: GenerationSettings
    text: TextStream
    ends: frozenset[int]
    max_new_tokens: int
    adapter: str | None = None
    row: int = 0
    interactive: bool = False
    follow: Following | None = None
    """Keeps the answer to a pattern; none: any token may come."""
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    made: list[int] = field(default_factory=list)
    finish: Finish = ""
    error: BaseException | None = None
    cancelled: bool = False
    submitted: float = field(default_factory=time.perf_counter)
    started: float = 0.0
    first_token: float = 0.0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.generator = seeded(self.settings.seed, self.row)

    @property
    def length(self) -> int:
        """Tokens so far, prompt and answer."""
        return len(self.ids) + len(self.made)

    @property
    def whole_text(self) -> bool:
        """Whether the text is decoded once, at its end: token by token, 512 rows took a CPU 10 ms a step."""
        return self.text.lazy and not self.interactive

    def end(self, finish: Finish, error: BaseException | None = None) -> None:
        """Close the request; its last text goes out with the event."""
        rest = self.text.finish() if self.whole_text or (finish != "stopped" and error is None) else ""
        self.ended = time.perf_counter()
        self.error = error
        self.finish = finish
        self.events.put((self, rest, True))

    def take(self, token: int) -> None:
        """Add the next token of the answer."""
        now = time.perf_counter()
        self.first_token = self.first_token or now
        self.made.append(token)
        if token in self.ends:
            self.end("stop")
            return
        if self.follow is not None:
            self.follow.advance(token)
        if self.whole_text:
            self.text.put(token)
        elif (piece := self.text.push(token)) and self.interactive:
            self.events.put((self, piece, False))
        if self.text.stopped:
            self.end("stop")
        elif len(self.made) >= self.max_new_tokens:
            self.end("length")


class Batch:
    """Requests under way together. ``pad``: the identifier that fills the left; ``lane``: where a row may go alone."""

    def __init__(self, model: Any, requests: Sequence[Request], pad: int, device: torch.device, lane: Lane | None = None) -> None:
        self.requests = list(requests)
        self._device, self._lane = device, lane
        self._new_cache = functools.partial(growing_cache, model.config.get_text_config())
        self._cache = self._new_cache()
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._cache_name = cache_argument(inner.__class__)
        width = max(r.length for r in requests)
        rows = [[pad] * (width - r.length) + [*r.ids, *r.made] for r in requests]
        self._next = torch.tensor(rows, device=device)
        self._columns: Columns | None = None  # where rows lie; found anew when rows come or go
        self._masks = device.type == "cuda" and getattr(model.config.get_text_config(), "_attn_implementation", "") == "sdpa"
        self._lengths = [r.length for r in requests]  # of each row with its next token; kept here to spare a device its waits
        started = time.perf_counter()
        for request in requests:
            request.started = request.started or started

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def width(self) -> int:
        """Columns of the cache, padding included, after the next step."""
        if self._in_lane:
            return self._lengths[0]
        return int(self._cache.get_seq_length()) + int(self._next.shape[1])

    @property
    def joinable(self) -> bool:
        """Whether other rows can be put beside these (not where a layer keeps only a window)."""
        if self._in_lane:
            return True
        return all(type(layer) is GrowingLayer for layer in self._cache.layers)

    def step(self, select: Select) -> None:
        """One token more for each request; the first step reads the prompts. Ended requests leave.

        ``select`` makes the rows' adapters ready and gives the model to call; not called where a captured step needs neither.
        """
        with torch.inference_mode():
            if self._lane is not None and self._enter_lane(self._lane):
                logits = self._lane.step(self._last(), self.requests[0].adapter, select)
            else:
                logits = self._read(*select())
            tokens = self._choose(logits)
            self._next = torch.tensor(tokens, device=self._device).unsqueeze(1)
            self._lengths = [length + 1 for length in self._lengths]
        for request, token in zip(self.requests, tokens, strict=True):
            if not request.finish:
                request.take(token)
        self._compact()

    def release(self) -> None:
        """Leave the lane to others; for a batch that goes no further."""
        if self._in_lane and self._lane is not None:
            self._lane.give_up()

    def _read(self, forward: Callable[..., Any], arguments: dict[str, Any]) -> torch.Tensor:
        """The logits after the next columns of all rows [rows, vocabulary], in the growing cache."""
        width, fresh = self.width, int(self._next.shape[1])
        if self._columns is None:
            first = torch.tensor([width - length for length in self._lengths], dtype=torch.int32, device=self._device)
            self._columns = Columns(first)
        padding = self._columns.first.unsqueeze(1)
        columns = torch.arange(width, device=self._device).unsqueeze(0)
        mask = (columns >= padding).long() if min(self._lengths) < width else None
        ready = mask is not None and fresh == 1 and self._masks and self.joinable  # then transformers needn't make its own
        with lying_in(self._columns if ready else None):
            output = forward(
                input_ids=self._next,
                attention_mask=mask[:, None, None].bool() if mask is not None and ready else mask,
                position_ids=(columns[:, -fresh:] - padding).clamp(min=0),
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_name: self._cache},
                **arguments,
            )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    @property
    def _in_lane(self) -> bool:
        return self._lane is not None and self._lane.holds(self)

    def _last(self) -> int:
        request = self.requests[0]
        return request.made[-1] if request.made else request.ids[-1]

    def _enter_lane(self, lane: Lane) -> bool:
        """Whether this step goes through the lane: one row, its prompt read, and nobody else in there."""
        if lane.holds(self):
            if lane.usable:
                return True
            self._leave_lane(lane)
        if not lane.usable or len(self) != 1 or self._next.shape[1] != 1 or not self.joinable:
            return False
        columns = int(self._cache.get_seq_length())
        length, request = self._lengths[0] - 1, self.requests[0]
        if not columns:  # the prompt hasn't been read
            return False
        layers = [(layer.keys[:, :, columns - length :], layer.values[:, :, columns - length :]) for layer in self._cache.layers]
        if not lane.enter(self, layers, length, length + request.max_new_tokens - len(request.made) + 1):
            return False
        self._cache = self._new_cache()
        return True

    def _leave_lane(self, lane: Lane) -> None:
        self._cache, self._columns = self._new_cache(), None
        for place, (keys, values) in enumerate(lane.leave()):
            self._cache.update(keys, values, place)

    def join(self, other: Batch) -> None:
        """Take over the rows of another batch that has read its prompts."""
        for batch in (self, other):
            if batch._lane is not None and batch._in_lane:
                with torch.inference_mode():
                    batch._leave_lane(batch._lane)
        width = max(self._cache.get_seq_length(), other._cache.get_seq_length())
        with torch.inference_mode():
            for mine, theirs in zip(self._cache.layers, other._cache.layers, strict=True):
                mine.keys = torch.cat([_widened(mine.keys, width), _widened(theirs.keys, width)])
                mine.values = torch.cat([_widened(mine.values, width), _widened(theirs.values, width)])
            self._next = torch.cat([self._next, other._next])
        self._lengths += other._lengths
        self.requests += other.requests
        self._columns = None

    def _choose(self, logits: torch.Tensor) -> list[int]:
        bound = [(place, r.follow) for place, r in enumerate(self.requests) if r.follow is not None and not r.finish]
        if bound:
            logits = logits.clone()
            for place, follow in bound:
                logits[place].masked_fill_(~follow.allowed(logits.shape[-1], logits.device), float("-inf"))
        groups: dict[int, list[int]] = {}  # by the settings' identity: comparing them for every row and step adds up
        for place, request in enumerate(self.requests):
            groups.setdefault(id(request.settings), []).append(place)
        tokens = [0] * len(self)
        for places in groups.values():
            settings = self.requests[places[0]].settings
            members = [self.requests[p] for p in places]
            part = logits if len(places) == len(self) else logits[places]
            seen = [[*r.ids, *r.made] for r in members] if settings.repetition_penalty != 1.0 else []
            for place, token in zip(places, choose(part, settings, [r.generator for r in members], seen), strict=True):
                tokens[place] = token
        return tokens

    def _compact(self) -> None:
        """Drop the rows that ended or were cancelled, and the columns that nobody needs any more."""
        for request in self.requests:
            if request.cancelled and not request.finish:
                request.end("stopped")
        alive = [place for place, request in enumerate(self.requests) if not request.finish]
        ended = len(self) - len(alive)
        if not ended or (alive and ended * COMPACT_SHARE < len(self)):
            return
        self.requests, self._columns = [self.requests[place] for place in alive], None
        if not alive:
            self.release()
            return
        index = torch.tensor(alive, device=self._device)
        with torch.inference_mode():
            self._cache.batch_select_indices(index)
            self._next, self._lengths = self._next[index], [self._lengths[place] for place in alive]
            spare = self.width - max(self._lengths)
            if spare > 0 and self.joinable:
                for layer in self._cache.layers:
                    layer.keys, layer.values = layer.keys[..., spare:, :], layer.values[..., spare:, :]


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    """``states`` [rows, heads, columns, size] with padding on the left of its columns."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


@functools.cache
def cache_argument(model_class: type) -> str:
    """The name under which a model takes its cache: ``cache`` in newer versions of transformers."""
    forward = model_class.forward  # type: ignore[attr-defined]
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
