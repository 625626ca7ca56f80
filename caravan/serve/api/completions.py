"""OpenAI's plain completions: a text, or ids, goes on as it stands; special tokens in it are read as such."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field

from caravan.serve.api.base import Count, Drawn, Label, Words, check_model, logprob, usage
from caravan.serve.api.streams import Event, streamed, unless_gone, whole
from caravan.serve.assistant import Assistant
from caravan.serve.conversation import check_text
from caravan.serve.errors import RequestError
from caravan.serve.question import Piece, Sampling, Token

Id = Annotated[int, Field(ge=0, lt=2**31)]
MAX_PROMPTS = 16


def listed(value: Any) -> Any:
    """One text, or one list of ids, as a list of them."""
    single = isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], int))
    return [value] if single else value


Prompts = Annotated[
    list[Words] | list[Annotated[list[Id], Field(min_length=1)]],
    Field(min_length=1, max_length=MAX_PROMPTS),
    BeforeValidator(listed, json_schema_input_type=Words | list[Words] | list[Id] | list[list[Id]]),
]


class CompletionRequest(Drawn):
    """The body of POST /v1/completions."""

    prompt: Prompts
    max_tokens: Count | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    # Neutral values only.
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None


def add(app: FastAPI, assistant: Assistant) -> None:
    """Offer POST /v1/completions."""

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        check_model(asked.model, assistant.name)
        _check(asked, assistant)
        sampling = Sampling(max_tokens=asked.max_tokens, logprobs=asked.logprobs, **asked.drawing())
        answers = [assistant.complete(prompt, sampling) for prompt in asked.prompt]
        label = Label.new("cmpl", assistant.name)
        if asked.stream:
            first = asked.prompt[0] if asked.echo else ""
            return await streamed(request, answers[0], Chunks(label, str(first), asked.wants_usage))
        said = await unless_gone(request, _all(answers))
        return JSONResponse(completion(label, asked, said))


def _check(asked: CompletionRequest, assistant: Assistant) -> None:
    if asked.stream and len(asked.prompt) > 1:
        raise RequestError("only one prompt can be streamed", param="prompt", expected="one", got=len(asked.prompt))
    if asked.echo and not isinstance(asked.prompt[0], str):
        raise RequestError("ids cannot be echoed", param="echo", expected="a prompt of text", got="ids")
    check_text(sum(len(prompt) for prompt in asked.prompt), assistant.config.limits, "prompt")


async def _all(answers: Sequence[Any]) -> list[list[Piece]]:
    """All answers; one that fails ends the others.

    Raises:
        CaravanError: that one's.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(whole(answer)) for answer in answers]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def completion(label: Label, asked: CompletionRequest, said: Sequence[Sequence[Piece]]) -> Event:
    """Whole answers, one for each prompt."""
    choices = []
    for index, pieces in enumerate(said):
        text = "".join(piece.text for piece in pieces)
        tokens = [token for piece in pieces for token in piece.tokens]
        logprobs = _logprobs(tokens) if asked.logprobs is not None else None
        text = f"{asked.prompt[index]}{text}" if asked.echo else text
        choices.append({"index": index, "text": text, "logprobs": logprobs, "finish_reason": pieces[-1].finish})
    total = Piece(
        "",
        prompt_tokens=sum(pieces[-1].prompt_tokens for pieces in said),
        completion_tokens=sum(pieces[-1].completion_tokens for pieces in said),
        cached_tokens=sum(pieces[-1].cached_tokens for pieces in said),
    )
    return asdict(label) | {"object": "text_completion", "choices": choices, "usage": usage(total)}


class Chunks:
    """The chunks of a streamed answer, piece by piece; `echo` comes before the first."""

    def __init__(self, label: Label, echo: str = "", wants_usage: bool = False) -> None:
        self.head = asdict(label) | {"object": "text_completion"}
        self.echo, self.wants_usage = echo, wants_usage

    def __call__(self, piece: Piece) -> Iterator[Event]:
        """What is told of a piece."""
        text, self.echo = self.echo + piece.text, ""
        if text or piece.tokens or piece.finish:
            logprobs = _logprobs(piece.tokens) if piece.tokens else None
            choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": piece.finish}
            yield self.head | {"choices": [choice]}
        if piece.finish and self.wants_usage:
            yield self.head | {"choices": [], "usage": usage(piece)}


def _logprobs(tokens: Sequence[Token]) -> Event:
    offsets = [0]
    for token in tokens:
        offsets.append(offsets[-1] + len(token.text))
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [logprob(token) for token in tokens],
        "top_logprobs": [{other.text: logprob(other) for other in token.top} for token in tokens],
        "text_offset": offsets[:-1],
    }
