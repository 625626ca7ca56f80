"""Talking to an engine over its loopback address."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from caravan.engine import completion_request
from caravan.serve.errors import EngineDownError, RequestError

# The engine is silent while a request waits for its turn and while it reads the prompt.
SILENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Facts:
    """What a running engine says of itself. The marker that stands for media is another one at each start."""

    marker: str
    hears: bool
    sees: bool
    context: int


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; `temperature` 0 is greedy."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Piece:
    """A piece of an answer; the last one has `finish` and the counts."""

    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EngineClient:
    """An engine's HTTP interface. Not connected until `connect`; `disconnect` when the engine is known to be gone."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(SILENCE_SECONDS, connect=5.0), trust_env=False)
        self._address = ""
        self.facts: Facts | None = None
        self.absence = "the engine is starting"

    async def healthy(self, address: str) -> bool:
        """Whether an engine at this address has loaded its model."""
        try:
            reply = await self._http.get(f"{address}/health", timeout=2.0)
        except httpx.TransportError:
            return False
        return reply.status_code == 200

    async def connect(self, address: str) -> Facts:
        """Send requests to this address from now on."""
        props = (await self._http.get(f"{address}/props", timeout=10.0)).raise_for_status().json()
        senses = props.get("modalities", {})
        self._address = address
        self.facts = Facts(
            marker=props.get("media_marker", ""),
            hears=bool(senses.get("audio")),
            sees=bool(senses.get("vision")),
            context=int(props["default_generation_settings"]["n_ctx"]),
        )
        return self.facts

    def disconnect(self, absence: str) -> None:
        """Refuse requests until the next `connect`, saying why."""
        self.facts, self.absence = None, absence

    def available(self) -> Facts:
        """What the engine says of itself.

        Raises:
            EngineDownError: no engine is connected.
        """
        if self.facts is None:
            raise EngineDownError(self.absence)
        return self.facts

    async def stream(self, prompt: str, media: Sequence[bytes], sampling: Sampling) -> AsyncIterator[Piece]:
        """Answer a prompt, piece by piece.

        Raises:
            RequestError: the engine refuses the request; a prompt that is too long says so.
            EngineDownError: it is not running, or dies meanwhile.
        """
        facts = self.available()
        body = completion_request(prompt, media, facts.marker, **_given(sampling)) | {"stream": True}
        done = False
        try:
            async with self._http.stream("POST", f"{self._address}/completion", json=body) as reply:
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, await reply.aread())
                async for line in reply.aiter_lines():
                    if event := _event(line):
                        done = done or bool(event.get("stop"))
                        yield _piece(event)
        except httpx.TransportError as error:
            raise EngineDownError(f"it ended while it worked on this request ({type(error).__name__})") from error
        if not done:
            raise EngineDownError("it ended while it worked on this request")

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


def _given(sampling: Sampling) -> dict[str, Any]:
    """The sampling settings that are given; the engine has defaults for the others."""
    given = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "stop": sampling.stop}
    optional = {"top_p": sampling.top_p, "seed": sampling.seed}
    return given | {name: value for name, value in optional.items() if value is not None}


def _event(line: str) -> dict[str, Any] | None:
    """The JSON object of a line of server-sent events.

    Raises:
        RequestError: it is an error of the engine.
    """
    if line.startswith("error: "):
        raise _refusal(500, line.removeprefix("error: ").encode())
    if not line.startswith("data: ") or line == "data: [DONE]":
        return None
    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise _refusal(int(event["error"].get("code", 500)), json.dumps(event).encode())
    return event


def _piece(event: dict[str, Any]) -> Piece:
    if not event.get("stop"):
        return Piece(event["content"])
    finish = "length" if event.get("stop_type") == "limit" or event.get("truncated") else "stop"
    return Piece(event["content"], finish, event["tokens_evaluated"], event["tokens_predicted"])


def _refusal(status: int, body: bytes) -> RequestError | EngineDownError:
    """The engine's error in our words."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {"message": body[:200].decode(errors="replace")}
    if error.get("type") == "exceed_context_size_error":
        return RequestError(
            "the conversation is longer than the model's context",
            param="messages",
            code="context_length_exceeded",
            expected=f"at most {error.get('n_ctx')} tokens, media included",
            got=f"{error.get('n_prompt_tokens')} tokens",
            fix="leave out earlier messages or send shorter media",
        )
    if status < 500:
        return RequestError("the engine refuses this request", param="messages", got=error.get("message"))
    return EngineDownError(str(error.get("message")))
