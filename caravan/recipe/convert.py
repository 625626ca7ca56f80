"""Conversion: which layout a model is written in, and what else goes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from caravan.recipe.base import Section

Quantised = Literal["int8", "nf4", "int4", "int3"]
Layout = Literal["hf", "delta", "unmerged", "tencentpretrain", "deepspeed", "megatron", "llava", "ultravox"] | Quantised
Dtype = Literal["float32", "float16", "bfloat16"]


class ConvertConfig(Section):
    """A model from one layout to another. What it is converted from is seen from its files."""

    to: Layout = Field("hf", description="layout to write; hf: a Hugging Face folder")
    base: Path | None = Field(
        None, description="Hugging Face folder that a delta or an adapter belongs to, or that a delta is taken from"
    )
    adapter: Path | None = Field(None, description="LoRA adapter (peft's folder) that is taken out of a merged model")
    like: Path | None = Field(
        None, description="Hugging Face folder of a model of the same shape, where FROM does not say what it is"
    )
    ranks: PositiveInt = Field(1, description="processes among which a DeepSpeed checkpoint is shared")
    tensor_parallel: PositiveInt = Field(1, description="tensor-parallel processes of a Megatron checkpoint")
    pipeline_parallel: PositiveInt = Field(1, description="pipeline-parallel processes of a Megatron checkpoint")
    dtype: Dtype | None = Field(None, description="type of the floating-point numbers written; default: as they are")
    new_rows: Literal["zero", "mean"] = Field(
        "zero",
        description="what a delta is added to in rows of tokens that the base lacks: nothing, or the mean of its rows,"
        " as Alpaca's training code begins them; a delta made here says so itself",
    )
    text: Path | None = Field(
        None,
        description="of int8, nf4, int4 and int3: plain text, a document a line; what is lost is measured on every "
        "other line, the rest calibrates int4 and int3",
    )
    rounding_steps: NonNegativeInt = Field(
        200, description="steps in which int4 and int3 learn how to round each layer; 0: to the nearest"
    )
    shard_gb: PositiveFloat = Field(5.0, description="most gigabytes in a file of a Hugging Face folder")

    license: str | None = Field(None, description="of the model, as the hub abbreviates it, for its card")
    licenses: dict[str, str] = Field(
        {}, description="of data, by the name that a source of the recipe has, for the card"
    )
    private: bool = Field(True, description="whether a repository that is made on the hub is seen by its owner alone")

    @model_validator(mode="after")
    def _belongings(self) -> ConvertConfig:
        if self.to == "delta" and self.base is None:
            raise ValueError("a delta is taken from a base: give `base`")
        if self.to == "unmerged" and self.adapter is None:
            raise ValueError("what is taken out of a merged model is an adapter: give `adapter`")
        if self.to in get_args(Quantised) and self.text is None:
            raise ValueError("what fewer bits cost is measured on text: give `text`")
        return self
