"""The backend elsewhere: any OpenAI-compatible server, such as vLLM on GPUs, behind the same checks as the local one.

What clients send is checked and decoded here; the server behind sees rendered JSON, and WAV and PNG that we wrote.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

import anyio.to_thread
import httpx

from caravan.core.errors import ServeError
from caravan.recipe.serve import ServeConfig
from caravan.records import AudioPart, TextPart
from caravan.serve.conversation import SENSES, Room, check, check_text, decoded
from caravan.serve.errors import BusyError, EngineDownError, LateError, RequestError
from caravan.serve.question import Call, Piece, Question, Sampling, Token
from caravan.serve.tools import plain

KEY_VARIABLE = "CARAVAN_UPSTREAM_KEY"
CONNECT_SECONDS = 10.0
PULSE_SECONDS = 10.0
# What the caller of these is told of a refusal as it came; others of 4xx are between us and the server behind.
REFUSALS = frozenset({400, 404, 413, 415, 422})
Event = dict[str, Any]


class Upstream:
    """Answers with a model of an OpenAI-compatible server.

    Args:
        http: a client whose base URL is the server's `/v1`.
        name: of the model there.
        senses: what it has: "audio", "vision".
        context: tokens of one conversation.
        config: limits and defaults.
    """

    def __init__(
        self, http: httpx.AsyncClient, name: str, senses: frozenset[str], context: int, config: ServeConfig
    ) -> None:
        self.http, self.name, self.senses, self.context, self.config = http, name, senses, context, config
        self.absence = ""

    def check(self) -> None:
        """See that the server was there when it was last asked.

        Raises:
            EngineDownError: it was not.
        """
        if self.absence:
            raise EngineDownError(self.absence)

    def figures(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """What is to be known of the server behind."""
        return {"engine_up": ("whether the server behind answers", lambda: float(not self.absence))}

    async def watch(self) -> None:
        """Keep `absence` true, until cancelled."""
        while True:
            try:
                reply = await self.http.get("models", timeout=CONNECT_SECONDS)
                self.absence = "" if reply.is_success else f"the server behind says {reply.status_code}"
            except httpx.TransportError as error:
                self.absence = f"the server behind does not answer ({type(error).__name__})"
            await asyncio.sleep(PULSE_SECONDS)

    async def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        """Answer a conversation, piece by piece. Raises as `Assistant.answer`."""
        messages = await anyio.to_thread.run_sync(self._messages, question)
        body: Event = {"messages": messages} | self._drawing(question.sampling)
        if question.sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": question.sampling.logprobs}
        if question.schema is not None:
            form = {"name": "answer", "schema": question.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if (tools := question.tools) is not None:
            named = {"type": "function", "function": {"name": tools.choice}}
            body["tools"] = [{"type": "function", "function": function} for function in tools.functions.values()]
            body["tool_choice"] = named if tools.choice in tools.functions else tools.choice
            body["parallel_tool_calls"] = tools.parallel
        async with aclosing(self._pieces("chat/completions", body, _ChatReader())) as pieces:
            async for piece in pieces:
                yield piece

    async def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """Go on from a text, or from ids. Raises as `Assistant.complete`."""
        body: Event = {"prompt": prompt if isinstance(prompt, str) else [*prompt]} | self._drawing(sampling)
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        async with aclosing(self._pieces("completions", body, _TextReader())) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]:
        """Vectors, and how many tokens were read. Raises as `Assistant.embed`."""
        check_text(sum(map(len, inputs)), self.config.limits, "input")
        with _failure_named(self.config.timeouts.silence):
            reply = await self.http.post("embeddings", json={"model": self.name, "input": [*inputs]})
            if not reply.is_success:
                raise _refusal(reply.status_code, reply.content)
            body = reply.json()
        rows = sorted(body["data"], key=lambda row: row["index"])
        return [row["embedding"] for row in rows], int(body["usage"]["prompt_tokens"])

    def _messages(self, question: Question) -> list[Event]:
        """The turns as OpenAI's messages, their media checked and encoded anew."""
        messages, first = plain(question)
        check(messages, self.senses, self.config.limits, first)
        media = decoded(messages, self.config.limits, Room(), first)
        told = []
        for turn in question.turns:
            parts = [
                {"type": "text", "text": part.text} if isinstance(part, TextPart) else _medium(part, next(media)[0])
                for part in turn.content
            ]
            # Not every server takes a list of parts where there is text alone.
            message: Event = {"role": turn.role, "content": turn.text if _is_text(turn.content) else parts}
            if turn.calls:
                message["tool_calls"] = [
                    {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
                    for one in turn.calls
                ]
            told.append(message | ({"tool_call_id": turn.call_id} if turn.call_id else {}))
        return told

    def _drawing(self, sampling: Sampling) -> Event:
        """How the answer is drawn, in OpenAI's fields; neutral ones left out."""
        most = min(sampling.max_tokens or self.config.max_tokens, self.config.limits.tokens)
        temperature = self.config.temperature if sampling.temperature is None else sampling.temperature
        given = asdict(sampling)
        names = ("top_p", "presence_penalty", "frequency_penalty", "stop", "seed", "cache_prompt")
        neutral = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": ()}
        more = {name: given[name] for name in names if given[name] != neutral.get(name)}
        bias = {"logit_bias": {str(token): value for token, value in sampling.logit_bias.items()}}
        return {"max_tokens": most, "temperature": temperature} | more | (bias if sampling.logit_bias else {})

    async def _pieces(self, path: str, body: Event, reader: _ChatReader | _TextReader) -> AsyncGenerator[Piece, None]:
        body |= {"model": self.name, "stream": True, "stream_options": {"include_usage": True}}
        with _failure_named(self.config.timeouts.silence):
            async with self.http.stream("POST", path, json=body) as reply:
                if not reply.is_success:
                    raise _refusal(reply.status_code, await reply.aread())
                async for event in _events(reply):
                    if piece := reader.feed(event):
                        yield piece
        yield reader.last()


async def _events(reply: httpx.Response) -> AsyncIterator[Event]:
    """Server-sent events, split at newline bytes: U+2028 may stand within one."""
    rest = b""
    async for chunk in reply.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"data" and (value := value.strip()) != b"[DONE]":
                event = json.loads(value)
                if "error" in event:
                    raise EngineDownError(f"the server behind says: {str(event['error'])[:200]}")
                yield event


class _Reader:
    """What chat and plain completions share: how an answer ends, and its counts, which come after that."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self.counts: Event = {}

    def choice(self, event: Event) -> Event | None:
        """The one choice of a chunk, if it has one."""
        self.counts = event.get("usage") or self.counts
        if not event.get("choices"):
            return None
        choice: Event = event["choices"][0]
        self.finish = choice.get("finish_reason") or self.finish
        return choice

    def last(self) -> Piece:
        """The end of the answer.

        Raises:
            EngineDownError: it had none.
        """
        if self.finish is None:
            raise EngineDownError("the server behind ended while it worked on this request")
        finish = self.finish if self.finish in ("length", "tool_calls") else "stop"
        cached = (self.counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        prompt, completion = (int(self.counts.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        return Piece("", finish, prompt, completion, cached, self.calls())

    def calls(self) -> tuple[Call, ...]:
        """The calls that the answer ends with."""
        return ()


class _ChatReader(_Reader):
    """Reads the chunks of chat completions; calls come in fragments, by their index."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, dict[str, str]] = {}

    def feed(self, event: Event) -> Piece | None:
        if (choice := self.choice(event)) is None:
            return None
        delta = choice.get("delta") or {}
        for fragment in delta.get("tool_calls") or ():
            call = self._calls.setdefault(fragment["index"], {"id": "", "name": "", "arguments": ""})
            function = fragment.get("function") or {}
            call["id"] = fragment.get("id") or call["id"]
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""
        told = (choice.get("logprobs") or {}).get("content") or ()
        text, tokens = delta.get("content") or "", tuple(_token(one, one.get("top_logprobs") or ()) for one in told)
        return Piece(text, tokens=tokens) if text or tokens else None

    def calls(self) -> tuple[Call, ...]:
        return tuple(Call(**call) for _, call in sorted(self._calls.items()))


class _TextReader(_Reader):
    """Reads the chunks of plain completions."""

    def feed(self, event: Event) -> Piece | None:
        if (choice := self.choice(event)) is None:
            return None
        told = choice.get("logprobs") or {}
        rows = zip(told.get("tokens") or (), told.get("token_logprobs") or (), _tops(told), strict=False)
        tokens = tuple(
            _token(_named(text, value), [_named(*other) for other in top.items()]) for text, value, top in rows
        )
        text = choice.get("text") or ""
        return Piece(text, tokens=tokens) if text or tokens else None


def _tops(told: Event) -> list[Event]:
    return [top or {} for top in told.get("top_logprobs") or [{}] * len(told.get("tokens") or ())]


def _named(text: str, value: float | None) -> Event:
    return {"token": text, "logprob": value}


def _token(told: Event, top: Sequence[Event]) -> Token:
    text = told["token"]
    data = told.get("bytes")
    likeliest = tuple(_token(one, ()) for one in top)
    return Token(text, tuple(text.encode() if data is None else data), told.get("logprob"), likeliest)


def _is_text(content: Sequence[Any]) -> bool:
    return all(isinstance(part, TextPart) for part in content)


def _medium(part: Any, data: bytes) -> Event:
    encoded = base64.b64encode(data).decode()
    if isinstance(part, AudioPart):
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}}
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}


