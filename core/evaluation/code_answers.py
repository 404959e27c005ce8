"""A model's answers to code tasks: prompts in, completions out, ready to be checked.

Knows nothing of how they are checked. The engine is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.errors import SpecError
from core.evaluation.code import Problem, completion_of
from core.evaluation.scoring import strip_thinking
from core.prompts.examples import prompt_ids
from core.prompts.render import stop_strings
from core.records import GenerationSettings, Template

if TYPE_CHECKING:
    from core.models.engine import Engine

INSTRUCTION = "Complete this Python function. Answer with the whole function in one code block and nothing else."
PLAIN = Template(
    name="code", kind="raw", user="{{ input }}", answer="{{ output }}", stop=("\ndef ", "\nclass ", "\nif __name__", "\nprint(")
)
"""For base models: the code so far, as it is; stops where another thing begins on the left margin."""


def answer_problems(
    problems: Sequence[Problem],
    engine: Engine,
    template: Template,
    settings: GenerationSettings,
    *,
    samples: int = 1,
    adapter: str | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[tuple[str, str]]:
    """(task, completion) of ``samples`` answers to each task. SpecError for several greedy ones: they would be the same."""
    if samples > 1 and settings.temperature == 0:
        raise SpecError(f"{samples} greedy samples of a task are all the same", "Set a temperature, e.g. 0.8.")
    raw = template.kind == "raw"
    instruction = "" if raw else INSTRUCTION
    asked = [problem for problem in problems for _ in range(samples)]
    # a line break at the end of a raw prompt would be torn from the indent that many tokenizers join it with
    texts = [p.prompt.rstrip() if raw else p.prompt for p in asked]
    prompts = [
        prompt_ids(template, {"instruction": instruction, "input": text, "output": ""}, tokenizer=engine.tokenizer)
        for text in texts
    ]
    done = 0

    def count(place: int, answer: object) -> None:
        nonlocal done
        done += 1
        if on_done is not None:
            on_done(done)

    stop = stop_strings(template, engine.tokenizer)
    answers = engine.generate(prompts, settings, adapter=adapter, stop=stop, on_row=count)
    return [(p.task_id, completion_of(p, strip_thinking(a.text))) for p, a in zip(asked, answers, strict=True)]
