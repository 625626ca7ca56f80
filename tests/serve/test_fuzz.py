"""Requests made up from the server's own description: none ends in an error of the server's; see benchmarks/fuzz.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from caravan.recipe.serve import ServeConfig
from caravan.serve.app import create_app
from caravan.serve.assistant import Assistant
from caravan.serve.conversation import check
from caravan.serve.question import Piece, Question, Sampling
from caravan.serve.tools import grammar_of, plain


class Echo:
    """Says the same to whatever passes the checks that every backend makes."""

    senses = frozenset({"audio", "vision"})
    context = 100

    def check(self) -> None:
        pass

    def figures(self) -> dict[str, Any]:
        return {}

    async def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        grammar_of(question)
        messages, first = plain(question)
        check(messages, self.senses, ServeConfig().limits, first)
        for piece in (Piece("a"), Piece("b", "stop", 1, 2)):
            yield piece

    async def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        yield Piece("b", "stop", 1, 2)

    async def embed(self, inputs: Sequence[Any]) -> tuple[list[list[float]], int]:
        return [[0.0, 1.0] for _ in inputs], 3


def test_no_request_breaks_the_server() -> None:
    config = ServeConfig(allowed_hosts=("testserver",))
    description = schemathesis.openapi.from_asgi("/openapi.json", create_app(Assistant("echo", Echo(), config)))
    asked: dict[str, set[int]] = {}
    for operation in (result.ok() for result in description.get_all_operations()):

        @settings(
            max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck],
            phases=[Phase.explicit, Phase.generate],
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            reply = case.call()
            asked.setdefault(case.operation.label, set()).add(reply.status_code)
            assert reply.status_code < 500, (case.as_curl_command(), reply.text)

        ask()
    assert {"POST /v1/chat/completions", "POST /v1/audio/transcriptions", "POST /chat"} <= asked.keys()
    assert 200 in asked["POST /v1/completions"]
