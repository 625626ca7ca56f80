"""What `caravan serve` and `caravan chat` can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caravan.recipe.base import Section


class LimitsConfig(Section):
    """What one request may carry. All of it is checked before the engine sees anything."""

    request_bytes: int = Field(64 << 20, gt=0, description="bytes of one request, media in base64 included")
    text: int = Field(200_000, gt=0, description="characters of text in one request")
    media: int = Field(16, ge=0, description="clips and pictures in one request")
    seconds: float = Field(300.0, gt=0, description="length of one clip")
    pixels: int = Field(40_000_000, gt=0, description="width times height of one picture, before it is decoded")


class ServeConfig(Section):
    """An OpenAI-compatible endpoint and a web chat over the exported model."""

    quantisation: Literal["f16", "q8_0", "q4_0", "q4_k_m"] = Field(
        "q4_k_m", description="which of the exported files to serve"
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every network of this machine")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 for any that is free")
    context: int = Field(2048, ge=64, description="tokens of one conversation: prompt, media and answer")
    parallel: int = Field(2, ge=1, description="requests answered at the same time; others wait")
    threads: int | None = Field(None, ge=1, description="threads of the engine; null for one per core")
    max_tokens: int = Field(256, ge=1, description="length of an answer where the request does not say")
    temperature: float = Field(0.0, ge=0, le=2, description="where the request does not say; 0 is greedy")
    cache_prompt: bool = Field(
        False,
        description="start from what is still known of the conversation: faster, but rounding, and so an answer at a "
        "near tie, then depends on what came before",
    )
    limits: LimitsConfig = Field(LimitsConfig(), description="what one request may carry")
