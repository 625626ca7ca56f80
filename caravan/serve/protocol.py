"""OpenAI's chat completions: what a request may hold, and what answers look like.

Fields that clients send by habit and that do not change the answer are taken and ignored. Fields that would change it
and are not offered are taken in their neutral value only: a client never gets something else than it asked for.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from caravan.records import AudioPart, ImagePart, Media, Message, Part, TextPart
from caravan.serve.client import Piece
from caravan.serve.errors import RequestError, error_body

_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _whole(text: str) -> str:
    """JSON can spell half of a surrogate pair, which is no character and has no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("Input should be valid Unicode, without lone surrogates") from error
    return text


Words = Annotated[str, AfterValidator(_whole)]


class Text(_Strict):
    type: Literal["text"]
    text: Words


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
    seed: int | None = None
    stop: list[Annotated[Words, Field(min_length=1, max_length=256)]] | None = Field(None, max_length=16)
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

    @property
    def wants_usage(self) -> bool:
        """Whether a streamed answer ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

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


def validation_body(faults: Sequence[Any]) -> dict[str, Any]:
    """What a client is told of a body that is not a ChatRequest; the first fault speaks for all."""
    fault = faults[0]
    if fault["type"] == "json_invalid":
        reason = fault["ctx"]["error"]
        return error_body(f"the body is not JSON: {reason}; expected a JSON object", status=400, code="invalid_json")
    param = _path(fault["loc"][1:])
    given = fault["input"]
    got = "" if fault["type"] == "missing" else f"; got {repr(given[:60] if isinstance(given, str) else given)[:80]}"
    expected = "no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
    return error_body(f"{param or 'body'}: {expected}{got}", status=400, code=fault["type"], param=param or None)


def _path(location: Sequence[str | int]) -> str:
    """`("messages", 0, "content")` as `messages[0].content`; what pydantic adds for the kind of a part left out."""
    path = ""
    for index, name in enumerate(location):
        if isinstance(name, int):
            path += f"[{name}]"
        elif index < 2 or location[index - 2] != "content":
            path += f".{name}" if path else name
    return path


@dataclass(frozen=True)
class Label:
    """What every part of one answer carries."""

    id: str
    model: str
    created: int


def completion(label: Label, text: str, last: Piece) -> dict[str, Any]:
    """A whole answer, whose last piece was `last`."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": last.finish}
    return asdict(label) | {"object": "chat.completion", "choices": [choice], "usage": _usage(last)}


def chunk(label: Label, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    """A piece of a streamed answer."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return asdict(label) | {"object": "chat.completion.chunk", "choices": [choice]}


def usage_chunk(label: Label, last: Piece) -> dict[str, Any]:
    """The end of a streamed answer, where the client asked for the counts of tokens."""
    return asdict(label) | {"object": "chat.completion.chunk", "choices": [], "usage": _usage(last)}


def model_card(name: str, created: int) -> dict[str, Any]:
    """A row of GET /v1/models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "caravan"}


def _usage(last: Piece) -> dict[str, int]:
    total = last.prompt_tokens + last.completion_tokens
    return {"prompt_tokens": last.prompt_tokens, "completion_tokens": last.completion_tokens, "total_tokens": total}
