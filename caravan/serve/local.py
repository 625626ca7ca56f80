"""The backend on this machine: an engine process that is handed rendered prompts and clean media."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from caravan.recipe.serve import ServeConfig
from caravan.serve.client import EngineClient
from caravan.serve.conversation import Prompt, Renderer, Room, check_room
from caravan.serve.question import Piece, Question, Sampling
from caravan.serve.tools import TAGS, CallReader, grammar_of, plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A 40-megapixel picture is 120 MB while it is decoded: few at a time.
DECODING_THREADS = 2


class Local:
    """Answers with an engine process on loopback.

    Args:
        client: the engine, connected.
        tokenizer: the model's.
        config: limits and defaults.
    """

    def __init__(self, client: EngineClient, tokenizer: PreTrainedTokenizerBase, config: ServeConfig) -> None:
        self.client, self.config = client, config
        facts = client.facts()
        self.senses = facts.senses
        self.context = facts.context
        self.batch = facts.batch
        room = Room(facts.context, facts.window_tokens, facts.picture_tokens)
        self.renderer = Renderer(tokenizer, facts.senses, config.limits, room)
        self._decoding = anyio.CapacityLimiter(DECODING_THREADS)

    def check(self) -> None:
        """See that the engine is there.

        Raises:
            EngineDownError: it is not.
        """
        self.client.facts()

    def figures(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """What is to be known of the engine."""
        return {
            "engine_up": ("whether the engine is ready", lambda: float(self.client.connected)),
            "engine_restarts": ("how often the engine was started again", lambda: self.client.starts - 1),
        }

    async def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        """Answer a conversation, piece by piece. Raises as `Assistant.answer`."""
        self.check()  # no engine, no decoding
        prompt, grammar = await anyio.to_thread.run_sync(self._prepared, question, limiter=self._decoding)
        reader = CallReader() if question.tools else None
        async with aclosing(self._stream(prompt.text, prompt.media, question.sampling, grammar)) as pieces:
            async for piece in pieces:
                yield reader.feed(piece) if reader else piece

    async def complete(self, prompt: str | Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """Go on from a text, or from ids. Raises as `Assistant.complete`."""
        check_room(self._length(prompt), self.context, "prompt")
        async with aclosing(self._stream(prompt, (), sampling, "")) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]:
        """Vectors, and how many tokens were read. Raises as `Assistant.embed`."""
        for index, item in enumerate(inputs):
            check_room(self._length(item), self.batch, f"input[{index}]")
        return await self.client.embed(inputs)

    def _length(self, item: str | Sequence[int]) -> int:
        return self.renderer.count(item) if isinstance(item, str) else len(item)

    def _prepared(self, question: Question) -> tuple[Prompt, str]:
        grammar = grammar_of(question)
        messages, first = plain(question)
        return self.renderer.prompt(messages, first=first, allowed=TAGS), grammar

    def _stream(
        self, prompt: str | Sequence[int], media: Sequence[bytes], sampling: Sampling, grammar: str
    ) -> AsyncGenerator[Piece, None]:
        defaults = {name: getattr(self.config, name) for name in ("max_tokens", "temperature", "cache_prompt")}
        given = defaults | {name: value for name, value in asdict(sampling).items() if value is not None}
        given["max_tokens"] = min(given["max_tokens"], self.config.limits.tokens)
        return self.client.stream(prompt, media, self.config.loop_characters, grammar=grammar, **given)
