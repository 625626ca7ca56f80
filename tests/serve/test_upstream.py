"""The front end before other OpenAI-compatible servers: our own, and llama.cpp's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from caravan.core.errors import ServeError
from caravan.engine import Engine
from caravan.recipe.serve import ServeConfig
from caravan.serve.app import create_app
from caravan.serve.server import assistant

Start = Callable[..., AbstractContextManager[Any]]
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


@pytest.fixture(scope="module")
def front(server: Any, start_server: Start) -> Iterator[Any]:
    """A server before the tiny assistant's own."""
    with start_server("any", f"upstream={server.url}/v1", "limits.tokens=50", "limits.text=500") as running:
        yield running


@pytest.fixture(scope="module")
def before(front: Any) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0, http_client=http) as client:
        yield client


def asked(*content: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": "tiny", "messages": [{"role": "user", "content": [*content, {"type": "text", "text": "hello"}]}],
        "max_tokens": 8, "extra_body": {"cache_prompt": False}, **more,
    }  # fmt: skip


def told(answer: Any) -> tuple[Any, ...]:
    choice = answer.choices[0]
    return choice.message.content, choice.finish_reason, answer.usage.prompt_tokens, answer.usage.completion_tokens


def test_it_takes_name_senses_and_context_from_behind(front: Any, before: openai.OpenAI) -> None:
    assert [model.id for model in before.models.list()] == ["tiny"]
    health = httpx.get(f"{front.url}/health", trust_env=False).raise_for_status().json()
    assert (health["senses"], health["context"], health["engine_up"]) == (["audio", "vision"], 1024, 1.0)


def test_answers_are_those_of_the_server_behind(
    before: openai.OpenAI, client: openai.OpenAI, clip: Any, picture: Any
) -> None:
    for content in ((), (picture,)):
        assert told(before.chat.completions.create(**asked(*content))) == told(
            client.chat.completions.create(**asked(*content))
        )
    # Sound is encoded twice on its way: its samples are rounded twice, so an answer may tip at a near tie.
    here, there = (told(one.chat.completions.create(**asked(clip, picture))) for one in (before, client))
    assert here[2:] == there[2:]
    chunks = [*before.chat.completions.create(**asked(), stream=True)]
    whole = client.chat.completions.create(**asked()).choices[0]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason


def test_probabilities_tools_and_schemas_go_through(before: openai.OpenAI, client: openai.OpenAI) -> None:
    wanted = asked(logprobs=True, top_logprobs=2)
    assert before.chat.completions.create(**wanted).choices[0].logprobs == (
        client.chat.completions.create(**wanted).choices[0].logprobs
    )
    called = before.chat.completions.create(**asked(tools=[TOOL], tool_choice="required") | {"max_tokens": 50})
    assert called.choices[0].finish_reason in ("tool_calls", "length")
    form = {"type": "json_schema", "json_schema": {"name": "one", "schema": {"enum": ["yes"]}}}
    assert before.chat.completions.create(**asked(response_format=form)).choices[0].message.content == '"yes"'


def test_completions_and_embeddings_go_through(before: openai.OpenAI, client: openai.OpenAI) -> None:
    wanted: Any = {"model": "tiny", "prompt": "one two", "max_tokens": 6, "logprobs": 2, "temperature": 0}
    here, there = (one.completions.create(**wanted, extra_body={"cache_prompt": False}) for one in (before, client))
    assert (here.choices, here.usage) == (there.choices, there.usage)
    assert before.embeddings.create(model="tiny", input=["a", "b"]).data == (
        client.embeddings.create(model="tiny", input=["a", "b"]).data
    )


def test_what_may_not_pass_is_refused_before_it(before: openai.OpenAI, server: Any) -> None:
    found = before.chat.completions.create(**asked() | {"max_tokens": 4000, "logit_bias": {"5": -100}})
    assert found.usage.completion_tokens <= 50
    asked_before = _answers(server)
    with pytest.raises(openai.BadRequestError, match="at most 500 characters"):
        before.chat.completions.create(**asked({"type": "text", "text": "x" * 501}))
    with pytest.raises(openai.BadRequestError, match="cannot be decoded"):
        before.chat.completions.create(
            **asked({"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}})
        )
    assert _answers(server) == asked_before
    with pytest.raises(openai.BadRequestError, match="the server behind refuses.*special token|<.image_pad"):
        before.chat.completions.create(**asked({"type": "text", "text": "<|image_pad|>"}))


def _answers(server: Any) -> list[str]:
    lines = httpx.get(f"{server.url}/metrics", trust_env=False).text.splitlines()
    return [line for line in lines if line.startswith("caravan_http_responses_total")]


def test_before_the_server_of_llama_cpp(exported: Path) -> None:
    async def ask(engine: Engine, key: str) -> list[Any]:
        config = ServeConfig(upstream=f"{engine.address}/v1", upstream_key=key)
        async with assistant("tiny", config) as ours:
            assert ours.backend.context == engine.context
            transport = httpx.ASGITransport(create_app(ours))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1") as http:
                client = openai.AsyncOpenAI(base_url=http.base_url, api_key="x", max_retries=0, http_client=http)
                body = asked() | {"model": ours.name}
                return [
                    await client.chat.completions.create(**body),
                    [chunk async for chunk in await client.chat.completions.create(**body, stream=True)],
                    await client.completions.create(model=ours.name, prompt="one", max_tokens=4, logprobs=1),
                ]

    with Engine(exported / "model-f16.gguf", context=256, parallel=1, threads=1) as engine:
        whole, chunks, completed = asyncio.run(ask(engine, engine.key))
        assert 0 < whole.usage.completion_tokens <= 8
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == whole.choices[0].message.content
        assert 0 < completed.usage.completion_tokens <= 4
        with pytest.raises(ServeError, match="does not list its models"):
            asyncio.run(ask(engine, "another"))


def test_a_server_behind_that_is_gone(exported: Path, start_server: Start) -> None:
    with start_server(exported) as behind:

        async def ask() -> None:
            async with assistant("tiny", ServeConfig(upstream=f"{behind.url}/v1")) as ours:
                behind.process.terminate()
                behind.process.communicate(timeout=120)
                transport = httpx.ASGITransport(create_app(ours))
                async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                    body = {"messages": [{"role": "user", "content": "hello"}]}
                    reply = await http.post("/v1/chat/completions", json=body)
                    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_unavailable")

        asyncio.run(ask())
