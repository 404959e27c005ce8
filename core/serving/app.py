"""The HTTP interface: OpenAI's models, chat completions and completions, and ``/health``.

Thin: a request becomes a question, the holder's model answers it, ``protocol`` words the answer. A client that goes
away ends its answer. Knows nothing of how it is run.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from core.errors import UserError
from core.serving.backends import Answer, Answering
from core.serving.faults import RequestError, UnavailableError, fault_of
from core.serving.flow import Flow
from core.serving.guard import Guard
from core.serving.holder import Holder
from core.serving.protocol import ChatRequest, CompletionRequest, Reply
from core.serving.questions import question_of
from core.serving.served import Plan, ServedModel

MOST_BYTES = 8_000_000
MOST_ANSWERS = 64
log = logging.getLogger("tunewise.serving")


def make_app(holder: Holder, key: str, *, most_answers: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES) -> ASGIApp:
    """The application. At most ``most_answers`` are under way or wait for the model; the next one gets 429."""
    desk = Desk(holder, most_answers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(title="Tunewise", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(Exception, _told)
    app.add_exception_handler(RequestError, _told)
    app.add_exception_handler(UserError, _told)
    app.add_exception_handler(HTTPException, _unknown)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok" if holder.ready else "model not in memory"}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [_listed(model, holder.plan) for model in holder.plan.models]}

    @app.get("/v1/models/{name:path}")
    def one_model(name: str) -> dict[str, Any]:
        return _listed(holder.plan.find(name), holder.plan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        return await desk.answer(request, ChatRequest)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Any:
        return await desk.answer(request, CompletionRequest)

    return Guard(app, key, most_bytes)


class Desk:
    """Where questions are taken in: counts them, and carries answers out."""

    def __init__(self, holder: Holder, most: int) -> None:
        self._holder, self._most = holder, most
        self._under_way = 0
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="answer")

    def close(self) -> None:
        """End the threads, once their answers have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, kind: type[ChatRequest] | type[CompletionRequest]) -> Any:
        """Answer one request, streamed or whole."""
        try:
            asked = kind.model_validate_json(await _body(request))
            served = self._holder.plan.find(asked.model)
            if self._under_way >= self._most:
                raise RequestError(429, f"{self._most} answers are under way. Ask again in a moment", code="too_many_requests")
        except Exception as error:
            raise _noted(error) from error
        flow = self._begin(request, asked, served)
        reply = Reply(asked)
        pieces = aiter(flow)
        try:
            if not asked.stream:
                text = "".join([piece async for piece in pieces])
                answer = _ended(flow)
                return JSONResponse(reply.whole(text, answer.finish, answer.ids, _usage(answer)))
            first = await anext(pieces, None)  # faults come before the status is sent
        except Exception as error:
            raise _noted(error) from error
        headers = {"Cache-Control": "no-cache"}
        return StreamingResponse(_chunks(reply, flow, pieces, first), media_type="text/event-stream", headers=headers)

    def _begin(self, request: Request, asked: ChatRequest | CompletionRequest, served: ServedModel) -> Flow:
        """Start an answer. It counts until its thread is free; a client that goes away ends it."""
        self._under_way += 1
        flow = Flow(lambda: self._opening(asked, served), self._threads)
        watch = asyncio.create_task(_close_when_gone(request, flow))

        def done() -> None:
            self._under_way -= 1
            watch.cancel()

        flow.when_done(done)
        return flow

    @contextmanager
    def _opening(self, asked: ChatRequest | CompletionRequest, served: ServedModel) -> Iterator[Answering]:
        with self._holder.using() as backend:
            question = question_of(asked, served, backend.tokenizer)
            settings = asked.settings(backend.context - len(question.ids))
            answering = backend.ask(question.ids, settings, served.adapter, question.stop)
            try:
                yield answering
            finally:
                answering.close()


async def _chunks(reply: Reply, flow: Flow, pieces: AsyncIterator[str], first: str | None) -> AsyncIterator[str]:
    try:
        for chunk in reply.opening():
            yield _event(chunk)
        if first is not None:
            yield _event(reply.piece(first))
            async for piece in pieces:
                yield _event(reply.piece(piece))
        answer = _ended(flow)
        for chunk in reply.closing(answer.finish, answer.ids, _usage(answer)):
            yield _event(chunk)
        yield "data: [DONE]\n\n"
    except Exception as error:
        yield _event(_noted(error).body)
    finally:
        flow.close()


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise RequestError(400, "The client left before its request was whole", code="disconnected") from error


async def _close_when_gone(request: Request, flow: Flow) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    flow.close()


def _ended(flow: Flow) -> Answer:
    answer = flow.answer
    if answer is None or answer.finish == "stopped":
        raise UnavailableError("The answer was ended before it was whole", "Ask again.")
    return answer


def _usage(answer: Answer) -> dict[str, int]:
    given, made = answer.prompt_tokens, answer.tokens
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _listed(model: ServedModel, plan: Plan) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "tunewise",
        "root": plan.model.label,
        "parent": plan.models[-1].name if model.adapter else None,
        "template": model.template.ref,
        "elements": list(model.elements),
    }


def _noted(error: BaseException) -> RequestError:
    fault = fault_of(error)
    if fault.status == 500:
        log.error("an answer failed", exc_info=error)
    return fault


async def _told(_: Request, error: Exception) -> JSONResponse:
    fault = _noted(error)
    return JSONResponse(fault.body, fault.status, headers=fault.headers)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    fault = RequestError(status, f"There is no {request.method} {request.url.path}", code="unknown_url")
    return JSONResponse(fault.body, fault.status)
