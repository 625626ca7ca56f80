"""Answers on their way to a client: given up when it goes away, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from caravan.core.errors import CaravanError
from caravan.serve.errors import RequestError, body_of
from caravan.serve.question import Piece

T = TypeVar("T")
Event = dict[str, Any]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is given up if the client goes away.

    Raises:
        RequestError: it went away; nobody reads this.
    """
    working = asyncio.create_task(work)
    tasks = (working, asyncio.create_task(_gone(request)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RequestError("the client went away", status=499)
        return working.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def whole(pieces: AsyncGenerator[Piece, None]) -> list[Piece]:
    """All pieces of an answer."""
    async with aclosing(pieces):
        return [piece async for piece in pieces]


async def streamed(
    request: Request, pieces: AsyncGenerator[Piece, None], events: Callable[[Piece], Iterable[Event]]
) -> StreamingResponse:
    """A response that tells an answer as it comes. Errors before the first piece still have a status of their own.

    Args:
        request: whose client may go away.
        pieces: of the answer.
        events: what is told of each piece.
    """
    first = await unless_gone(request, anext(pieces))
    lines = server_sent(first, pieces, events)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def server_sent(
    first: Piece, rest: AsyncGenerator[Piece, None], events: Callable[[Piece], Iterable[Event]]
) -> AsyncIterator[str]:
    """An answer as server-sent events. What goes wrong after the first piece is an event too."""
    try:
        async with aclosing(rest):
            yield "".join(map(_line, events(first)))
            async for piece in rest:
                yield "".join(map(_line, events(piece)))
    except CaravanError as error:
        yield _line(body_of(error))
        return
    yield "data: [DONE]\n\n"


def _line(value: Event) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
