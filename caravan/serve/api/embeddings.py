"""OpenAI's embeddings: the mean of a text's last hidden states, of length one."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field

from caravan.serve.api.base import Strict, Words, check_model
from caravan.serve.api.completions import Id, listed
from caravan.serve.api.streams import unless_gone
from caravan.serve.assistant import Assistant
from caravan.serve.conversation import check_text

MAX_INPUTS = 256
Inputs = Annotated[
    list[Annotated[Words, Field(min_length=1)]] | list[Annotated[list[Id], Field(min_length=1)]],
    Field(min_length=1, max_length=MAX_INPUTS),
    BeforeValidator(listed, json_schema_input_type=Words | list[Words] | list[Id] | list[list[Id]]),
]


class EmbeddingRequest(Strict):
    """The body of POST /v1/embeddings."""

    input: Inputs
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None  # a part of the vector means nothing
    user: str | None = None  # ignored


def add(app: FastAPI, assistant: Assistant) -> None:
    """Offer POST /v1/embeddings."""

    @app.post("/v1/embeddings")
    async def embed(asked: EmbeddingRequest, request: Request) -> Response:
        check_model(asked.model, assistant.name)
        check_text(sum(map(len, asked.input)), assistant.config.limits, "input")
        vectors, tokens = await unless_gone(request, assistant.embed(asked.input))
        data = [
            {"object": "embedding", "index": index, "embedding": encoded(vector, asked.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "model": assistant.name, "data": data, "usage": usage})


def encoded(vector: Sequence[float], form: str) -> Sequence[float] | str:
    """A vector as it is, or its float32 numbers, little-endian, in base64."""
    return vector if form == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
