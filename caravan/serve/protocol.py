"""OpenAI's chat completions: what a request may hold, and what answers look like.

Fields that clients send by habit and that do not change the answer are taken and ignored. Fields that would change it
and are not offered are taken in their neutral value only: a client never gets something else than it asked for.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from caravan.records import AudioPart, ImagePart, Media, Message, Part, TextPart
from caravan.serve.errors import RequestError

_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)
_UINT32 = 2**32


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Text(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None  # ignored


class Image(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(_Strict):
    data: str
    format: str | None = None  # ignored: the bytes themselves tell


class Audio(_Strict):
    type: Literal["input_audio"]
    input_audio: InputAudio


class Turn(_Strict):
    """One message of a request."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[Annotated[Text | Image | Audio, Field(discriminator="type")]] = Field(min_length=1)
    # An answer of this or another server, sent back as it came: ignored, or empty.
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = Field(None, max_length=0)
    tool_calls: list[Any] | None = Field(None, max_length=0)
    function_call: None = None
    audio: None = None

    @field_validator("content", mode="before")
    @classmethod
    def _bare_text(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # ignored


class ResponseFormat(_Strict):
    type: Literal["text"]


class ChatRequest(_Strict):
    """The body of POST /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1)
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    # The engine takes the largest 32-bit number for "any seed".
    seed: int | None = Field(None, ge=0, lt=_UINT32 - 1)
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(None, max_length=16)
    # Neutral values only.
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    presence_penalty: float | None = Field(None, ge=0, le=0)
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    logit_bias: dict[str, float] | None = Field(None, max_length=0)
    tools: list[Any] | None = Field(None, max_length=0)
    functions: list[Any] | None = Field(None, max_length=0)
    tool_choice: Literal["none", "auto"] | None = None
    function_call: Literal["none", "auto"] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    # Ignored.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _bare_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def to_messages(request: ChatRequest) -> list[Message]:
    """The messages of a request, media still encoded as they came.

    Raises:
        RequestError: a picture that is not a data URI, media that are not base64.
    """
    messages = []
    for index, turn in enumerate(request.messages):
        role = "system" if turn.role == "developer" else turn.role
        messages.append(Message(role, tuple(_parts(turn, f"messages[{index}]"))))
    return messages


def _parts(turn: Turn, where: str) -> Iterator[Part]:
    for index, part in enumerate(turn.content):
        at = f"{where}.content[{index}]"
        match part:
            case Text():
                yield TextPart(part.text)
            case Image():
                yield ImagePart(Media(_picture(part.image_url.url, f"{at}.image_url.url")))
            case Audio():
                yield AudioPart(Media(_unbase64(part.input_audio.data, f"{at}.input_audio.data")))


def _picture(url: str, where: str) -> bytes:
    if match := _DATA_URI.match(url):
        return _unbase64(url[match.end() :], where)
    raise RequestError(
        "pictures are not fetched from elsewhere",
        param=where,
        code="remote_media_refused",
        expected="data:image/png;base64,... (any common image format)",
        got=url[:60],
        fix="send the picture itself, in base64",
    )


def _unbase64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            "this is not base64", param=where, code="invalid_base64", expected="base64", got=str(error)
        ) from error


def completion(identity: str, model: str, text: str, finish: str, usage: dict[str, int]) -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {**_head(identity, "chat.completion", model), "choices": [choice], "usage": usage}


def chunk(identity: str, model: str, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    """A piece of a streamed answer."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_head(identity, "chat.completion.chunk", model), "choices": [choice]}


def usage_chunk(identity: str, model: str, usage: dict[str, int]) -> dict[str, Any]:
    """The last piece of a streamed answer, where the client asked for the usage."""
    return {**_head(identity, "chat.completion.chunk", model), "choices": [], "usage": usage}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Tokens read and written."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def model_card(name: str, created: int) -> dict[str, Any]:
    """A row of GET /v1/models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "caravan"}


def _head(identity: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": model}
