"""The front end: OpenAI's chat completions over an assistant. Whatever comes in, it stays up."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from caravan import __version__
from caravan.core.errors import CaravanError
from caravan.serve import protocol
from caravan.serve.assistant import Assistant, Sampling
from caravan.serve.client import Piece
from caravan.serve.conversation import SENSES
from caravan.serve.errors import RequestError, body_of, error_body, status_of
from caravan.serve.limit import BodyLimit
from caravan.serve.protocol import ChatRequest, Label

T = TypeVar("T")


def create_app(assistant: Assistant) -> FastAPI:
    """The HTTP application of an assistant: `/v1`, `/health` and `/metrics`."""
    # FastAPI's interactive pages load scripts from elsewhere: left out.
    app = FastAPI(title="Caravan", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, most=assistant.config.limits.request_bytes)
    _add_errors(app)
    _add_chat(app, assistant)
    _add_facts(app, assistant)
    return app


def _add_chat(app: FastAPI, assistant: Assistant) -> None:
    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        _check_model(asked.model, assistant.name)
        messages = await anyio.to_thread.run_sync(protocol.to_messages, asked)
        pieces = assistant.answer(messages, _sampling(asked))
        label = protocol.Label(f"chatcmpl-{secrets.token_hex(12)}", assistant.name, int(time.time()))
        if not asked.stream:
            return JSONResponse(await _unless_gone(request, _whole(label, pieces)))
        # Errors before the first piece still have an HTTP status of their own.
        first = await _unless_gone(request, anext(pieces))
        events = _events(label, first, pieces, asked.wants_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _add_facts(app: FastAPI, assistant: Assistant) -> None:
    started = int(time.time())

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [protocol.model_card(assistant.name, started)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        _check_model(name, assistant.name)
        return protocol.model_card(assistant.name, started)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        facts = assistant.client.facts()
        senses = sorted(facts.senses & SENSES.keys())
        return {"status": "ok", "model": assistant.name, "context": facts.context, "senses": senses}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(assistant.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    # What is mounted at / would answer these with a page.
    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(rest: str, request: Request) -> None:
        raise HTTPException(404, f"{request.method} /v1/{rest[:80]} is not offered")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(CaravanError)
    async def refused(_: Request, error: CaravanError) -> JSONResponse:
        status, _code = status_of(error)
        return JSONResponse(body_of(error), status, {"Retry-After": "2"} if status == 503 else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(protocol.validation_body(error.errors()), 400)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 413: "request_too_large"}.get(error.status_code, "invalid_request")
        words = error.detail
        if isinstance(error.__cause__, UnicodeDecodeError | RecursionError):
            code, words = "invalid_json", f"the body is not JSON: {error.__cause__}; expected a JSON object in UTF-8"
        body = error_body(words, status=error.status_code, code=code)
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body("internal error", status=500, code="internal_error"), 500)


def _check_model(asked: str | None, served: str) -> None:
    if asked is not None and asked != served:
        raise RequestError(
            "there is no such model", param="model", code="model_not_found", status=404, expected=served, got=asked[:80]
        )


def _sampling(request: ChatRequest) -> Sampling:
    return Sampling(
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=tuple(request.stop or ()),
        seed=request.seed,
    )


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is given up if the client goes away.

    Raises:
        RequestError: it went away; nobody reads this.
    """
    working = asyncio.create_task(work)
    tasks = (working, asyncio.create_task(_gone(request)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RequestError("the client went away", status=499)
        return working.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _whole(label: Label, pieces: AsyncGenerator[Piece, None]) -> dict[str, Any]:
    """All pieces as one answer."""
    async with aclosing(pieces):
        said = [piece async for piece in pieces]
    return protocol.completion(label, "".join(piece.text for piece in said), said[-1])


async def _events(
    label: Label, first: Piece, rest: AsyncGenerator[Piece, None], usage: bool
) -> AsyncGenerator[str, None]:
    """An answer as server-sent events. What goes wrong after the first piece is an event too."""
    last = first
    yield _event(protocol.chunk(label, {"role": "assistant", "content": first.text}, first.finish))
    try:
        async with aclosing(rest):
            async for last in rest:
                yield _event(protocol.chunk(label, {"content": last.text} if last.text else {}, last.finish))
    except CaravanError as error:
        yield _event(body_of(error))
        return
    if usage:
        yield _event(protocol.usage_chunk(label, last))
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
