"""OpenAI's chat completions: what a request may hold, and what answers look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from caravan.serve.api.base import Count, Drawn, Json, Label, Strict, Words, check_model, logprob, usage
from caravan.serve.api.messages import MAX_TOOLS, Message, Name, elsewhere, to_turn
from caravan.serve.api.streams import Event, streamed, unless_gone, whole
from caravan.serve.assistant import Assistant
from caravan.serve.question import Call, Piece, Question, Sampling, Token, Tools
from caravan.serve.remote import Fetcher
from caravan.serve.schema import ANY_OBJECT


class Function(Strict):
    name: Name
    description: Words | None = None
    parameters: Json | None = None
    strict: bool | None = None  # ignored: arguments always follow their schema


class Tool(Strict):
    type: Literal["function"]
    function: Function


class Named(Strict):
    name: Name


class Choice(Strict):
    type: Literal["function"]
    function: Named


class JsonSchema(Strict):
    name: Name
    schema_: Json = Field(alias="schema")
    description: str | None = None  # ignored
    strict: bool | None = None  # ignored: answers always follow the schema


class TextFormat(Strict):
    type: Literal["text"]


class ObjectFormat(Strict):
    type: Literal["json_object"]


class SchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class ChatRequest(Drawn):
    """The body of POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: Format | None = None
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | Choice | None = None
    parallel_tool_calls: bool | None = None
    # Neutral values only.
    functions: list[Any] | None = Field(None, max_length=0)
    function_call: Literal["none", "auto"] | None = None
    modalities: list[Literal["text"]] | None = None
    # Ignored.
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    @model_validator(mode="after")
    def _tools_agree(self) -> ChatRequest:
        names = [tool.function.name for tool in self.tools or ()]
        if len({*names}) < len(names):
            raise ValueError("tools should have different names")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice needs tools")
        if isinstance(self.tool_choice, Choice) and self.tool_choice.function.name not in names:
            raise ValueError(
                f"tool_choice should name one of the tools, {', '.join(names) or 'of which there are none'}"
            )
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        return self


def to_question(request: ChatRequest, fetched: Mapping[str, bytes] | None = None) -> Question:
    """What a request asks, media still encoded as they came; those from elsewhere are in `fetched`.

    Raises:
        RequestError: a data URI that is no picture, media that are not base64.
    """
    turns = tuple(to_turn(one, f"messages[{index}]", fetched or {}) for index, one in enumerate(request.messages))
    sampling = Sampling(
        max_tokens=request.max_completion_tokens or request.max_tokens,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        **request.drawing(),
    )
    return Question(turns, sampling, _tools(request), _schema(request.response_format))


def _tools(request: ChatRequest) -> Tools | None:
    if not request.tools:
        return None
    functions = {tool.function.name: tool.function.model_dump(exclude_none=True) for tool in request.tools}
    choice = request.tool_choice or "auto"
    name = choice.function.name if isinstance(choice, Choice) else choice
    return Tools(functions, name, request.parallel_tool_calls is not False)


def _schema(wanted: TextFormat | ObjectFormat | SchemaFormat | None) -> dict[str, Any] | None:
    match wanted:
        case ObjectFormat():
            return dict(ANY_OBJECT)
        case SchemaFormat():
            return wanted.json_schema.schema_
    return None


def add(app: FastAPI, assistant: Assistant) -> None:
    """Offer POST /v1/chat/completions."""

    fetcher = Fetcher(assistant.config.media_hosts, assistant.config.limits.request_bytes)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        check_model(asked.model, assistant.name)
        fetched = await fetcher.fetch_all(elsewhere(asked.messages))
        pieces = assistant.answer(await anyio.to_thread.run_sync(to_question, asked, fetched))
        label = Label.new("chatcmpl", assistant.name)
        if not asked.stream:
            return JSONResponse(completion(label, await unless_gone(request, whole(pieces)), bool(asked.logprobs)))
        return await streamed(request, pieces, Chunks(label, asked.wants_usage))


def completion(label: Label, pieces: list[Piece], logprobs: bool = False) -> Event:
    """A whole answer."""
    text = "".join(piece.text for piece in pieces)
    calls = [_call(call) for piece in pieces for call in piece.calls]
    message: Event = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    tokens = [token for piece in pieces for token in piece.tokens]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(tokens) if logprobs else None,
        "finish_reason": pieces[-1].finish,
    }
    return asdict(label) | {"object": "chat.completion", "choices": [choice], "usage": usage(pieces[-1])}


class Chunks:
    """The chunks of a streamed answer, piece by piece."""

    def __init__(self, label: Label, wants_usage: bool = False) -> None:
        self.head = asdict(label) | {"object": "chat.completion.chunk"}
        self.wants_usage = wants_usage
        self.calls = 0
        self.begun = False

    def __call__(self, piece: Piece) -> Iterator[Event]:
        """What is told of a piece."""
        delta: Event = {} if self.begun else {"role": "assistant", "content": ""}
        self.begun = True
        if piece.text:
            delta["content"] = piece.text
        if piece.calls:
            delta["tool_calls"] = [
                {"index": self.calls + index} | _call(call) for index, call in enumerate(piece.calls)
            ]
            self.calls += len(piece.calls)
        logprobs = _logprobs(piece.tokens) if piece.tokens else None
        if delta or logprobs or piece.finish:
            choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": piece.finish}
            yield self.head | {"choices": [choice]}
        if piece.finish and self.wants_usage:
            yield self.head | {"choices": [], "usage": usage(piece)}


def _call(call: Call) -> Event:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprobs(tokens: list[Token] | tuple[Token, ...]) -> Event:
    def told(token: Token) -> Event:
        return {"token": token.text, "logprob": logprob(token), "bytes": [*token.bytes]}

    content = [told(token) | {"top_logprobs": [told(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}
