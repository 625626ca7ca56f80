"""Lists of words that a corpus should not be full of; none is shipped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, model_validator

from caravan.recipe.base import Section


class ToxicityConfig(Section):
    """Text with more of the listed words than allowed goes; in scripts without spaces an entry matches any part."""

    lists: str = Field(
        description="files of an entry a line (a word, or several), `#` before a remark, as a path or glob; "
        "`{language}` in it stands for each language of the run, else each list holds for all"
    )
    max_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        0.01,
        description="greatest share of a text's words that are listed, in scripts without spaces of its characters",
    )
    max_count: NonNegativeInt | None = Field(
        None, description="most matches in a text; 0: a single one is too many (C4, arXiv 1910.10683)"
    )

    @model_validator(mode="after")
    def _some_limit(self) -> ToxicityConfig:
        if self.max_share is None and self.max_count is None:
            raise ValueError("max_share, max_count or both; `toxicity: null` asks no list")
        return self
