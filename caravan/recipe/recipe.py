"""A whole recipe."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, field_validator

from caravan.recipe.base import Section
from caravan.recipe.curate import CurateConfig
from caravan.recipe.evaluate import EvaluateConfig
from caravan.recipe.export import ExportConfig
from caravan.recipe.instruct import InstructConfig
from caravan.recipe.serve import ServeConfig
from caravan.recipe.tokenize import TokenizeConfig
from caravan.recipe.train import AlignConfig, EncodersConfig, PretrainConfig, SftConfig
from caravan.records import LANGUAGES


class Recipe(Section):
    """The stages of a run, each optional; a stage that stands here with no keys runs on its defaults."""

    # Otherwise `_bare_stage` would also switch on the stages that the recipe leaves out.
    model_config = ConfigDict(validate_default=False)

    name: str = Field(description="name of the run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(7, ge=0, description="seed of everything random")
    data: str = Field(".", description="folder to which the data paths of this recipe are relative")
    output: str | None = Field(None, description="run folder; default: runs/NAME")
    languages: list[str] = Field(list(LANGUAGES), min_length=1, description="languages of the run, ISO 639-1, or 639-3")
    inputs: dict[str, str] = Field({}, description="finished artifacts to read, by kind: {model: runs/other/sft}")

    curate: CurateConfig | None = Field(None, description="raw text to a corpus")
    tokenize: TokenizeConfig | None = Field(None, description="corpus to tokenizer and packed tokens")
    pretrain: PretrainConfig | None = Field(None, description="packed tokens to a base model")
    instruct: InstructConfig | None = Field(None, description="instruction sets, speech and pictures to dialogues")
    encoders: EncodersConfig | None = Field(None, description="small speech and vision encoders from scratch")
    align: AlignConfig | None = Field(None, description="projectors between encoders and model")
    sft: SftConfig | None = Field(None, description="supervised fine-tuning on dialogues")
    export: ExportConfig | None = Field(None, description="GGUF and mmproj for llama.cpp")
    evaluate: EvaluateConfig | None = Field(None, description="held-out quality of model and export")
    serve: ServeConfig | None = Field(None, description="OpenAI-compatible API and web chat")

    @field_validator("*", mode="before")
    @classmethod
    def _bare_stage(cls, value: Any, info: Any) -> Any:
        """`sft:` with nothing after it is a stage on its defaults; `sft: false` leaves the stage out."""
        if info.field_name not in STAGE_KEYS:
            return value
        return None if value is False else {} if value is None else value


STAGE_KEYS = ("curate", "tokenize", "pretrain", "instruct", "encoders", "align", "sft", "export", "evaluate", "serve")
