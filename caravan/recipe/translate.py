"""Conversations and captions in other languages: who translates, and which translations are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, field_validator

from caravan.recipe.base import Section
from caravan.recipe.services import Service
from caravan.records import LANGUAGES


class Seq2SeqTranslator(Section):
    """mBART-50 or NLLB-200 through transformers, on this machine."""

    model: str = Field(
        "facebook/mbart-large-50-many-to-many-mmt", description="folder or hub name of an mBART-50 or NLLB model"
    )
    batch: PositiveInt = Field(16, description="texts at a time")
    beams: PositiveInt = Field(4, description="beams of the search")
    max_tokens: PositiveInt = Field(256, description="tokens of a translated line at most")


class EndpointTranslator(Service):
    """Any language model behind an OpenAI-compatible `/chat/completions`."""

    url: str = Field(pattern=r"^https?://", description="its address, up to and with /chat/completions")
    model: str = Field(description="model")
    temperature: float = Field(0.0, ge=0, le=2, description="of the answer")


def _mark(value: Any) -> str:
    if isinstance(value, dict):
        return "EndpointTranslator" if "url" in value else "Seq2SeqTranslator"
    return type(value).__name__


Translator = Annotated[
    Annotated[Seq2SeqTranslator, Tag("Seq2SeqTranslator")] | Annotated[EndpointTranslator, Tag("EndpointTranslator")],
    Discriminator(_mark),
]


class TranslateConfig(Section):
    """Each conversation or caption also in other languages; media, code, addresses and names stay as they are."""

    to: list[str] = Field(min_length=1, description="languages, ISO 639-1")
    by: Translator = Field(Seq2SeqTranslator(), description="{model: …} for mBART-50 or NLLB, {url: …, model: …} else")
    keep: bool = Field(True, description="keep the originals beside their translations")
    names: list[str] = Field([], description="words that are not translated")
    min_ratio: PositiveFloat = Field(
        0.5, description="least length of a translation, as a share of what is usual between the two languages"
    )
    max_ratio: PositiveFloat = Field(2.0, description="greatest length, likewise")
    checked_characters: PositiveInt = Field(
        20, description="length and language of a translation are checked from this many characters of the original on"
    )

    @field_validator("to")
    @classmethod
    def _known(cls, languages: list[str]) -> list[str]:
        if unknown := [language for language in languages if language not in LANGUAGES]:
            raise ValueError(f"of {', '.join(LANGUAGES)}; not {', '.join(unknown)}")
        return languages
