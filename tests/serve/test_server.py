"""A server under settings of its own: locked, crowded, impatient."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    """One slot, one place to wait, little patience, and a key."""
    settings = ("api_key=secret", "parallel=1", "queue=1", "timeouts.queue=3", "timeouts.answer=2", "limits.tokens=500")
    with start_server(exported, *settings, "limits.text=1000") as running:
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


def test_who_finds_the_queue_full_is_told_to_come_back(strict: Any, client: openai.OpenAI) -> None:
    engine = strict.engine()
    os.kill(engine, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(2) as pool:
            held = [pool.submit(ask, client) for _ in range(2)]
            deadline = time.monotonic() + 30
            while httpx.get(f"{strict.url}/health", trust_env=False).json()["waiting"] < 1:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for stream in (False, True):
                with pytest.raises(openai.RateLimitError, match="1 answers under way, 1 waiting") as caught:
                    ask(client, stream=stream)
                assert caught.value.code == "server_busy"
                assert caught.value.response.headers["retry-after"]
            # The one that waits has no patience left, in the end.
            with pytest.raises(openai.RateLimitError, match="3 s in the queue"):
                for answer in held[::-1]:
                    answer.result()
            os.kill(engine, signal.SIGCONT)
    finally:
        os.kill(engine, signal.SIGCONT)


def test_an_answer_that_takes_too_long_ends(strict: Any, client: openai.OpenAI) -> None:
    engine = strict.engine()
    ended = threading.Event()

    def hamper() -> None:
        while not ended.wait(0.05):
            os.kill(engine, signal.SIGSTOP)
            time.sleep(0.2)
            os.kill(engine, signal.SIGCONT)

    slow = threading.Thread(target=hamper)
    slow.start()
    try:
        with pytest.raises(openai.APIStatusError, match="too long") as caught:
            ask(client, max_tokens=500, logit_bias={"5": -100})
        assert caught.value.status_code == 504
        with pytest.raises(openai.APIError, match="too long"):
            list(ask(client, max_tokens=500, stream=True, logit_bias={"5": -100}))
    finally:
        ended.set()
        slow.join()
    assert ask(client).choices


def test_answers_have_a_bound_of_their_own(client: openai.OpenAI) -> None:
    found = ask(client, max_tokens=100_000, logit_bias={"5": -100}, timeout=60)
    assert (found.choices[0].finish_reason, found.usage.completion_tokens) == ("length", 500)
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
            return server.process.communicate(timeout=30)[0]

    plain = said()
    assert re.search(r"POST /v1/chat/completions 200 \d+\.\d\d s", plain)
    assert re.search(r"POST /v1/chat/completions 400 ", plain)
    assert "secret" not in plain
    assert "user: a secret word" in said("log_content=true")
