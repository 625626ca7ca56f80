"""Talking to an engine process over its loopback address."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from caravan.core.errors import ServeError
from caravan.engine import EngineRequestError, EventReader, completion_request, engine_error, read_completion
from caravan.serve.errors import EngineDownError, LateError, RequestError
from caravan.serve.question import Piece, Token
from caravan.text.repetition import LoopWatch

# The engine is silent while it reads the prompt.
SILENCE_SECONDS = 300.0
CONNECT_SECONDS = 10.0
CONTEXT_EXCEEDED = b"exceed_context_size_error"


@dataclass(frozen=True)
class EngineFacts:
    """What an engine process says of itself once it is ready; `address`, `key` and `marker` differ at each start.

    Attributes:
        context: tokens that one request can hold.
        senses: what it has: "audio", "vision".
        batch: tokens of the longest text that can be embedded.
        window_tokens: of 30 seconds of a clip, 0 if unknown.
        picture_tokens: of a picture, 0 if unknown.
    """

    address: str
    key: str
    marker: str
    context: int
    senses: frozenset[str]
    batch: int = 0
    window_tokens: int = 0
    picture_tokens: int = 0

    @classmethod
    def from_line(cls, line: bytes) -> EngineFacts:
        """Read the line of JSON that the engine prints."""
        facts = json.loads(line)
        return cls(**facts | {"senses": frozenset(facts["senses"])})


class EngineClient:
    """An engine's HTTP interface: `connect` when it is ready, `disconnect` when it is known to be gone."""

    def __init__(self, silence: float = SILENCE_SECONDS) -> None:
        self.silence = silence
        limits = httpx.Limits(max_connections=None)  # the gate counts
        timeout = httpx.Timeout(silence, connect=CONNECT_SECONDS)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        self._facts: EngineFacts | None = None
        self.starts = 0
        self.heard = 0
        self.absence = "it is starting"

    @property
    def connected(self) -> bool:
        """Whether the engine is there, as far as is known."""
        return self._facts is not None

    def connect(self, facts: EngineFacts) -> None:
        """Send requests to this engine from now on."""
        self._facts, self.absence = facts, ""
        self.starts += 1

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

    async def stream(
        self, prompt: str | Sequence[int], media: Sequence[bytes] = (), loop_characters: int = 0, **sampling: Any
    ) -> AsyncGenerator[Piece, None]:
        """Answer a prompt, piece by piece; further keywords are those of `completion_request`.

        Args:
            loop_characters: ends an answer that ends in so many of one unit over and over; 0: none.

        Raises:
            RequestError: the engine refuses the request; a prompt that is too long says so.
            EngineDownError: it is not running, or dies meanwhile.
        """
        facts = self.facts()
        body = completion_request(prompt, media, facts.marker, stream=True, **sampling)
        reader, predicted, finished, watch = EventReader(), 0, False, LoopWatch(loop_characters)
        with self._failure_named():
            async with self._http.stream(
                "POST", f"{facts.address}/completion", json=body, headers=_headers(facts)
            ) as reply:
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, await reply.aread())
                async for chunk in reply.aiter_bytes():
                    self.heard += 1
                    for event in reader.feed(chunk):
                        finished = finished or event["stop"]
                        yield _piece(event, event["tokens_predicted"] - predicted, sampling.get("logprobs"))
                        predicted = event["tokens_predicted"]
                        if watch.runs_away(event["content"]) and not finished:
                            # Leaving the stream ends the engine's work on it.
                            yield Piece("", "stop", event.get("tokens_evaluated", 0), predicted)
                            return
        if not finished:
            raise EngineDownError("it ended while it worked on this request")

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]:
        """The mean of each input's last hidden states, of length one; and how many tokens all had. Raises as `stream`.

        Inputs are texts, or ids.
        """
        facts = self.facts()
        with self._failure_named():
            reply = await self._http.post(
                f"{facts.address}/v1/embeddings", json={"input": list(inputs)}, headers=_headers(facts)
            )
            if reply.status_code != 200:
                raise _refusal(reply.status_code, reply.content)
        body = reply.json()
        rows = sorted(body["data"], key=lambda row: row["index"])
        return [row["embedding"] for row in rows], int(body["usage"]["prompt_tokens"])

    async def well(self) -> bool:
        """Whether the engine answers a simple question in time, or says something else meanwhile; true without one."""
        if self._facts is None:
            return True
        facts, heard = self._facts, self.heard
        try:
            await self._http.get(f"{facts.address}/health", headers=_headers(facts), timeout=CONNECT_SECONDS)
        except httpx.TransportError:
            return self.heard > heard
        return True

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    @contextlib.contextmanager
    def _failure_named(self) -> Iterator[None]:
        """What goes wrong between us and the engine, as ours: the request's fault, or the engine's."""
        try:
            yield
        except (RequestError, EngineDownError):
            raise
        except EngineRequestError as error:
            raise RequestError(error.problem, param="messages", expected=error.expected, got=error.got) from error
        except httpx.ReadTimeout as error:
            raise LateError("a sign of the engine", self.silence) from error
        except (httpx.TransportError, ServeError) as error:
            raise EngineDownError(f"it failed over this request ({error})") from error


def _headers(facts: EngineFacts) -> dict[str, str]:
    return {"Authorization": f"Bearer {facts.key}", "Connection": "close"}


def _piece(event: dict[str, Any], steps: int, logprobs: int | None) -> Piece:
    """An event of the engine, `steps` tokens after the one before."""
    if not event["stop"]:
        told = event.get("completion_probabilities", ()) if logprobs is not None else ()
        return Piece(event["content"], tokens=tuple(_token(one, steps, logprobs or 0) for one in told))
    last = read_completion(event)
    cached = event.get("timings", {}).get("cache_n", 0)
    return Piece(last.text, last.finish_reason, last.prompt_tokens, last.completion_tokens, cached)


def _token(told: dict[str, Any], steps: int, top: int) -> Token:
    """llama.cpp tells of tokens that end inside a character together with the next; only of the last what it took."""
    if steps > 1:
        return Token(told["token"], tuple(told["bytes"]), None)
    likeliest = (Token(one["token"], tuple(one["bytes"]), one["logprob"]) for one in told["top_logprobs"][:top])
    return Token(told["token"], tuple(told["bytes"]), told["logprob"], tuple(likeliest))


def _refusal(status: int, body: bytes) -> RequestError | EngineDownError:
    """The engine's error as ours."""
    error = engine_error(status, body)
    if not isinstance(error, EngineRequestError):
        return EngineDownError(error.got or error.problem)
    code = "context_length_exceeded" if CONTEXT_EXCEEDED in body else "invalid_value"
    return RequestError(
        error.problem, param="messages", code=code, expected=error.expected, got=error.got, fix=error.fix
    )
