"""What answers: the one door through which the API and the web chat reach the model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from caravan.recipe.serve import ServeConfig
from caravan.serve.conversation import SENSES
from caravan.serve.metrics import Metrics
from caravan.serve.question import Piece, Question, Sampling


class Backend(Protocol):
    """What stands behind the door. `senses` are "audio" and "vision"; `context` counts tokens."""

    senses: frozenset[str]
    context: int

    def check(self) -> None: ...
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
        return {"model": self.name, "context": self.backend.context, "senses": senses}

    def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        """Answer piece by piece. Closing the iterator ends the work of the engine on it.

        Raises:
            RequestError, MediaError, PlaceholderError: the conversation cannot be answered as it stands.
            EngineDownError: the engine is not there, or dies meanwhile.
        """
        return self.metrics.measured(self.backend.answer(question))

    def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """Go on from a text, or from ids, as they stand: no chat template. Raises as `answer`."""
        return self.metrics.measured(self.backend.complete(prompt, sampling))

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]:
        """A vector for each text, or each list of ids, and how many tokens all had. Raises as `answer`."""
        return await self.backend.embed(inputs)
