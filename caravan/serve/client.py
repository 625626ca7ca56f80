"""Talking to an engine process over its loopback address."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from caravan.core.errors import ServeError
from caravan.engine import EngineRequestError, EventReader, completion_request, engine_error, read_completion
from caravan.serve.errors import EngineDownError, RequestError

# The engine is silent while a request waits for its turn and while it reads the prompt.
SILENCE_SECONDS = 900.0
CONTEXT_EXCEEDED = b"exceed_context_size_error"


@dataclass(frozen=True)
class EngineFacts:
    """What an engine process says of itself once it is ready; all but `context` and `senses` differ at each start."""

    address: str
    key: str
    marker: str
    context: int
    senses: frozenset[str]

    @classmethod
    def from_line(cls, line: bytes) -> EngineFacts:
        """Read the line of JSON that the engine prints."""
        facts = json.loads(line)
        return cls(**facts | {"senses": frozenset(facts["senses"])})


@dataclass(frozen=True)
class Piece:
    """A piece of an answer; the last one has `finish` ("stop" or "length") and the counts."""

    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EngineClient:
    """An engine's HTTP interface: `connect` when it is ready, `disconnect` when it is known to be gone."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(SILENCE_SECONDS, connect=5.0), trust_env=False)
        self._facts: EngineFacts | None = None
        self.absence = "it is starting"

    def connect(self, facts: EngineFacts) -> None:
        """Send requests to this engine from now on."""
        self._facts, self.absence = facts, ""

    def disconnect(self, absence: str) -> None:
        """Refuse requests until the next `connect`, saying why."""
        self._facts, self.absence = None, absence

    def facts(self) -> EngineFacts:
        """What the engine says of itself.

        Raises:
            EngineDownError: no engine is connected.
        """
        if self._facts is None:
            raise EngineDownError(self.absence)
        return self._facts

    async def stream(self, prompt: str, media: Sequence[bytes], **sampling: Any) -> AsyncGenerator[Piece, None]:
        """Answer a prompt, piece by piece; the keywords are those of `completion_request`.

        Raises:
            RequestError: the engine refuses the request; a prompt that is too long says so.
            EngineDownError: it is not running, or dies meanwhile.
        """
        facts = self.facts()
        body = completion_request(prompt, media, facts.marker, stream=True, **sampling)
        headers = {"Authorization": f"Bearer {facts.key}", "Connection": "close"}
        reader = EventReader()
        finished = False
        try:
            async with self._http.stream("POST", f"{facts.address}/completion", json=body, headers=headers) as reply:
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, await reply.aread())
                async for chunk in reply.aiter_bytes():
                    for event in reader.feed(chunk):
                        finished = finished or event["stop"]
                        yield _piece(event)
        except (httpx.TransportError, ServeError) as error:
            if isinstance(error, RequestError | EngineDownError):
                raise
            raise EngineDownError(f"it failed over this request ({error})") from error
        if not finished:
            raise EngineDownError("it ended while it worked on this request")

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


def _piece(event: dict[str, Any]) -> Piece:
    if not event["stop"]:
        return Piece(event["content"])
    last = read_completion(event)
    return Piece(last.text, last.finish_reason, last.prompt_tokens, last.completion_tokens)


def _refusal(status: int, body: bytes) -> RequestError | EngineDownError:
    """The engine's error as ours."""
    error = engine_error(status, body)
    if not isinstance(error, EngineRequestError):
        return EngineDownError(error.got or error.problem)
    code = "context_length_exceeded" if CONTEXT_EXCEEDED in body else "invalid_value"
    return RequestError(
        error.problem, param="messages", code=code, expected=error.expected, got=error.got, fix=error.fix
    )
