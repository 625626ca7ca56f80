"""Figures of the server, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from caravan.core.errors import CaravanError
from caravan.serve.errors import BusyError, EngineDownError, LateError
from caravan.serve.question import Piece

FIRST = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
WHOLE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """How many answers, how long they took, how many tokens; one registry for each server."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.responses = Counter(
            "caravan_http_responses", "of the API, by route and status", ["route", "status"], registry=registry
        )
        self.answers = Counter(
            "caravan_answers",
            "by outcome: answered, refused, busy, failed, late, cancelled",
            ["outcome"],
            registry=registry,
        )
        self.tokens = Counter(
            "caravan_tokens", "by kind: prompt (cached ones included), cached, completion", ["kind"], registry=registry
        )
        self.first = Histogram(
            "caravan_first_piece_seconds", "time from request to first piece", registry=registry, buckets=FIRST
        )
        self.seconds = Histogram(
            "caravan_answer_seconds", "time from request to last piece", registry=registry, buckets=WHOLE
        )
        self.busy = Gauge("caravan_answers_in_progress", "requests being answered or waiting", registry=registry)

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Tell of a figure that is read whenever it is asked for."""
        Gauge(f"caravan_{name}", words, registry=self.registry).set_function(value)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is done in the block as one answer."""
        outcome, started = "cancelled", time.monotonic()
        self.busy.inc()
        try:
            yield
            outcome = "answered"
        except CaravanError as error:
            outcome = _outcome(error)
            raise
        finally:
            self.busy.dec()
            self.answers.labels(outcome).inc()
            self.seconds.observe(time.monotonic() - started)

    async def measured(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """The same pieces, counted."""
        started, begun = time.monotonic(), False
        with self.counted():
            async with aclosing(pieces):
                async for piece in pieces:
                    if not begun:
                        begun = True
                        self.first.observe(time.monotonic() - started)
                    if piece.finish:
                        self.tokens.labels("prompt").inc(piece.prompt_tokens)
                        self.tokens.labels("cached").inc(piece.cached_tokens)
                        self.tokens.labels("completion").inc(piece.completion_tokens)
                    yield piece


def _outcome(error: CaravanError) -> str:
    match error:
        case EngineDownError():
            return "failed"
        case BusyError():
            return "busy"
        case LateError():
            return "late"
    return "refused"