def _refusal(status: int, body: bytes) -> ServeError:
    """The server's error as ours."""
    words = body[:300].decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        words = str(json.loads(body)["error"]["message"])[:300]
    if status == 429:
        return BusyError(f"the server behind says: {words}")
    if status in REFUSALS:
        return RequestError("the server behind refuses the request", expected="one that it can answer", got=words)
    return EngineDownError(f"the server behind says {status}: {words}")


@contextlib.contextmanager
def _failure_named(silence: float) -> Iterator[None]:
    """What goes wrong between us and the server behind, as ours."""
    try:
        yield
    except httpx.ReadTimeout as error:
        raise LateError("a sign of the server behind", silence) from error
    except (httpx.TransportError, ValueError, KeyError, TypeError) as error:
        raise EngineDownError(f"the server behind failed over this request ({type(error).__name__})") from error


@asynccontextmanager
async def upstream(model: str, config: ServeConfig) -> AsyncIterator[Upstream]:
    """The backend that `config.upstream` names, watched until the block ends.

    Args:
        model: which of its models; where it has one only, any name will do.
        config: limits and defaults.

    Raises:
        ServeError: the server does not answer, or has several models and none of this name.
    """
    url = f"{(config.upstream or '').rstrip('/')}/"
    key = config.upstream_key or os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(config.timeouts.silence, connect=CONNECT_SECONDS)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=timeout, limits=limits, trust_env=False
    ) as http:
        card = await _card(http, model, url)
        told = await _told(http)
        senses = frozenset(told.get("senses", SENSES)) & SENSES.keys()
        context = card.get("max_model_len") or told.get("context") or config.context
        backend = Upstream(http, card["id"], senses, context, config)
        watching = asyncio.create_task(backend.watch())
        try:
            yield backend
        finally:
            watching.cancel()


