"""A server under settings of its own: locked, and with bounds of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

Start = Callable[..., AbstractContextManager[Any]]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def strict(exported: Path, start_server: Start) -> Iterator[Any]:
    """Short answers, little text, and a key."""
    with start_server(exported, "api_key=secret", "limits.tokens=50", "limits.text=1000") as running:
        yield running


@pytest.fixture
def client(strict: Any) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{strict.url}/v1", api_key="secret", max_retries=0, http_client=http) as client:
        yield client


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=HELLO, **({"max_tokens": 4} | more))  # type: ignore[call-overload]


def test_nothing_but_health_without_the_key(strict: Any, client: openai.OpenAI) -> None:
    with httpx.Client(base_url=strict.url, trust_env=False) as anyone:
        for path in ("/", "/v1/models", "/metrics", "/gradio_api/info", "/openapi.json"):
            assert anyone.get(path).status_code == 401
        assert anyone.post("/chat", json={"question": "x"}).status_code == 401
        assert anyone.get("/health").status_code == 200
        assert "Caravan" in anyone.get("/", auth=("me", "secret")).text
    with pytest.raises(openai.AuthenticationError, match="wants its API key"):
        ask(client.with_options(api_key="other"))
    assert ask(client).choices


def test_answers_have_a_bound_of_their_own(client: openai.OpenAI) -> None:
    found = ask(client, max_tokens=100_000, logit_bias={"5": -100}, timeout=240)
    assert (found.choices[0].finish_reason, found.usage.completion_tokens) == ("length", 50)
    with pytest.raises(openai.BadRequestError, match="at most 1,000 characters"):
        client.completions.create(model="tiny", prompt="x" * 1001)


def test_the_log_tells_what_was_asked_for_and_nothing_of_what_was_said(exported: Path, start_server: Start) -> None:
    def said(*settings: str) -> str:
        with start_server(exported, *settings) as server:
            body = {"messages": [{"role": "user", "content": "a secret word"}], "max_tokens": 4}
            assert httpx.post(f"{server.url}/v1/chat/completions", json=body, trust_env=False).status_code == 200
            broken = {"messages": [{"role": "user", "content": "<|end|>a secret word"}]}
            assert httpx.post(f"{server.url}/v1/chat/completions", json=broken, trust_env=False).status_code == 400
            server.process.terminate()
            return server.process.communicate(timeout=120)[0]

    plain = said()
    assert re.search(r"POST /v1/chat/completions 200 \d+\.\d\d s", plain)
    assert re.search(r"POST /v1/chat/completions 400 ", plain)
    assert "secret" not in plain
    assert "user: a secret word" in said("log_content=true")
