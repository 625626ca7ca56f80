from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from caravan.recipe.serve import LimitsConfig, TimeoutsConfig
from caravan.serve.http.limits import Limits


def app(timeouts: TimeoutsConfig | None = None) -> FastAPI:
    """Holds each body until it is told to let go of it; says when it has read one."""
    app = FastAPI()
    app.state.go, app.state.read = asyncio.Event(), asyncio.Event()

    @app.post("/hold")
    async def hold(request: Request) -> PlainTextResponse:
        size = len(await request.body())
        app.state.read.set()
        await app.state.go.wait()
        return PlainTextResponse(str(size))

    app.add_middleware(
        Limits, limits=LimitsConfig(request_bytes=100, all_bytes=150), timeouts=timeouts or TimeoutsConfig()
    )
    return app


async def send(app: FastAPI, content: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return await client.post("/hold", content=content)


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


@pytest.mark.parametrize(("content", "status"), [(b"x" * 100, 200), (b"x" * 101, 413)])
def test_a_body_announced(content: bytes, status: int) -> None:
    async def run() -> httpx.Response:
        one = app()
        one.state.go.set()
        return await send(one, content)

    assert asyncio.run(run()).status_code == status


@pytest.mark.parametrize(("sizes", "status"), [((60, 40), 200), ((60, 41), 413)])
def test_a_body_that_comes_in_pieces(sizes: tuple[int, ...], status: int) -> None:
    async def run() -> httpx.Response:
        one = app()
        one.state.go.set()
        return await send(one, pieces(*sizes))

    assert asyncio.run(run()).status_code == status


def test_bodies_together_are_bounded_while_they_are_held() -> None:
    async def run() -> list[int]:
        one = app()
        first = asyncio.create_task(send(one, b"x" * 100))
        await one.state.read.wait()
        refused = await send(one, b"x" * 60)
        one.state.go.set()
        statuses = [(await first).status_code, refused.status_code, (await send(one, b"x" * 60)).status_code]
        assert refused.headers["retry-after"]
        return statuses

    assert asyncio.run(run()) == [200, 429, 200]


def test_a_body_that_stops_coming() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(5)

    async def run() -> int:
        return (await send(app(TimeoutsConfig(body=0.05)), slow())).status_code

    assert asyncio.run(run()) == 408


def test_a_client_that_does_not_take_its_answer_is_given_up() -> None:
    ended = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.append(True)

    async def stuck(_: Any) -> None:
        await asyncio.sleep(5)

    async def silent() -> Any:
        await asyncio.sleep(5)

    scope = {"type": "http", "headers": [], "method": "GET", "path": "/"}
    limits = Limits(StreamingResponse(endless()), LimitsConfig(), TimeoutsConfig(send=0.05))
    with pytest.raises(TimeoutError):
        asyncio.run(limits(scope, silent, stuck))  # type: ignore[arg-type]
