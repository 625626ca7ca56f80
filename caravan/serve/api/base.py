"""What all requests and answers share.

Fields that clients send by habit and that do not change the answer are taken and ignored. Fields that would change it
and are not offered are taken in their neutral value only: a client never gets something else than it asked for.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from caravan.serve.errors import RequestError, error_body
from caravan.serve.question import Piece, Token

# What OpenAI's API says of tokens whose probability it does not know.
UNKNOWN_LOGPROB = -9999.0


class Strict(BaseModel):
    """A request's part: no unknown fields, no conversion, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _whole(text: str) -> str:
    """JSON can spell half of a surrogate pair, which is no character and has no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("Input should be valid Unicode, without lone surrogates") from error
    return text


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError("Input should be JSON of some depth, without NaN and lone surrogates") from error
    return value


Words = Annotated[str, AfterValidator(_whole)]
Json = Annotated[dict[str, Any], AfterValidator(_plain_json)]
Stop = Annotated[
    list[Annotated[Words, Field(min_length=1, max_length=256)]],
    Field(max_length=16),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # ignored


class Drawn(Strict):
    """How an answer is drawn: the fields that chat and plain completions share."""

    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None = (
        Field(None, max_length=1024)
    )
    seed: int | None = None
    stop: Stop | None = None
    cache_prompt: bool | None = Field(
        None, description="as llama.cpp's: false for answers that depend on nothing before"
    )
    n: Annotated[int, Field(ge=1, le=1)] | None = None  # neutral value only
    user: str | None = None  # ignored

    @property
    def wants_usage(self) -> bool:
        """Whether a streamed answer ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def drawing(self) -> dict[str, Any]:
        """As the keywords of a Sampling."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "presence_penalty": self.presence_penalty or 0.0,
            "frequency_penalty": self.frequency_penalty or 0.0,
            "logit_bias": {int(token): bias for token, bias in (self.logit_bias or {}).items()},
            "stop": tuple(self.stop or ()),
            "seed": self.seed,
            "cache_prompt": self.cache_prompt,
        }


@dataclass(frozen=True)
class Label:
    """What every part of one answer carries."""

    id: str
    model: str
    created: int

    @classmethod
    def new(cls, kind: str, model: str) -> Label:
        """A label that no other answer has."""
        return cls(f"{kind}-{secrets.token_hex(12)}", model, int(time.time()))


def check_model(asked: str | None, served: str) -> None:
    """See that a request is for the model that is served.

    Raises:
        RequestError: it is for another.
    """
    if asked is not None and asked != served:
        raise RequestError(
            "there is no such model", param="model", code="model_not_found", status=404, expected=served, got=asked[:80]
        )


def usage(last: Piece) -> dict[str, Any]:
    """The counts of tokens in an answer's last piece."""
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.completion_tokens,
        "total_tokens": last.prompt_tokens + last.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": last.cached_tokens},
    }


def logprob(token: Token) -> float:
    """A token's log-probability as JSON has it: the engine says -inf of what a grammar forbids."""
    known = token.logprob is not None and token.logprob > UNKNOWN_LOGPROB
    return token.logprob if known and token.logprob is not None else UNKNOWN_LOGPROB


def validation_body(faults: Sequence[Any]) -> dict[str, Any]:
    """What a client is told of a body that is not a request; the first fault speaks for all."""
    fault = faults[0]
    if fault["type"] == "json_invalid":
        reason = fault["ctx"]["error"]
        return error_body(f"the body is not JSON: {reason}; expected a JSON object", status=400, code="invalid_json")
    if isinstance(fault["input"], bytes):
        words = "the body is not read as JSON; expected the header Content-Type: application/json"
        return error_body(words, status=400, code="invalid_content_type")
    param = _path(fault["loc"][1:])
    given = fault["input"]
    got = "" if fault["type"] == "missing" else f"; got {repr(given[:60] if isinstance(given, str) else given)[:80]}"
    expected = "no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
    return error_body(f"{param or 'body'}: {expected}{got}", status=400, code=fault["type"], param=param or None)


def _path(location: Sequence[str | int]) -> str:
    """`("messages", 0, "user", "content")` as `messages[0].content`; what pydantic adds for the kind is left out."""
    path = ""
    for index, name in enumerate(location):
        before, last = ("", "", *location)[index : index + 2]
        tag = last == "response_format" or (isinstance(last, int) and before in ("messages", "content"))
        if isinstance(name, int):
            path += f"[{name}]"
        elif not tag and ("[" not in name or name.endswith("[]")):
            path += f".{name}" if path else name
    return path
