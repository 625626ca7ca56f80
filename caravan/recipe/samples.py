"""The sample world as a source of data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from caravan.recipe.base import Section


class SamplesConfig(Section):
    """How much of the generated sample world a source gives; each number is for the training split."""

    documents: NonNegativeInt = Field(20_000, description="monolingual documents, junk and duplicates included")
    pairs: NonNegativeInt = Field(10_000, description="parallel sentence pairs")
    dialogues: NonNegativeInt = Field(20_000, description="dialogues over all tasks and languages")
    clips: NonNegativeInt = Field(4_000, description="spoken sentences with their transcript")
    pictures: NonNegativeInt = Field(4_000, description="pictures with their names in every language")
    test: NonNegativeInt = Field(40, description="held-out dialogues for each task and language")
    heldout: Literal["test", "validation"] = Field(
        "test", description="which of the two held-out sides the test rows show; choose settings on `validation`"
    )
    languages: list[str] | None = Field(None, description="languages; default: the run's")
    spoken: list[str] | None = Field(
        None, description="languages with speech; default: those that espeak-ng speaks well"
    )
