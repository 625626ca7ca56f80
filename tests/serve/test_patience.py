"""Who must wait, and for how long: the front end before a backend that answers when the test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import httpx
import openai
import pytest

from caravan.recipe.serve import ServeConfig
from caravan.serve.app import create_app
from caravan.serve.assistant import Assistant
from caravan.serve.question import Piece, Question

Test = Callable[[openai.AsyncOpenAI, Assistant], Coroutine[Any, Any, None]]


class Held:
    """Says `a` until it is told to go on, then ends."""

    senses: frozenset[str] = frozenset()
    context = 100

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ended = 0

    def check(self) -> None:
        pass

    def figures(self) -> dict[str, Any]:
        return {}

    async def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        try:
            while not self.go.is_set():
                yield Piece("a")
                await asyncio.sleep(0.01)
            yield Piece("", "stop", 1, 1)
        finally:
            self.ended += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def ask(client: openai.AsyncOpenAI, stream: bool = False) -> Coroutine[Any, Any, Any]:
    return client.chat.completions.create(model="held", messages=[{"role": "user", "content": "x"}], stream=stream)


def live(test: Test, **config: Any) -> None:
    async def run() -> None:
        assistant = Assistant("held", Held(), ServeConfig.model_validate(config))  # type: ignore[arg-type]
        transport = httpx.ASGITransport(create_app(assistant))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1") as http:
            await test(
                openai.AsyncOpenAI(base_url=http.base_url, api_key="x", max_retries=0, http_client=http), assistant
            )

    asyncio.run(run())


def test_who_finds_the_queue_full_is_told_to_come_back() -> None:
    async def crowd(client: openai.AsyncOpenAI, assistant: Assistant) -> None:
        gate = assistant.gate
        held = [asyncio.create_task(ask(client)) for _ in range(2)]
        await until(lambda: (gate.running, gate.waiting) == (1, 1))
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError, match="1 answers under way, 1 waiting") as caught:
                await ask(client, stream)
            assert caught.value.code == "server_busy"
            assert caught.value.response.headers["retry-after"]
        assistant.backend.go.set()  # type: ignore[attr-defined]
        assert [answer.choices[0].finish_reason for answer in await asyncio.gather(*held)] == ["stop"] * 2
        await ask(client)

    live(crowd, parallel=1, queue=1)


def test_who_waits_too_long_is_told_to_come_back() -> None:
    async def crowd(client: openai.AsyncOpenAI, assistant: Assistant) -> None:
        held = asyncio.create_task(ask(client))
        await until(lambda: assistant.gate.running == 1)
        with pytest.raises(openai.RateLimitError, match=r"0\.05 s in the queue"):
            await ask(client)
        assistant.backend.go.set()  # type: ignore[attr-defined]
        await held

    live(crowd, parallel=1, timeouts={"queue": 0.05})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_that_takes_too_long_ends(stream: bool) -> None:
    async def patient(client: openai.AsyncOpenAI, assistant: Assistant) -> None:
        with pytest.raises(openai.APIError, match="too long.*within 0.5 s") as caught:
            async for _ in await ask(client, stream):
                pass
        assert stream or getattr(caught.value, "status_code", 0) == 504
        assert assistant.backend.ended == 1  # type: ignore[attr-defined]
        assert assistant.gate.running == 0

    live(patient, timeouts={"answer": 0.5})
