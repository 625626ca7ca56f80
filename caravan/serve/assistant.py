"""What answers: the one door through which the API and the web chat reach the model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import anyio
import anyio.to_thread

from caravan.recipe.serve import ServeConfig
from caravan.records import Message
from caravan.serve.client import EngineClient, Piece
from caravan.serve.conversation import Renderer
from caravan.serve.metrics import Metrics

# A 40-megapixel picture is 120 MB while it is decoded: few at a time.
DECODING_THREADS = 2


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. What is None is the server's to say."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


class Assistant:
    """Answers conversations with one served model.

    Args:
        name: of the model.
        renderer: turns messages into prompts.
        client: the engine.
        config: defaults of sampling.
    """

    def __init__(self, name: str, renderer: Renderer, client: EngineClient, config: ServeConfig) -> None:
        self.name, self.renderer, self.client, self.config = name, renderer, client, config
        self.metrics = Metrics()
        self._decoding = anyio.CapacityLimiter(DECODING_THREADS)

    @property
    def description(self) -> str:
        """What the model can do, in a sentence."""
        senses = self.renderer.senses
        able = ["reads", *(["hears"] if "audio" in senses else []), *(["sees"] if "vision" in senses else [])]
        *first, last = able
        return f"{self.name} {', '.join(first)}{' and ' if first else ''}{last}, and answers in writing."

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """Answer piece by piece. Closing the iterator ends the work of the engine on it.

        Raises:
            RequestError, MediaError, PlaceholderError: the conversation cannot be answered as it stands.
            EngineDownError: the engine is not there, or dies meanwhile.
        """
        return self.metrics.measured(self._answer(messages, sampling))

    async def _answer(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        self.client.facts()  # no engine, no decoding
        prompt = await anyio.to_thread.run_sync(self.renderer.prompt, messages, limiter=self._decoding)
        given = {
            "max_tokens": sampling.max_tokens or self.config.max_tokens,
            "temperature": self.config.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "stop": sampling.stop,
            "seed": sampling.seed,
            "cache_prompt": self.config.cache_prompt,
        }
        async with aclosing(self.client.stream(prompt.text, prompt.media, **given)) as pieces:
            async for piece in pieces:
                yield piece
