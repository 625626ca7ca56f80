"""What becomes of an answer when the engine misbehaves in the midst of it: played by a server that does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from caravan.serve.api.base import Label
from caravan.serve.api.chat import Chunks
from caravan.serve.api.streams import server_sent
from caravan.serve.client import EngineClient, EngineFacts
from caravan.serve.errors import EngineDownError, RequestError
from caravan.serve.question import Piece

START = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b'data: {"content": "a\xe2\x80\xa8b", "stop": false, "tokens_predicted": 1}\n\n'
TOO_LONG = {
    "error": {"code": 400, "type": "exceed_context_size_error", "message": "x", "n_ctx": 64, "n_prompt_tokens": 99}
}


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def refusal(status: int, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def ask(reply: bytes, **given: Any) -> list[Piece]:
    """The pieces that come of an engine that answers with these bytes and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    client = EngineClient()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client.connect(EngineFacts(f"http://127.0.0.1:{port}", "key", "<>", 64, frozenset()))
        try:
            return [piece async for piece in client.stream("x", [], max_tokens=5, **given)]
        finally:
            await client.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        START + chunk(PIECE),
        START + chunk(PIECE) + b"0\r\n\r\n",
        START + chunk(b'error: {"code": 500, "message": "failed"}\n\n') + b"0\r\n\r\n",
        refusal(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\n...",
    ],
    ids=["silence", "cut off", "no end", "error event", "loading", "no JSON"],
)
def test_an_engine_that_fails_is_down(reply: bytes) -> None:
    with pytest.raises(EngineDownError):
        asyncio.run(ask(reply))


def loops(word: str, times: int) -> bytes:
    events = (
        {"content": word, "stop": False, "tokens_predicted": number, "tokens_evaluated": 7}
        for number in range(1, times + 1)
    )
    return START + b"".join(chunk(f"data: {json.dumps(event)}\n\n".encode()) for event in events)


def test_an_answer_that_runs_away_is_ended_and_counted() -> None:
    pieces = asyncio.run(ask(loops("no, ", 200), loop_characters=60))
    assert (pieces[-1].text, pieces[-1].finish) == ("", "stop")
    assert (pieces[-1].prompt_tokens, pieces[-1].completion_tokens) == (7, 15)
    assert "".join(piece.text for piece in pieces) == "no, " * 15


def test_repetition_that_is_short_or_allowed_goes_on_to_the_engine_s_end() -> None:
    for times, given in ((14, {"loop_characters": 60}), (200, {})):
        with pytest.raises(EngineDownError):  # this engine hangs up without an end
            asyncio.run(ask(loops("no, ", times), **given))


def test_a_prompt_that_is_too_long_says_so() -> None:
    with pytest.raises(RequestError) as caught:
        asyncio.run(ask(refusal(400, TOO_LONG)))
    assert (caught.value.code, caught.value.status) == ("context_length_exceeded", 400)
    assert (caught.value.expected, caught.value.got) == ("at most 64 tokens", "99 tokens")


def test_no_engine_is_said_at_once() -> None:
    client = EngineClient()
    client.disconnect("it is being started again")
    with pytest.raises(EngineDownError, match="started again"):
        client.facts()
    asyncio.run(client.close())


def test_an_error_after_the_first_piece_is_the_last_event() -> None:
    async def pieces() -> AsyncGenerator[Piece, None]:
        yield Piece(" there")
        raise EngineDownError("it ended")

    async def events() -> list[str]:
        return [event async for event in server_sent(Piece("hello"), pieces(), Chunks(Label("id", "tiny", 0), True))]

    *said, last = asyncio.run(events())
    assert [json.loads(event.removeprefix("data: "))["choices"][0]["delta"]["content"] for event in said] == [
        "hello",
        " there",
    ]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_unavailable"
