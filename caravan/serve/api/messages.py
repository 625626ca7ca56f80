"""OpenAI's messages: what each role may say, and as turns of ours."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from caravan.records import AudioPart, ImagePart, Media, TextPart
from caravan.records import Part as Record
from caravan.serve.api.base import Strict, Words
from caravan.serve.errors import RequestError
from caravan.serve.question import Call, Turn

MAX_TOOLS = 64
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


class Text(Strict):
    type: Literal["text"]
    text: Words


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None  # ignored


class Image(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Strict):
    data: str
    format: str | None = None  # ignored: the bytes themselves tell


class Audio(Strict):
    type: Literal["input_audio"]
    input_audio: InputAudio


def _listed(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Part = Annotated[Text | Image | Audio, Field(discriminator="type")]
Texts = Annotated[
    list[Text], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[Text])
]  # fmt: skip
Parts = Annotated[
    list[Part], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[Part])
]  # fmt: skip


class System(Strict):
    role: Literal["system", "developer"]
    content: Texts
    name: str | None = None  # ignored


class User(Strict):
    role: Literal["user"]
    content: Parts
    name: str | None = None  # ignored


class Called(Strict):
    name: Name
    arguments: Words


class ToolCall(Strict):
    id: Words
    type: Literal["function"] = "function"
    function: Called


class Said(Strict):
    """An answer of this or another server, sent back as it came."""

    role: Literal["assistant"]
    content: Texts | None = None
    tool_calls: list[ToolCall] | None = Field(None, max_length=MAX_TOOLS)
    # Ignored, or empty.
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = Field(None, max_length=0)
    function_call: None = None
    audio: None = None

    @model_validator(mode="after")
    def _says_something(self) -> Said:
        if not self.content and not self.tool_calls:
            raise ValueError("Input should have content or tool_calls")
        return self


class Result(Strict):
    role: Literal["tool"]
    content: Texts
    tool_call_id: Words


Message = Annotated[System | User | Said | Result, Field(discriminator="role")]


def elsewhere(messages: Sequence[System | User | Said | Result]) -> dict[str, str]:
    """The URLs of pictures that are not in the request itself, and where they stand in it."""
    return {
        part.image_url.url: f"messages[{index}].content[{position}].image_url.url"
        for index, message in enumerate(messages)
        for position, part in enumerate(message.content or ())
        if isinstance(part, Image) and not part.image_url.url.startswith("data:")
    }


def to_turn(message: System | User | Said | Result, where: str, fetched: Mapping[str, bytes]) -> Turn:
    """A message as a turn, media still encoded as they came; those from elsewhere are in `fetched`.

    Raises:
        RequestError: a data URI that is no picture, media that are not base64.
    """
    parts = tuple(_records(message.content or (), where, fetched))
    match message:
        case Said():
            calls = (Call(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
            return Turn("assistant", parts, tuple(calls))
        case Result():
            return Turn("tool", parts, call_id=message.tool_call_id)
        case System():
            return Turn("system", parts)
        case User():
            return Turn("user", parts)


def _records(content: Sequence[Text | Image | Audio], where: str, fetched: Mapping[str, bytes]) -> Iterator[Record]:
    for index, part in enumerate(content):
        at = f"{where}.content[{index}]"
        match part:
            case Text():
                yield TextPart(part.text)
            case Image():
                yield ImagePart(Media(_picture(part.image_url.url, f"{at}.image_url.url", fetched)))
            case Audio():
                yield AudioPart(Media(_unbase64(part.input_audio.data, f"{at}.input_audio.data")))


def _picture(url: str, where: str, fetched: Mapping[str, bytes]) -> bytes:
    if match := _DATA_URI.match(url):
        return _unbase64(url[match.end() :], where)
    if url.startswith("data:"):
        raise RequestError(
            "this is no picture", param=where, expected="data:image/...;base64,...", got=url[:60], fix="correct the URI"
        )
    return fetched[url]


def _unbase64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            "this is not base64", param=where, code="invalid_base64", expected="base64", got=str(error)
        ) from error
