"""The export stage: which files are written, and how exactly they must agree with torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caravan.recipe.base import Section

Quantisation = Literal["q8_0", "q4_0", "q4_k_m"]


class ExportConfig(Section):
    """A model to GGUF: f16, quantised files, and one mmproj with both senses. Refused where it does not agree."""

    quantisations: tuple[Quantisation, ...] = Field(
        ("q8_0", "q4_0", "q4_k_m"), description="files to write besides f16"
    )
    prompts: int = Field(8, ge=1, description="prompts of each kind (text, audio, image, both) to compare with torch")
    new_tokens: int = Field(16, ge=1, description="length of the greedy answers that are compared")
    # Rounding to 16 bits made up to 0.012 in models of random weights; a layer or a sign too many makes 0.1 and more.
    max_logprob_delta: float = Field(
        0.05, gt=0, description="most that a likely token's log-probability in f16 may differ from torch's in fp32"
    )
    threads: int = Field(2, ge=1, description="CPU threads to quantise and to verify with")
