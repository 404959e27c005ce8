"""Asks an endpoint many questions, several at a time: the rows of an evaluation, or those of a judge.

Each answer is kept as it comes. What an endpoint doesn't do (perplexity of the gold answers, token counts of a server that gives
none) stays empty. Knows nothing of the protocol (``core.models.endpoints``) and of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from core.evaluation.artefacts import ANSWERING, Journal
from core.evaluation.constrained import response_format
from core.evaluation.latency import MACHINE, measured_on
from core.evaluation.questions import Question
from core.models.answers import Answered
from core.models.endpoints import BrokenOffError, EndpointEngine, RefusedError
from core.records import Evaluation, GenerationSettings, Reporter

HOPELESS = 10
"""Refused questions, and none answered, after which the fault isn't the questions'."""
TRIES = 3
"""How often a question is asked whose answer breaks off; a server that is busy is given more patience below this."""
_LOOK_SECONDS = 0.25
Messages = Sequence[Mapping[str, str]]


def ask_all(
    engine: EndpointEngine,
    questions: Sequence[Messages],
    settings: GenerationSettings,
    on_reply: Callable[[int, Answered | RefusedError], None],
    *,
    workers: int = 8,
    stop: Sequence[str] = (),
    fields: Mapping[str, Any] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Ask conversations, at most ``workers`` at once; ``on_reply(place, …)`` in this thread as answers come, in any order.

    After a stop, what is under way is hung up and not told. ModelError when the endpoint can't be reached, or refuses the first
    ``HOPELESS`` questions.
    """

    def one(messages: Messages) -> Answered:
        for number in range(TRIES):
            stream = engine.ask(messages, settings, stop, should_stop, fields)
            try:
                for _ in stream:
                    pass
                return stream.answer
            except BrokenOffError:
                if number == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    waiting: dict[Future[Answered], int] = {}
    places = iter(range(len(questions)))
    answered = refused = 0
    with ThreadPoolExecutor(workers) as pool:
        while True:
            while len(waiting) < workers and not (should_stop and should_stop()):
                place = next(places, None)
                if place is None:
                    break
                waiting[pool.submit(one, questions[place])] = place
            if not waiting:
                return
            for done in wait(waiting, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
                place, fault = waiting.pop(done), done.exception()
                if isinstance(fault, RefusedError):
                    refused += 1
                    if not answered and refused >= min(HOPELESS, len(questions)):
                        raise fault
                    on_reply(place, fault)
                elif done.result().finish != "stopped":
                    answered += 1
                    on_reply(place, done.result())


def answer_remotely(
    evaluation: Evaluation, questions: Sequence[Question], total: int, answers: Journal, reporter: Reporter
) -> dict[str, str] | None:
    """Ask what isn't answered yet. None when a stop was obeyed, else the rows that the endpoint refused, and why."""
    arm = evaluation.spec.arm
    assert arm.endpoint is not None
    refused: dict[str, str] = {}
    machine = measured_on(arm, "cpu")

    def keep(place: int, reply: Answered | RefusedError) -> None:
        row_id = questions[place].row_id
        if isinstance(reply, RefusedError):
            refused[row_id] = reply.message
        else:
            counted = reply.prompt_tokens > 0  # a server that counts none says nothing of the answer's either
            answers.add(
                {
                    "row_id": row_id,
                    "raw": reply.text,
                    "tokens_in": reply.prompt_tokens if counted else None,
                    "tokens_out": reply.tokens if counted else None,
                    "seconds": reply.seconds,
                    "finish": reply.finish,
                    MACHINE: machine,
                }
            )
        reporter.progress(len(answers.records) + len(refused), total, message=ANSWERING)

    reporter.progress(len(answers.records), total, message=ANSWERING)
    ask_all(
        EndpointEngine(arm.endpoint),
        [q.messages for q in questions],
        arm.generation,
        keep,
        workers=arm.workers,
        stop=evaluation.template.stop,
        fields={"response_format": response_format(evaluation)} if arm.constrained else None,
        should_stop=reporter.should_stop,
    )
    answers.sync()
    done = all(q.row_id in answers.records or q.row_id in refused for q in questions)
    return refused if done else None
