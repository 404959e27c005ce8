"""A model's answers to code tasks: prompts in, completions out, ready to be checked.

Knows nothing of how they are checked. The engine is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    kept: Mapping[int, str] | None = None,
    on_answer: Callable[[int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[tuple[str, str]]:
    """(task, completion) of ``samples`` answers to each task. SpecError for several greedy ones: they would be the same.

    ``kept``: completions that are there already, by place (task by task, its samples one after another); ``on_answer(place,
    completion)`` gets new ones. After a stop those that are missing are left out.
    """
    if samples > 1 and settings.temperature == 0:
        raise SpecError(f"{samples} greedy samples of a task are all the same", "Set a temperature, e.g. 0.8.")
    asked = [problem for problem in problems for _ in range(samples)]
    found = dict(kept or {})
    left = [place for place in range(len(asked)) if place not in found]

    def take(number: int, answer: Any) -> None:
        place = left[number]
        found[place] = completion_of(asked[place], strip_thinking(answer.text))
        if on_answer is not None:
            on_answer(place, found[place])

    prompts = {problem.task_id: _prompt(problem, template, engine) for problem in problems}
    engine.generate(
        [prompts[asked[place].task_id] for place in left],
        settings.model_copy(update={"seed": settings.seed + len(asked) - len(left)}),  # else a resume would draw the same again
        adapter=adapter,
        stop=stop_strings(template, engine.tokenizer),
        should_stop=should_stop,
        on_row=take,
    )
    return [(asked[place].task_id, found[place]) for place in sorted(found)]


def _prompt(problem: Problem, template: Template, engine: Engine) -> list[int]:
    raw = template.kind == "raw"
    # a line break at the end of a raw prompt would be torn from the indent that many tokenizers join it with
    text = problem.prompt.rstrip() if raw else problem.prompt
    row = {"instruction": "" if raw else INSTRUCTION, "input": text, "output": ""}
    return prompt_ids(template, row, tokenizer=engine.tokenizer)
