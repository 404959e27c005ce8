"""What answers an arm's questions: which model, which adapter on it, and an engine that has both loaded.

Knows nothing of questions and answers. Torch module by way of the engine.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.evaluation.constrained import SCHEMA_SIGNATURE, SIGNATURE
from core.models.cache import engines
from core.records import Arm, ModelRef, Reporter
from core.store.files import is_complete
from core.store.runs import get_run, run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.models.engine import Engine


EXACT = "an answer doesn't depend on the rows beside it (float32)"
ROUNDED = "rounding in 16 and 4 bit can tip a choice between two tokens that are nearly as likely, by the rows beside it"


@dataclass(frozen=True)
class Answerer:
    """What answers: a model, and an adapter on it or none. ``adapter`` is the run's identifier."""

    model: ModelRef
    adapter: str | None = None
    folder: Path | None = None


def answerer(arm: Arm) -> Answerer:
    """The model and adapter of an arm; a run of full tuning is a model of its own. UserError if the run isn't finished."""
    if arm.run is None:
        return Answerer(arm.model)
    run = get_run(arm.run)
    full = run.spec.method == "full"
    folder = run_folder(run.run_id) / ("model" if full else "adapter")
    if not is_complete(folder):
        raise UserError(f"Run {arm.run!r} has no finished result", "Wait for its job, or resume it: `python -m core jobs`.")
    if full:
        return Answerer(arm.model.model_copy(update={"source": "path", "name": str(folder), "revision": None}))
    return Answerer(arm.model, run.run_id, folder)


@contextmanager
def engine_for(who: Answerer, engine: Engine | None, reporter: Reporter) -> Iterator[Engine]:
    """An engine with the arm's model and adapter, out of this process's cache; one that is loaded here is let go at the end."""
    with ExitStack() as held:
        if engine is None:
            reporter.progress(0, 0, message=f"loading {who.model.label}")
            held.callback(engines().release, who.model)  # once it isn't in use any more
            engine = held.enter_context(engines().using(who.model))
        if who.adapter is not None and who.folder is not None:
            engine.attach(who.adapter, who.folder)
        yield engine


def arm_signature(arm: Arm) -> dict[str, str]:
    """What of an arm, beside model, template and settings, bears on how its answers came about."""
    found = {}
    if arm.endpoint is not None:
        found["endpoint"] = f"{arm.endpoint.url}|model:{arm.endpoint.model}"
    elif arm.model.source != "endpoint":  # answers made elsewhere name one and have none
        exact = arm.model.dtype == "float32" and arm.model.quantisation == "none"
        found["batching"] = f"rows together by length|{EXACT if exact else ROUNDED}"
    if arm.constrained:
        found["decoding"] = SIGNATURE if arm.endpoint is None else SCHEMA_SIGNATURE
    return found
