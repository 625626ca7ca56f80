"""Questions spoken: who speaks, how much the voices vary, and whether a recogniser listens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from caravan.recipe.base import Section
from caravan.recipe.services import KeyName, Service


class EspeakVoices(Section):
    """espeak-ng on this machine, in its own voices and others drawn at random."""

    espeak: PositiveInt = Field(200, description="how many voices")


class OpenAIVoices(Service):
    """Any OpenAI-compatible `/audio/speech`."""

    url: str = Field(pattern=r"^https?://", description="its address, up to and with /audio/speech")
    model: str = Field("tts-1", description="model")
    voices: list[str] | dict[str, list[str]] = Field(
        ["alloy", "echo", "fable", "nova", "onyx", "shimmer"], min_length=1, description="voices, or voices by language"
    )


class AzureVoices(Service):
    """Azure AI Speech."""

    azure: str = Field(pattern=r"^(https?://.+|[a-z0-9]+)$", description="region such as `westeurope`, or an address")
    voices: dict[str, list[str]] = Field(min_length=1, description="by language: {en: [en-US-JennyNeural]}")
    key: KeyName = Field("AZURE_SPEECH_KEY", description="environment variable with the key")


MARKS = {"espeak": "EspeakVoices", "url": "OpenAIVoices", "azure": "AzureVoices"}


def _mark(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((name for key, name in MARKS.items() if key in value), None)
    return type(value).__name__


Voices = Annotated[
    Annotated[EspeakVoices, Tag("EspeakVoices")]
    | Annotated[OpenAIVoices, Tag("OpenAIVoices")]
    | Annotated[AzureVoices, Tag("AzureVoices")],
    Discriminator(
        _mark, custom_error_type="voices", custom_error_message=f"voices with one of the keys {', '.join(MARKS)}"
    ),
]


class Recogniser(Service):
    """Any OpenAI-compatible `/audio/transcriptions`, `caravan serve`'s too: writes some of the clips down again."""

    url: str = Field(pattern=r"^https?://", description="its address, up to and with /audio/transcriptions")
    model: str = Field("whisper-1", description="model")
    share: float = Field(0.05, gt=0, le=1, description="share of the clips that it hears")
    worst: float = Field(0.4, ge=0, description="greatest character error rate of a clip that is kept")


class SpeakConfig(Section):
    """The turns of the user spoken; conversations that cannot be said aloud, or that tell nothing, are left out."""

    voices: Voices = Field(EspeakVoices(espeak=200), description="who speaks: {espeak: 200}, {url: …} or {azure: …}")
    speed: tuple[PositiveFloat, PositiveFloat] = Field((0.9, 1.15), description="times the usual speed, drawn between")
    pitch: tuple[float, float] = Field((-2.0, 2.0), description="semitones, drawn between")
    noise: float = Field(0.5, ge=0, le=1, description="share of the clips in noise")
    noise_decibels: tuple[float, float] = Field((18.0, 40.0), description="how far the noise is below, drawn between")
    longest: PositiveInt = Field(
        400, description="characters of a turn; in Chinese, Japanese, Korean and Thai a third of it"
    )
    turns: Literal["all", "first"] = Field("all", description="which of the user's turns are spoken")
    check: Recogniser | None = Field(None, description="a recogniser that listens to a share of the clips")

    @model_validator(mode="after")
    def _ordered(self) -> SpeakConfig:
        if any(low > high for low, high in (self.speed, self.pitch, self.noise_decibels)):
            raise ValueError("the lower end of a range first")
        return self
