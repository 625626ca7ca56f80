"""The export stage: which files are written, and how exactly they must agree with torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from caravan.recipe.base import Section

FileType = Literal["f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"]

# Of random weights, q8_0 showed up to 0.0002, and 0.04 with rows in a wrong order; q4_0 up to 0.3.
_DIVERGENCE: dict[FileType, float] = {
    "bf16": 0.002,
    "q8_0": 0.01,
    "q6_k": 0.03,
    "q5_k_m": 0.06,
    "q4_k_m": 0.3,
    "q4_0": 0.5,
}


class ExportConfig(Section):
    """A model to GGUF: a file of each type, and one mmproj with both senses. Refused where it does not agree."""

    types: tuple[FileType, ...] = Field(
        ("f16", "q8_0", "q4_0", "q4_k_m"), min_length=1, description="files of the language model to write, by type"
    )
    prompts: int = Field(
        8,
        ge=0,
        description="prompts of each kind (text, audio, image, both) to compare with torch; 0: do not compare, and "
        "never load the model",
    )
    new_tokens: int = Field(16, ge=1, description="length of the greedy answers that are compared")
    # Rounding to 16 bits made up to 0.012 in models of random weights; a layer or a sign too many makes 0.1 and more.
    max_logprob_delta: float = Field(
        0.05, gt=0, description="most that a likely token's log-probability in f16 may differ from torch's in fp32"
    )
    max_divergence: dict[FileType, float] = Field(
        _DIVERGENCE,
        description="the same for the other types, which round further: most that the first token's probabilities may "
        "diverge from torch's, in nats (Kullback-Leibler, the mean over prompts)",
    )
    base: str | None = Field(
        None, description="folder of the model that an adapter belongs to; default: what the adapter names"
    )
    threads: int = Field(2, ge=1, description="CPU threads to quantise and to verify with")

    @field_validator("max_divergence")
    @classmethod
    def _others_as_they_are(cls, given: dict[FileType, float]) -> dict[FileType, float]:
        return _DIVERGENCE | given
