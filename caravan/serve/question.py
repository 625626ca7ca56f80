"""What is asked: turns of a conversation with tools and how the answer is drawn. And what comes back: pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from caravan.records import Message, Part, TextPart

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A tool that the model wants called; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """One message; an assistant's may hold calls, and a tool's is the result of the call `call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: tuple[Part, ...]
    calls: tuple[Call, ...] = ()
    call_id: str = ""

    @classmethod
    def of(cls, message: Message) -> Turn:
        """A message without tools."""
        return cls(message.role, message.content)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        """The text of the turn, media left out."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True)
class Tools:
    """Functions by name, each `{name, description, parameters}`.

    `choice` is "auto", "none", "required", or the name of the one function that must be called; `parallel` allows
    several calls in one answer.
    """

    functions: Mapping[str, Schema]
    choice: str = "auto"
    parallel: bool = True


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. What is None is the server's to say."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None
    cache_prompt: bool | None = None


@dataclass(frozen=True)
class Question:
    """A conversation to be answered; `schema` is the JSON schema that the answer must follow, if any."""

    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    tools: Tools | None = None
    schema: Schema | None = None


@dataclass(frozen=True)
class Token:
    """A token of an answer, with the likeliest in its place; `logprob` is None where the engine does not say."""

    text: str
    bytes: tuple[int, ...]
    logprob: float | None
    top: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of an answer; the last one has `finish` ("stop", "length" or "tool_calls") and the counts."""

    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    calls: tuple[Call, ...] = ()
    tokens: tuple[Token, ...] = ()