async def _card(http: httpx.AsyncClient, model: str, url: str) -> Event:
    """What the server lists of a model."""
    try:
        reply = await http.get("models", timeout=CONNECT_SECONDS)
        cards: list[Event] = reply.raise_for_status().json()["data"]
        names = [str(card["id"]) for card in cards]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServeError(
            "the server behind does not list its models",
            where=f"{url}models",
            expected="an OpenAI-compatible server",
            got=str(error),
            fix=f"correct upstream, which ends in /v1; give its key in upstream_key or {KEY_VARIABLE}",
        ) from error
    if model not in names and len(names) != 1:
        raise ServeError(
            "there is no such model behind", where=url, expected=", ".join(names), got=model, fix="name one of them"
        )
    return cards[names.index(model) if model in names else 0]


async def _told(http: httpx.AsyncClient) -> Event:
    """What our own server, and llama.cpp's, say of a model's senses and context; others say nothing."""
    with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        health = (await http.get(http.base_url.join("../health"), timeout=CONNECT_SECONDS)).json()
        if "senses" in health:
            return {"senses": health["senses"], "context": health["context"]}
        properties = (await http.get(http.base_url.join("../props"), timeout=CONNECT_SECONDS)).json()
        senses = [name for name, on in properties["modalities"].items() if on]
        return {"senses": senses, "context": properties["default_generation_settings"]["n_ctx"]}
    return {}
