"""Figures of the server, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from caravan.core.errors import CaravanError
from caravan.serve.errors import EngineDownError
from caravan.serve.question import Piece


class Metrics:
    """How many answers, how long they took, how many tokens; one registry for each server."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.answers = Counter(
            "caravan_answers",
            "by outcome: answered, refused, failed, cancelled",
            ["outcome"],
            registry=registry,
        )
        self.tokens = Counter("caravan_tokens", "tokens by kind: prompt, completion", ["kind"], registry=registry)
        self.seconds = Histogram("caravan_answer_seconds", "time from request to last piece", registry=registry)
        self.busy = Gauge("caravan_answers_in_progress", "requests being answered or waiting", registry=registry)

    async def measured(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """The same pieces, counted."""
        outcome, started = "cancelled", time.monotonic()
        self.busy.inc()
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if piece.finish:
                        outcome = "answered"
                        self.tokens.labels("prompt").inc(piece.prompt_tokens)
                        self.tokens.labels("completion").inc(piece.completion_tokens)
                    yield piece
        except CaravanError as error:
            outcome = "failed" if isinstance(error, EngineDownError) else "refused"
            raise
        finally:
            self.busy.dec()
            self.answers.labels(outcome).inc()
            self.seconds.observe(time.monotonic() - started)
