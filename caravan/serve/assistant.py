"""What answers: the one door through which the API and the web chat reach the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from caravan.core.log import get_logger
from caravan.recipe.serve import ServeConfig
from caravan.serve.conversation import SENSES
from caravan.serve.errors import LateError
from caravan.serve.gate import Gate
from caravan.serve.metrics import Metrics
from caravan.serve.question import Piece, Question, Sampling

log = get_logger(__name__)


class Backend(Protocol):
    """What stands behind the door.

    `senses` are "audio" and "vision"; `context` counts tokens; `figures` are told by name, in words, at `/metrics`.
    """

    senses: frozenset[str]
    context: int

    def check(self) -> None: ...
    def figures(self) -> dict[str, tuple[str, Callable[[], float]]]: ...
    def answer(self, question: Question) -> AsyncGenerator[Piece, None]: ...
    def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]: ...
    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]: ...


class Assistant:
    """Answers with one served model.

    Args:
        name: of the model.
        backend: what answers.
        config: limits and defaults.
    """

    def __init__(self, name: str, backend: Backend, config: ServeConfig) -> None:
        self.name, self.backend, self.config = name, backend, config
        self.metrics = Metrics()
        self.gate = Gate(config.parallel, config.queue, config.timeouts.queue)
        self.metrics.watch("answers_waiting", "requests waiting for a turn", lambda: self.gate.waiting)
        for figure, (words, value) in backend.figures().items():
            self.metrics.watch(figure, words, value)

    @property
    def description(self) -> str:
        """What the model can do, in a sentence."""
        senses = self.backend.senses
        able = ["reads", *(["hears"] if "audio" in senses else []), *(["sees"] if "vision" in senses else [])]
        *first, last = able
        return f"{self.name} {', '.join(first)}{' and ' if first else ''}{last}, and answers in writing."

    def health(self) -> dict[str, Any]:
        """What is well.

        Raises:
            EngineDownError: the engine is not there.
        """
        self.backend.check()
        senses = sorted(self.backend.senses & SENSES.keys())
        figures = {name: value() for name, (_, value) in self.backend.figures().items()}
        queue = {"running": self.gate.running, "waiting": self.gate.waiting}
        return {"model": self.name, "context": self.backend.context, "senses": senses} | figures | queue

    def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        """Answer piece by piece. Closing the iterator ends the work of the engine on it.

        Raises:
            RequestError, MediaError, PlaceholderError: the conversation cannot be answered as it stands.
            BusyError: too many are waiting, or it waited too long.
            EngineDownError: the engine is not there, or dies meanwhile.
            LateError: it takes longer than it may.
        """
        if self.config.log_content:
            log.info("asked: %s", " | ".join(f"{turn.role}: {turn.text}" for turn in question.turns))
        return self._told(self.backend.answer(question))

    def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """Go on from a text, or from ids, as they stand: no chat template. Raises as `answer`."""
        if self.config.log_content:
            log.info("to be completed: %s", prompt)
        return self._told(self.backend.complete(prompt, sampling))

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]:
        """A vector for each text, or each list of ids, and how many tokens all had. Raises as `answer`."""
        with self.metrics.counted():
            async with self.gate.entered():
                return await self.backend.embed(inputs)

    def _told(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        return self.metrics.measured(self._in_turn(pieces))

    async def _in_turn(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """The same pieces, when it is this answer's turn, and no longer than an answer may take."""
        text = []
        async with aclosing(pieces), self.gate.entered():
            async for piece in _before(pieces, self.config.timeouts.answer):
                text.append(piece.text)
                yield piece
        if self.config.log_content:
            log.info("answered: %s", "".join(text))


async def _before(pieces: AsyncGenerator[Piece, None], seconds: float) -> AsyncIterator[Piece]:
    """The same pieces, as long as they come in time.

    Raises:
        LateError: they do not.
    """
    end = asyncio.get_running_loop().time() + seconds
    with contextlib.suppress(StopAsyncIteration):
        while True:
            try:
                async with asyncio.timeout_at(end):
                    piece = await anext(pieces)
            except TimeoutError:
                raise LateError("the whole answer", seconds) from None
            yield piece
